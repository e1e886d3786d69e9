use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::page::Paging;
use super::tags::{ResourceTag, checked_tags, tag_keys};
use super::{Call, check_length, epoch_seconds};
use crate::access::permit_owner;
use crate::error::{Error, Result};
use crate::names::{Account, Registry, RepositoryName};
use crate::repository::{
    Encryption, EncryptionType, ExclusionFilter, MutabilityMode, Repository, Settings, TagMutability,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeInput {
    registry_id: Option<Account>,
    repository_names: Option<Vec<RepositoryName>>,
    #[serde(flatten)]
    paging: Paging,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    #[serde(default)]
    tags: Vec<ResourceTag>,
    image_tag_mutability: Option<MutabilityMode>,
    image_tag_mutability_exclusion_filters: Option<Vec<ExclusionFilter>>,
    image_scanning_configuration: Option<ScanningConfiguration>,
    encryption_configuration: Option<Encryption>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeleteInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MutabilityInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    image_tag_mutability: MutabilityMode,
    image_tag_mutability_exclusion_filters: Option<Vec<ExclusionFilter>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScanningInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    image_scanning_configuration: ScanningConfiguration,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScanningConfiguration {
    #[serde(default)]
    scan_on_push: bool,
}

pub(super) fn describe(call: &Call, input: DescribeInput) -> Result<Value> {
    let (registry, caller) = (call.named_registry(input.registry_id), &call.identity.caller);
    if let Some(names) = &input.repository_names {
        check_length("repositoryNames", names, 100)?;
        for name in names {
            call.ask(&registry, name.as_str());
            call.ecr.permit(caller, &registry, name, &call.action)?;
        }
    } else {
        // No repository's policy allows to list all of them.
        call.ask(&registry, "*");
        permit_owner(caller, &registry, "*", &call.action)?;
    }
    let host = call.ecr.registry_host(&registry)?;
    let store = call.ecr.store.lock();
    let (repositories, next_token) = if let Some(names) = input.repository_names {
        input.paging.check_absent("repositoryNames")?;
        let found: Result<Vec<_>> = names
            .iter()
            .map(|name| store.repository(&registry, name).map(|repository| description(&registry, &host, repository)))
            .collect();
        (found?, None)
    } else {
        let all = store
            .repositories(&registry)
            .map(|(name, repository)| (name.to_string(), description(&registry, &host, repository)));
        input.paging.cut(all, 100, 1000)?
    };
    Ok(json!({ "repositories": repositories, "nextToken": next_token }))
}

pub(super) fn create(call: &Call, input: CreateInput) -> Result<Value> {
    let registry = call.named_registry(input.registry_id.clone());
    ask_to_create(call, &registry, &input);
    permit_owner(&call.identity.caller, &registry, input.repository_name.as_str(), &call.action)?;
    let settings = Settings {
        mutability: TagMutability::new(
            input.image_tag_mutability.unwrap_or_default(),
            input.image_tag_mutability_exclusion_filters,
        )?,
        scan_on_push: input.image_scanning_configuration.unwrap_or_default().scan_on_push,
        encryption: encryption(&registry, input.encryption_configuration)?,
        resource_tags: checked_tags(input.tags)?,
    };
    let host = call.ecr.registry_host(&registry)?;
    let mut store = call.ecr.store.lock();
    let repository = store.create_repository(&registry, &input.repository_name, settings)?;
    Ok(json!({ "repository": description(&registry, &host, repository) }))
}

/// Whoever creates a repository tags it, and has ECR get access to the key, in one call.
fn ask_to_create(call: &Call, registry: &Registry, input: &CreateInput) {
    let name = input.repository_name.as_str();
    call.ask(registry, name);
    if !input.tags.is_empty() {
        call.ask_for("TagResource", registry, name, tag_keys(input.tags.iter().map(ResourceTag::key)));
    }
    let encryption = input.encryption_configuration.as_ref();
    let Some(encryption) = encryption.filter(|it| it.encryption_type != EncryptionType::Aes256) else { return };
    let Registry { account, region } = registry;
    // An alias is no resource to IAM: the key is, by an ID that nobody knows before.
    let named = encryption.kms_key.as_deref().filter(|key| key.contains(":key/"));
    let key = named.map_or_else(|| format!("arn:aws:kms:{region}:{account}:key/of-an-alias"), ToOwned::to_owned);
    for action in ["CreateGrant", "DescribeKey", "RetireGrant"] {
        let via = BTreeSet::from([format!("ecr.{region}.amazonaws.com")]);
        let context = BTreeMap::from([("kms:ViaService".to_owned(), via)]);
        call.ecr.ask_with(&call.identity.caller, &call.operation, &format!("kms:{action}"), key.clone(), context);
    }
}

pub(super) fn delete(call: &Call, input: DeleteInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let host = call.ecr.registry_host(&registry)?;
    let repository = call.ecr.store.lock().delete_repository(&registry, &input.repository_name, input.force)?;
    let mut description = description(&registry, &host, &repository);
    // DeleteRepository's answer is shorter than that of the other calls.
    for member in ["imageScanningConfiguration", "encryptionConfiguration"] {
        description[member].take();
    }
    Ok(json!({ "repository": description }))
}

pub(super) fn put_mutability(call: &Call, input: MutabilityInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let mutability = TagMutability::new(input.image_tag_mutability, input.image_tag_mutability_exclusion_filters)?;
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    repository.mutability = mutability;
    Ok(json!({
        "registryId": registry.account,
        "repositoryName": input.repository_name,
        "imageTagMutability": repository.mutability.mode,
        "imageTagMutabilityExclusionFilters": exclusions(&repository.mutability),
    }))
}

pub(super) fn put_scanning(call: &Call, input: ScanningInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    repository.scan_on_push = input.image_scanning_configuration.scan_on_push;
    Ok(json!({
        "registryId": registry.account,
        "repositoryName": input.repository_name,
        "imageScanningConfiguration": input.image_scanning_configuration,
    }))
}

fn description(registry: &Registry, host: &str, repository: &Repository) -> Value {
    let name = &repository.place.name;
    json!({
        "repositoryArn": format!("{}{name}", registry.arn_prefix()),
        "registryId": registry.account,
        "repositoryName": name,
        "repositoryUri": format!("{host}/{name}"),
        "createdAt": epoch_seconds(repository.created_at),
        "imageTagMutability": repository.mutability.mode,
        "imageTagMutabilityExclusionFilters": exclusions(&repository.mutability),
        "imageScanningConfiguration": ScanningConfiguration { scan_on_push: repository.scan_on_push },
        "encryptionConfiguration": repository.encryption,
    })
}

fn exclusions(mutability: &TagMutability) -> Option<&[ExclusionFilter]> {
    (!mutability.exclusions.is_empty()).then_some(&mutability.exclusions)
}

fn encryption(registry: &Registry, wanted: Option<Encryption>) -> Result<Encryption> {
    let Some(wanted) = wanted else {
        return Ok(Encryption { encryption_type: EncryptionType::Aes256, kms_key: None });
    };
    match (wanted.encryption_type, wanted.kms_key) {
        (EncryptionType::Aes256, Some(_)) => {
            Err(Error::InvalidParameter("A KMS key cannot be given with encryption type AES256".to_owned()))
        }
        (EncryptionType::Aes256, None) => Ok(Encryption { encryption_type: EncryptionType::Aes256, kms_key: None }),
        (encryption_type, key) => {
            let Registry { account, region } = registry;
            let key = key.unwrap_or_else(|| format!("arn:aws:kms:{region}:{account}:alias/aws/ecr"));
            // "The key must exist in the same Region as the repository."
            if key.starts_with("arn:") && key.split(':').nth(3) != Some(region.as_str()) {
                return Err(Error::Kms { key, kms_error: "NotFoundException" });
            }
            Ok(Encryption { encryption_type, kms_key: Some(key) })
        }
    }
}
