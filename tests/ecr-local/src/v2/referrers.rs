use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Exchange;
use super::error::Refusal;
use crate::manifest::OCI_INDEX;
use crate::names::{Digest, RepositoryName};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) fn list(exchange: &Exchange, name: &RepositoryName, subject: &Digest) -> Result<Response, Refusal> {
    let wanted: Vec<String> = exchange.query().remove("artifactType").into_iter().collect();
    let store = exchange.ecr.store.lock();
    let repository = store.repository(&exchange.registry, name)?;
    let manifests: Vec<Value> = repository
        .referrers(subject, &wanted)
        .map(|image| {
            let manifest = &image.manifest;
            let mut descriptor = json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.text.len(),
            });
            if let Some(artifact_type) = &manifest.artifact_type {
                descriptor["artifactType"] = json!(artifact_type);
            }
            if let Some(annotations) = &manifest.annotations {
                descriptor["annotations"] = json!(annotations);
            }
            descriptor
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    let mut response = ([(CONTENT_TYPE, OCI_INDEX)], index.to_string()).into_response();
    if !wanted.is_empty() {
        response.headers_mut().insert(FILTERS_APPLIED, axum::http::HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}
