//! A repository's policy and its lifecycle policy. Both are kept and given back; neither has an effect here.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use crate::error::{Error, Result};
use crate::names::{Account, Registry, RepositoryName};
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
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PutLifecycleInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    lifecycle_policy_text: String,
}

pub(super) fn set(call: &Call, input: SetInput) -> Result<Value> {
    check_policy("policyText", &input.policy_text, 0..=10_240, "Statement")?;
    let registry = call.registry(input.registry_id);
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    repository.policy = Some(input.policy_text);
    Ok(policy_answer(&registry, repository, repository.policy.as_deref()))
}

pub(super) fn get(call: &Call, input: RepositoryInput) -> Result<Value> {
    let registry = call.registry(input.registry_id);
    let store = call.ecr.store.lock();
    let repository = store.repository(&registry, &input.repository_name)?;
    let policy =
        repository.policy.as_deref().ok_or_else(|| Error::RepositoryPolicyNotFound(repository.place.clone()))?;
    Ok(policy_answer(&registry, repository, Some(policy)))
}

pub(super) fn delete(call: &Call, input: RepositoryInput) -> Result<Value> {
    let registry = call.registry(input.registry_id);
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    let policy = repository.policy.take().ok_or_else(|| Error::RepositoryPolicyNotFound(repository.place.clone()))?;
    Ok(policy_answer(&registry, repository, Some(&policy)))
}

pub(super) fn put_lifecycle(call: &Call, input: PutLifecycleInput) -> Result<Value> {
    check_policy("LifecyclePolicyText", &input.lifecycle_policy_text, 100..=30_720, "rules")?;
    let registry = call.registry(input.registry_id);
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    repository.lifecycle_policy = Some(input.lifecycle_policy_text);
    Ok(lifecycle_answer(&registry, repository, repository.lifecycle_policy.as_deref()))
}

pub(super) fn get_lifecycle(call: &Call, input: RepositoryInput) -> Result<Value> {
    let registry = call.registry(input.registry_id);
    let store = call.ecr.store.lock();
    let repository = store.repository(&registry, &input.repository_name)?;
    let policy = repository
        .lifecycle_policy
        .as_deref()
        .ok_or_else(|| Error::LifecyclePolicyNotFound(repository.place.clone()))?;
    Ok(lifecycle_answer(&registry, repository, Some(policy)))
}

pub(super) fn delete_lifecycle(call: &Call, input: RepositoryInput) -> Result<Value> {
    let registry = call.registry(input.registry_id);
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    let policy =
        repository.lifecycle_policy.take().ok_or_else(|| Error::LifecyclePolicyNotFound(repository.place.clone()))?;
    Ok(lifecycle_answer(&registry, repository, Some(&policy)))
}

fn policy_answer(registry: &Registry, repository: &Repository, policy: Option<&str>) -> Value {
    json!({ "registryId": registry.account, "repositoryName": repository.place.name, "policyText": policy })
}

fn lifecycle_answer(registry: &Registry, repository: &Repository, policy: Option<&str>) -> Value {
    json!({
        "registryId": registry.account,
        "repositoryName": repository.place.name,
        "lifecyclePolicyText": policy,
    })
}

fn check_policy(
    parameter: &str,
    text: &str,
    length: std::ops::RangeInclusive<usize>,
    required_member: &str,
) -> Result<()> {
    let invalid = |constraint: String| {
        Error::InvalidParameter(format!(
            "Invalid parameter at '{parameter}' failed to satisfy constraint: '{constraint}'"
        ))
    };
    if !length.contains(&text.chars().count()) {
        return Err(invalid(format!("must have length {} to {}", length.start(), length.end())));
    }
    let policy: Value = serde_json::from_str(text).map_err(|_| invalid("Invalid JSON syntax".to_owned()))?;
    if policy.get(required_member).is_none() {
        return Err(invalid(format!("the policy must have '{required_member}'")));
    }
    Ok(())
}
