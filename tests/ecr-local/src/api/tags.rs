use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Call;
use crate::error::{Error, Result};
use crate::names::{Account, Registry, RepositoryName};

/// The documented maximum of tags of a resource.
const MAX_TAGS: usize = 50;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ResourceTag {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Value")]
    value: String,
}

impl ResourceTag {
    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

/// What a condition can ask about a call that has tags.
pub(super) fn tag_keys<'key>(keys: impl Iterator<Item = &'key str>) -> BTreeMap<String, BTreeSet<String>> {
    BTreeMap::from([("aws:TagKeys".to_owned(), keys.map(ToOwned::to_owned).collect())])
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListInput {
    resource_arn: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddInput {
    resource_arn: String,
    tags: Vec<ResourceTag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RemoveInput {
    resource_arn: String,
    tag_keys: Vec<String>,
}

#[expect(clippy::needless_pass_by_value, reason = "an operation owns its input")]
pub(super) fn list(call: &Call, input: ListInput) -> Result<Value> {
    let (registry, name) = resource(call, &input.resource_arn, BTreeMap::new())?;
    let store = call.ecr.store.lock();
    let tags = &store.repository(&registry, &name)?.resource_tags;
    let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(json!({ "tags": tags }))
}

pub(super) fn add(call: &Call, input: AddInput) -> Result<Value> {
    let (registry, name) = resource(call, &input.resource_arn, tag_keys(input.tags.iter().map(ResourceTag::key)))?;
    let added = checked_tags(input.tags)?;
    let mut store = call.ecr.store.lock();
    let tags = &mut store.repository_mut(&registry, &name)?.resource_tags;
    let mut all = tags.clone();
    all.extend(added);
    if all.len() > MAX_TAGS {
        return Err(Error::TooManyTags);
    }
    *tags = all;
    Ok(json!({}))
}

pub(super) fn remove(call: &Call, input: RemoveInput) -> Result<Value> {
    let keys = tag_keys(input.tag_keys.iter().map(String::as_str));
    let (registry, name) = resource(call, &input.resource_arn, keys)?;
    let mut store = call.ecr.store.lock();
    let tags = &mut store.repository_mut(&registry, &name)?.resource_tags;
    for key in input.tag_keys {
        tags.remove(&key);
    }
    Ok(json!({}))
}

pub(super) fn checked_tags(tags: Vec<ResourceTag>) -> Result<BTreeMap<String, String>> {
    if tags.len() > MAX_TAGS {
        return Err(Error::TooManyTags);
    }
    let mut checked = BTreeMap::new();
    for ResourceTag { key, value } in tags {
        if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 256 {
            return Err(Error::InvalidTagParameter(format!("The tag '{key}' is too long, or its key is empty")));
        }
        if key.to_lowercase().starts_with("aws:") {
            return Err(Error::InvalidTagParameter(format!("The prefix of the tag key '{key}' is reserved")));
        }
        if let Some(earlier) = checked.insert(key.clone(), value) {
            return Err(Error::InvalidTagParameter(format!(
                "The tag key '{key}' is given twice, first with '{earlier}'"
            )));
        }
    }
    Ok(checked)
}

/// The repository that an ARN names, with which the caller may do this; `context` is what conditions ask about.
fn resource(call: &Call, arn: &str, context: BTreeMap<String, BTreeSet<String>>) -> Result<(Registry, RepositoryName)> {
    let invalid = || {
        Error::InvalidParameter(format!(
            "Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN \"{arn}\"'"
        ))
    };
    let account = arn.split(':').nth(4).and_then(|account| Account::try_from(account).ok()).ok_or_else(invalid)?;
    let registry = call.named_registry(Some(account.clone()));
    let name: RepositoryName = arn.strip_prefix(&registry.arn_prefix()).ok_or_else(invalid)?.try_into()?;
    call.ask_for(&call.action, &registry, name.as_str(), context);
    call.ecr.permit(&call.identity.caller, &registry, &name, &call.action)?;
    Ok((registry, name))
}
