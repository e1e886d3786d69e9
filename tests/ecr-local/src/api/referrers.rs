use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use super::images::ImageStatus;
use super::page::Paging;
use crate::error::{Error, Result};
use crate::names::{Account, Digest, RepositoryName};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    subject_id: Subject,
    #[serde(default)]
    filter: Filter,
    #[serde(flatten)]
    paging: Paging,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    image_digest: Digest,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    artifact_types: Vec<String>,
    #[serde(default)]
    artifact_status: ImageStatus,
}

pub(super) fn list(call: &Call, input: ListInput) -> Result<Value> {
    if input.filter.artifact_types.len() > 5 {
        return Err(Error::InvalidParameter("artifactTypes must have at most 5 members".to_owned()));
    }
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let store = call.ecr.store.lock();
    let repository = store.repository(&registry, &input.repository_name)?;
    let all = repository
        .referrers(&input.subject_id.image_digest, &input.filter.artifact_types)
        .filter(|_| input.filter.artifact_status.includes_active())
        .map(|image| {
            let manifest = &image.manifest;
            let referrer = json!({
                "digest": manifest.digest,
                "mediaType": manifest.media_type,
                "artifactType": manifest.artifact_type,
                "size": manifest.text.len(),
                "annotations": manifest.annotations,
                "artifactStatus": "ACTIVE",
            });
            (manifest.digest.to_string(), referrer)
        });
    let (referrers, next_token) = input.paging.cut(all, 20, 50)?;
    Ok(json!({ "referrers": referrers, "nextToken": next_token }))
}
