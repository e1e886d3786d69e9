use axum::http::StatusCode;
use axum::http::header::{CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use axum::response::{IntoResponse as _, Response};
use futures::TryStreamExt as _;
use uuid::Uuid;

use super::error::Refusal;
use super::{CONTENT_DIGEST, Exchange, UnreadBody};
use crate::error::{Error, Result};
use crate::names::{Digest, RepositoryName};
use crate::uploads::{PartRange, Progress};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Whatever the client asks to mount, or sends along: blob mounting is an account setting that is off by default, and ECR takes
/// no layer with the first request.
pub(super) fn start(exchange: &Exchange, name: &RepositoryName) -> Result<Response, Refusal> {
    let id = exchange.ecr.start_upload(&exchange.registry, name)?;
    Ok(answer(exchange, StatusCode::ACCEPTED, name, id, None))
}

pub(super) async fn progress(exchange: &Exchange, name: &RepositoryName, id: Uuid) -> Result<Response, Refusal> {
    let progress = exchange.ecr.upload(&exchange.registry, name, id)?.progress().await?;
    Ok(answer(exchange, StatusCode::NO_CONTENT, name, id, progress.received.checked_sub(1)))
}

/// ECR answers 201, not the 202 of the specification, and its Range stays at the end of the first chunk
/// (aws/containers-roadmap#2831).
pub(super) async fn patch(
    exchange: &Exchange,
    body: &mut UnreadBody,
    name: &RepositoryName,
    id: Uuid,
) -> Result<Response, Refusal> {
    let progress = append(exchange, body, name, id).await?;
    Ok(answer(exchange, StatusCode::CREATED, name, id, progress.first_part_last_byte))
}

pub(super) async fn complete(
    exchange: &Exchange,
    body: &mut UnreadBody,
    name: &RepositoryName,
    id: Uuid,
) -> Result<Response, Refusal> {
    let digest = exchange.query().remove("digest").unwrap_or_default();
    let digest = Digest::try_from(digest)
        .map_err(|invalid| Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", invalid.to_string()))?;
    append(exchange, body, name, id).await?;
    let ecr = &exchange.ecr;
    match ecr.complete_upload(&exchange.registry, name, id, std::slice::from_ref(&digest)).await {
        Ok(_) | Err(Error::LayerAlreadyExists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let location = format!("{}/v2/{name}/blobs/{digest}", exchange.endpoint());
    Ok((StatusCode::CREATED, [(LOCATION, location), (CONTENT_DIGEST, digest.to_string())]).into_response())
}

async fn append(
    exchange: &Exchange,
    body: &mut UnreadBody,
    name: &RepositoryName,
    id: Uuid,
) -> Result<Progress, Refusal> {
    let range = exchange.header(&CONTENT_RANGE).map(part_range).transpose()?.unwrap_or_default();
    let range = PartRange { kept: exchange.keep, ..range };
    let upload = exchange.ecr.upload(&exchange.registry, name, id)?;
    let traffic = exchange.ecr.counters.traffic(&exchange.registry.region);
    let body = body.take().unwrap_or_default().into_data_stream();
    let counted = body.inspect_ok(move |chunk| traffic.uploaded.add(chunk.len()));
    Ok(upload.append(range, counted).await?)
}

/// `<first>-<last>` of the specification; some clients write a real Content-Range.
fn part_range(header: &str) -> Result<PartRange, Refusal> {
    let range = header.trim_start_matches("bytes").trim_start_matches([' ', '=']);
    let range = range.split('/').next().unwrap_or_default();
    let parsed = range.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        Some((first, last.checked_sub(first)? + 1))
    });
    let (first, length) = parsed.ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "BLOB_UPLOAD_INVALID",
            format!("The Content-Range '{header}' is not valid"),
        )
    })?;
    Ok(PartRange { first: Some(first), length: Some(length), ..PartRange::default() })
}

fn answer(
    exchange: &Exchange,
    status: StatusCode,
    name: &RepositoryName,
    id: Uuid,
    last_byte: Option<u64>,
) -> Response {
    let headers = [
        (LOCATION, format!("{}/v2/{name}/blobs/uploads/{id}", exchange.endpoint())),
        (RANGE, format!("0-{}", last_byte.unwrap_or_default())),
        (UPLOAD_ID, id.to_string()),
    ];
    (status, headers).into_response()
}
