use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use base64_simd::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, check_length};
use crate::config::MissingLayerAnswer;
use crate::error::{Error, Result};
use crate::names::{Account, Digest, RepositoryName};
use crate::uploads::{MAX_PART_SIZE, PartRange};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AvailabilityInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    /// Not parsed here: a malformed digest is a failure beside the answers for the others.
    layer_digests: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DownloadUrlInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    layer_digest: Digest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InitiateInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartInput<'body> {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    upload_id: Uuid,
    part_first_byte: u64,
    part_last_byte: u64,
    #[serde(borrow)]
    layer_part_blob: Cow<'body, str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CompleteInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    upload_id: Uuid,
    layer_digests: Vec<Digest>,
}

/// The digest of the layer that a request reads, or completes.
pub(super) fn named_digest(body: &[u8]) -> Option<Digest> {
    let url = serde_json::from_slice(body).map(|input: DownloadUrlInput| input.layer_digest);
    let complete =
        || serde_json::from_slice(body).ok().and_then(|input: CompleteInput| input.layer_digests.into_iter().next());
    url.ok().or_else(complete)
}

pub(super) fn check_availability(call: &Call, input: AvailabilityInput) -> Result<Value> {
    check_length("layerDigests", &input.layer_digests, 100)?;
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let store = call.ecr.store.lock();
    let repository = store.repository(&registry, &input.repository_name)?;
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    let failure = |text: &str, code: &str, reason: &str| json!({ "layerDigest": text, "failureCode": code, "failureReason": reason });
    for text in input.layer_digests {
        let Ok(digest) = Digest::try_from(text.as_str()) else {
            failures.push(failure(&text, "InvalidLayerDigest", "The layer digest is not valid"));
            continue;
        };
        match (repository.layer(&digest), call.ecr.config.missing_layer) {
            (Some(layer), _) => layers.push(json!({
                "layerDigest": digest,
                "layerAvailability": "AVAILABLE",
                "layerSize": layer.blob.size,
                "mediaType": layer.media_type,
            })),
            (None, MissingLayerAnswer::Unavailable) => {
                layers.push(json!({ "layerDigest": digest, "layerAvailability": "UNAVAILABLE" }));
            }
            (None, MissingLayerAnswer::MissingLayerDigest) => {
                failures.push(failure(&text, "MissingLayerDigest", "The layer does not exist"));
            }
        }
    }
    Ok(json!({ "layers": layers, "failures": failures }))
}

pub(super) fn download_url(call: &Call, input: DownloadUrlInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    call.ecr.store.lock().repository(&registry, &input.repository_name)?.downloadable_layer(&input.layer_digest)?;
    let path = call.ecr.download_path(&registry, &input.repository_name, &input.layer_digest);
    Ok(json!({
        "downloadUrl": format!("{}{path}", call.gate.endpoint()),
        "layerDigest": input.layer_digest,
    }))
}

pub(super) fn initiate_upload(call: &Call, input: InitiateInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let id = call.ecr.start_upload(&registry, &input.repository_name)?;
    Ok(json!({ "uploadId": id, "partSize": call.ecr.config.part_size }))
}

pub(super) async fn upload_part(call: &Call, input: PartInput<'_>) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let part = STANDARD.decode_to_vec(input.layer_part_blob.as_bytes()).map(Bytes::from).map_err(|error| {
        Error::InvalidParameter(format!("Invalid parameter at 'layerPartBlob' failed to satisfy constraint: '{error}'"))
    })?;
    if input.part_last_byte < input.part_first_byte {
        return Err(Error::InvalidParameter("partLastByte must not be below partFirstByte".to_owned()));
    }
    let upload = call.ecr.upload(&registry, &input.repository_name, input.upload_id)?;
    call.ecr.counters.traffic(call.region()).uploaded.add(part.len());
    let range = PartRange {
        first: Some(input.part_first_byte),
        length: Some(input.part_last_byte - input.part_first_byte + 1),
        limit: Some(MAX_PART_SIZE.max(call.ecr.config.part_size)),
        kept: call.keep,
    };
    let whole = futures::stream::iter([Ok::<_, std::convert::Infallible>(part)]);
    let progress = Arc::clone(&upload).append(range, whole).await?;
    Ok(json!({
        "registryId": registry.account,
        "repositoryName": input.repository_name,
        "uploadId": upload.id,
        "lastByteReceived": progress.received.checked_sub(1),
    }))
}

pub(super) async fn complete_upload(call: &Call, input: CompleteInput) -> Result<Value> {
    check_length("layerDigests", &input.layer_digests, 100)?;
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let digest =
        call.ecr.complete_upload(&registry, &input.repository_name, input.upload_id, &input.layer_digests).await?;
    Ok(json!({
        "registryId": registry.account,
        "repositoryName": input.repository_name,
        "uploadId": input.upload_id,
        "layerDigest": digest,
    }))
}
