use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse as _, Response};

use super::error::Refusal;
use super::{CONTENT_DIGEST, Exchange};
use crate::error::Error;
use crate::names::{Digest, RepositoryName};

pub(super) fn head(exchange: &Exchange, name: &RepositoryName, digest: &Digest) -> Result<Response, Refusal> {
    let store = exchange.ecr.store.lock();
    let repository = store.repository(&exchange.registry, name)?;
    let layer = repository
        .layer(digest)
        .ok_or_else(|| Error::LayerNotFound { digest: digest.clone(), place: repository.place.clone() })?;
    let headers = [
        (CONTENT_LENGTH, layer.blob.size.to_string()),
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DIGEST, digest.to_string()),
    ];
    Ok(headers.into_response())
}

/// As ECR does: the bytes come from elsewhere.
pub(super) fn get(exchange: &Exchange, name: &RepositoryName, digest: &Digest) -> Result<Response, Refusal> {
    exchange.ecr.store.lock().repository(&exchange.registry, name)?.downloadable_layer(digest)?;
    let path = exchange.ecr.download_path(&exchange.registry, name, digest);
    let location = format!("{}{path}", exchange.gate.download_endpoint());
    Ok((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location), (CONTENT_DIGEST, digest.to_string())]).into_response())
}
