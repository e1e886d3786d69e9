//! A repository's policy and its lifecycle policy. Both are given back as they came; the latter has no effect here.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use crate::access::objection;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::names::{Account, Registry, RepositoryName};
use crate::policy::Policy;
use crate::repository::Repository;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RepositoryInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SetInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    policy_text: String,
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PutLifecycleInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    lifecycle_policy_text: String,
}

pub(super) fn set(call: &Call, input: SetInput) -> Result<Value> {
    check_length("PolicyText", &input.policy_text, 0..=10_240)?;
    let policy =
        Policy::parse(input.policy_text).ok_or_else(|| invalid("PolicyText", "Invalid repository policy provided"))?;
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let owner = Caller::of_account(registry.account.clone(), registry.account.as_str());
    let is_locked_out = |who: &Caller| objection(who, &registry, Some(&policy), &call.action).is_some();
    if !input.force && (is_locked_out(&call.identity.caller) || is_locked_out(&owner)) {
        return Err(invalid("PolicyText", "The policy would prevent another from being set, and must be forced"));
    }
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    let policy = repository.policy.insert(policy).text().to_owned();
    Ok(policy_answer(&registry, repository, &policy))
}

pub(super) fn get(call: &Call, input: RepositoryInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let store = call.ecr.store.lock();
    let repository = store.repository(&registry, &input.repository_name)?;
    let policy = repository.policy.as_ref().ok_or_else(|| Error::RepositoryPolicyNotFound(repository.place.clone()))?;
    Ok(policy_answer(&registry, repository, policy.text()))
}

pub(super) fn delete(call: &Call, input: RepositoryInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    let policy = repository.policy.take().ok_or_else(|| Error::RepositoryPolicyNotFound(repository.place.clone()))?;
    Ok(policy_answer(&registry, repository, policy.text()))
}

pub(super) fn put_lifecycle(call: &Call, input: PutLifecycleInput) -> Result<Value> {
    check_lifecycle(&input.lifecycle_policy_text)?;
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    repository.lifecycle_policy = Some(input.lifecycle_policy_text);
    Ok(lifecycle_answer(&registry, repository, repository.lifecycle_policy.as_deref()))
}

pub(super) fn get_lifecycle(call: &Call, input: RepositoryInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let store = call.ecr.store.lock();
    let repository = store.repository(&registry, &input.repository_name)?;
    let policy = repository
        .lifecycle_policy
        .as_deref()
        .ok_or_else(|| Error::LifecyclePolicyNotFound(repository.place.clone()))?;
    Ok(lifecycle_answer(&registry, repository, Some(policy)))
}

pub(super) fn delete_lifecycle(call: &Call, input: RepositoryInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    let policy =
        repository.lifecycle_policy.take().ok_or_else(|| Error::LifecyclePolicyNotFound(repository.place.clone()))?;
    Ok(lifecycle_answer(&registry, repository, Some(&policy)))
}

fn policy_answer(registry: &Registry, repository: &Repository, policy: &str) -> Value {
    json!({ "registryId": registry.account, "repositoryName": repository.place.name, "policyText": policy })
}

fn lifecycle_answer(registry: &Registry, repository: &Repository, policy: Option<&str>) -> Value {
    json!({
        "registryId": registry.account,
        "repositoryName": repository.place.name,
        "lifecyclePolicyText": policy,
    })
}

fn check_lifecycle(text: &str) -> Result<()> {
    const PARAMETER: &str = "LifecyclePolicyText";
    check_length(PARAMETER, text, 100..=30_720)?;
    let policy: Value = serde_json::from_str(text).map_err(|_| invalid(PARAMETER, "Invalid JSON syntax"))?;
    if policy.get("rules").is_none() {
        return Err(invalid(PARAMETER, "the policy must have 'rules'"));
    }
    Ok(())
}

fn check_length(parameter: &str, text: &str, length: RangeInclusive<usize>) -> Result<()> {
    if length.contains(&text.chars().count()) {
        return Ok(());
    }
    Err(invalid(parameter, &format!("must have length {} to {}", length.start(), length.end())))
}

fn invalid(parameter: &str, constraint: &str) -> Error {
    Error::InvalidParameter(format!("Invalid parameter at '{parameter}' failed to satisfy constraint: '{constraint}'"))
}
