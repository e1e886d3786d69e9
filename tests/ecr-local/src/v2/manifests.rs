use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use axum::response::{IntoResponse as _, Response};

use super::error::Refusal;
use super::target::Reference;
use super::{CONTENT_DIGEST, Exchange, UnreadBody};
use crate::error::Error;
use crate::manifest::{MAX_MANIFEST_SIZE, Manifest};
use crate::names::{Digest, RepositoryName};
use crate::repository::{ImageDeletion, ImageLookup, Repository};

/// Tells a client that the registry has read the manifest's subject, so that it keeps no list of referrers itself.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// Also answers HEAD: the server leaves out the body.
pub(super) fn get(exchange: &Exchange, name: &RepositoryName, reference: &Reference) -> Result<Response, Refusal> {
    let store = exchange.ecr.store.lock();
    let repository = store.repository(&exchange.registry, name)?;
    let ImageLookup::Found(image) = repository.find_image(reference.digest(), reference.tag()) else {
        return Err(not_found(repository, reference));
    };
    let manifest = &image.manifest;
    let headers = [(CONTENT_TYPE, manifest.media_type.clone()), (CONTENT_DIGEST, manifest.digest.to_string())];
    Ok((headers, manifest.text.clone()).into_response())
}

pub(super) async fn put(
    exchange: &Exchange,
    body: &mut UnreadBody,
    name: &RepositoryName,
    reference: Reference,
) -> Result<Response, Refusal> {
    exchange.ecr.put_image_quota.pass(&exchange.registry)?;
    let text = read(body).await?;
    exchange.ecr.store.lock().repository(&exchange.registry, name)?;

    let manifest = Arc::new(Manifest::parse(text, declared_type(exchange))?);
    let pushed = exchange.ecr.put_image(&exchange.registry, name, &manifest, reference.tag(), reference.digest());
    match pushed {
        Ok(()) | Err(Error::ImageAlreadyExists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let location = format!("{}/v2/{name}/manifests/{}", exchange.endpoint(), manifest.digest);
    let headers = [(LOCATION, location), (CONTENT_DIGEST, manifest.digest.to_string())];
    let subject = manifest.subject.as_ref().map(|subject: &Digest| [(OCI_SUBJECT, subject.to_string())]);
    let mut response = (StatusCode::CREATED, headers).into_response();
    response
        .headers_mut()
        .extend(subject.into_iter().flatten().filter_map(|(name, value)| Some((name, value.parse().ok()?))));
    Ok(response)
}

/// The digest of the manifest that a request puts, if it is one. The handler finds the body as it was.
pub(super) async fn pushed_digest(exchange: &Exchange, body: &mut UnreadBody) -> Result<Option<Digest>, Refusal> {
    let text = read(body).await?;
    *body = Some(Body::from(text.clone()));
    Ok(Manifest::parse(text, declared_type(exchange)).ok().map(|manifest| manifest.digest))
}

async fn read(body: &mut UnreadBody) -> Result<String, Refusal> {
    let body = axum::body::to_bytes(body.take().unwrap_or_default(), MAX_MANIFEST_SIZE)
        .await
        .map_err(|error| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", error.to_string()))?;
    String::from_utf8(body.into())
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", error.to_string()))
}

fn declared_type(exchange: &Exchange) -> Option<&str> {
    exchange.header(&CONTENT_TYPE).and_then(|value| value.split(';').next()).map(str::trim)
}

pub(super) fn delete(exchange: &Exchange, name: &RepositoryName, reference: &Reference) -> Result<Response, Refusal> {
    let mut store = exchange.ecr.store.lock();
    let repository = store.repository_mut(&exchange.registry, name)?;
    match repository.delete_image(reference.digest(), reference.tag()) {
        ImageDeletion::Image(..) | ImageDeletion::Tag(..) => Ok(StatusCode::ACCEPTED.into_response()),
        ImageDeletion::NotFound | ImageDeletion::OtherDigest => Err(not_found(repository, reference)),
        ImageDeletion::ReferencedByManifestList => {
            Err(Refusal::denied("The image cannot be deleted because a manifest list references it"))
        }
    }
}

fn not_found(repository: &Repository, reference: &Reference) -> Refusal {
    let image = match reference {
        Reference::Digest(digest) => format!("{{imageDigest:'{digest}'}}"),
        Reference::Tag(tag) => format!("{{imageTag:'{tag}'}}"),
    };
    Error::ImageNotFound { image, place: repository.place.clone() }.into()
}
