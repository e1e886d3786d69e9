use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::page::Paging;
use super::{Call, check_length, epoch_seconds};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::names::{Account, Digest, ImageTag, RepositoryName};
use crate::repository::{Image, ImageDeletion, ImageLookup, Repository};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PutInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    image_manifest: String,
    image_manifest_media_type: Option<String>,
    image_tag: Option<ImageTag>,
    image_digest: Option<Digest>,
}

/// An image by tag, digest or both. Not parsed: what is malformed fails beside the answers for the others.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageId {
    image_digest: Option<String>,
    image_tag: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    image_ids: Vec<ImageId>,
    accepted_media_types: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeleteInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    image_ids: Vec<ImageId>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescribeInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    image_ids: Option<Vec<ImageId>>,
    #[serde(default)]
    filter: Filter,
    #[serde(flatten)]
    paging: Paging,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListInput {
    registry_id: Option<Account>,
    repository_name: RepositoryName,
    #[serde(default)]
    filter: Filter,
    #[serde(flatten)]
    paging: Paging,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    tag_status: TagStatus,
    #[serde(default)]
    image_status: ImageStatus,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum TagStatus {
    Tagged,
    Untagged,
    #[default]
    Any,
}

/// The local ECR archives nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ImageStatus {
    #[default]
    Active,
    Archived,
    Activating,
    Any,
}

impl ImageStatus {
    pub(super) fn includes_active(self) -> bool {
        matches!(self, Self::Active | Self::Any)
    }
}

impl Filter {
    fn includes(&self, tags: &[ImageTag]) -> bool {
        self.image_status.includes_active()
            && match self.tag_status {
                TagStatus::Tagged => !tags.is_empty(),
                TagStatus::Untagged => tags.is_empty(),
                TagStatus::Any => true,
            }
    }
}

/// The digest of the image that a request pushes.
pub(super) fn pushed_digest(body: &[u8]) -> Option<Digest> {
    let input: PutInput = serde_json::from_slice(body).ok()?;
    let manifest = Manifest::parse(input.image_manifest, input.image_manifest_media_type.as_deref()).ok()?;
    Some(manifest.digest)
}

pub(super) fn put(call: &Call, input: PutInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    call.ecr.put_image_quota.pass(&registry)?;
    let manifest = Arc::new(Manifest::parse(input.image_manifest, input.image_manifest_media_type.as_deref())?);
    let (tag, expected) = (input.image_tag.as_ref(), input.image_digest.as_ref());
    call.ecr.put_image(&registry, &input.repository_name, &manifest, tag, expected)?;
    Ok(json!({ "image": image(&registry.account, &input.repository_name, &manifest, tag) }))
}

pub(super) fn get(call: &Call, input: GetInput) -> Result<Value> {
    check_length("imageIds", &input.image_ids, 100)?;
    if let Some(types) = &input.accepted_media_types {
        check_length("acceptedMediaTypes", types, 100)?;
    }
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let store = call.ecr.store.lock();
    let repository = store.repository(&registry, &input.repository_name)?;
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    for id in &input.image_ids {
        match find(repository, id) {
            Ok((found, tag)) => {
                images.push(image(&registry.account, &input.repository_name, &found.manifest, tag.as_ref()));
            }
            Err(failure) => failures.push(failure.answer(id)),
        }
    }
    Ok(json!({ "images": images, "failures": failures }))
}

pub(super) fn delete(call: &Call, input: DeleteInput) -> Result<Value> {
    check_length("imageIds", &input.image_ids, 100)?;
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let mut store = call.ecr.store.lock();
    let repository = store.repository_mut(&registry, &input.repository_name)?;
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for id in &input.image_ids {
        let (digest, tag) = match id.parse() {
            Ok(names) => names,
            Err(failure) => {
                failures.push(failure.answer(id));
                continue;
            }
        };
        match repository.delete_image(digest.as_ref(), tag.as_ref()) {
            ImageDeletion::Image(digest, tags) if tags.is_empty() => deleted.push(json!({ "imageDigest": digest })),
            ImageDeletion::Image(digest, tags) => {
                deleted.extend(tags.iter().map(|tag| json!({ "imageDigest": digest, "imageTag": tag })));
            }
            ImageDeletion::Tag(digest, tag) => deleted.push(json!({ "imageDigest": digest, "imageTag": tag })),
            ImageDeletion::NotFound => failures.push(Failure::ImageNotFound.answer(id)),
            ImageDeletion::OtherDigest => failures.push(Failure::ImageTagDoesNotMatchDigest.answer(id)),
            ImageDeletion::ReferencedByManifestList => {
                failures.push(Failure::ImageReferencedByManifestList.answer(id));
            }
        }
    }
    Ok(json!({ "imageIds": deleted, "failures": failures }))
}

pub(super) fn describe(call: &Call, input: DescribeInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let store = call.ecr.store.lock();
    let repository = store.repository(&registry, &input.repository_name)?;
    let detail = |image: &Image, tags: &[ImageTag]| {
        let manifest = &image.manifest;
        json!({
            "registryId": registry.account,
            "repositoryName": input.repository_name,
            "imageDigest": manifest.digest,
            "imageTags": (!tags.is_empty()).then_some(tags),
            "imageSizeInBytes": repository.image_size(manifest),
            "imagePushedAt": epoch_seconds(image.pushed_at),
            "imageManifestMediaType": manifest.media_type,
            "artifactMediaType": manifest.artifact_type,
            "subjectManifestDigest": manifest.subject,
            "imageStatus": "ACTIVE",
        })
    };
    let (details, next_token) = if let Some(ids) = &input.image_ids {
        check_length("imageIds", ids, 100)?;
        input.paging.check_absent("imageIds")?;
        let mut details = Vec::new();
        for id in ids {
            let (image, _) = find(repository, id).map_err(|failure| failure.error(id, repository))?;
            details.push(detail(image, &repository.tags_of(&image.manifest.digest)));
        }
        (details, None)
    } else {
        let mut tags = repository.tags_by_digest();
        let all = repository.images().filter_map(|image| {
            let tags = tags.remove(&image.manifest.digest).unwrap_or_default();
            input.filter.includes(&tags).then(|| (image.manifest.digest.to_string(), (image, tags)))
        });
        let (page, next_token) = input.paging.cut(all, 100, 1000)?;
        (page.into_iter().map(|(image, tags)| detail(image, &tags)).collect(), next_token)
    };
    Ok(json!({ "imageDetails": details, "nextToken": next_token }))
}

pub(super) fn list(call: &Call, input: ListInput) -> Result<Value> {
    let registry = call.permitted(input.registry_id, &input.repository_name)?;
    let store = call.ecr.store.lock();
    let repository = store.repository(&registry, &input.repository_name)?;
    let mut tags = repository.tags_by_digest();
    let all = repository.images().flat_map(|image| {
        let digest = &image.manifest.digest;
        let tags = tags.remove(digest).unwrap_or_default();
        if !input.filter.includes(&tags) {
            return Vec::new();
        }
        if tags.is_empty() {
            return vec![(digest.to_string(), json!({ "imageDigest": digest }))];
        }
        let item = |tag: &ImageTag| (format!("{digest}@{tag}"), json!({ "imageDigest": digest, "imageTag": tag }));
        tags.iter().map(item).collect()
    });
    let (image_ids, next_token) = input.paging.cut(all, 100, 1000)?;
    Ok(json!({ "imageIds": image_ids, "nextToken": next_token }))
}

fn image(account: &Account, repository: &RepositoryName, manifest: &Manifest, tag: Option<&ImageTag>) -> Value {
    json!({
        "registryId": account,
        "repositoryName": repository,
        "imageId": { "imageDigest": manifest.digest, "imageTag": tag },
        "imageManifest": manifest.text,
        "imageManifestMediaType": manifest.media_type,
    })
}

/// Why a batch does not have one of its images, by the codes of the service model.
#[derive(Debug, Clone, Copy)]
enum Failure {
    InvalidImageDigest,
    InvalidImageTag,
    MissingDigestAndTag,
    ImageNotFound,
    ImageTagDoesNotMatchDigest,
    ImageReferencedByManifestList,
}

impl Failure {
    fn answer(self, id: &ImageId) -> Value {
        let reason = match self {
            Self::InvalidImageDigest => "Invalid request parameters: image digest is not valid",
            Self::InvalidImageTag => "Invalid request parameters: image tag is not valid",
            Self::MissingDigestAndTag => "Invalid request parameters: both tag and digest cannot be null",
            Self::ImageNotFound => "Requested image not found",
            Self::ImageTagDoesNotMatchDigest => "Requested image tag does not match the requested digest",
            Self::ImageReferencedByManifestList => "Requested image referenced by manifest list",
        };
        json!({ "imageId": id.echo(), "failureCode": format!("{self:?}"), "failureReason": reason })
    }

    /// The same for `DescribeImages`, which has no failures in its answer.
    fn error(self, id: &ImageId, repository: &Repository) -> Error {
        match self {
            Self::ImageNotFound | Self::ImageTagDoesNotMatchDigest => {
                Error::ImageNotFound { image: id.echo().to_string(), place: repository.place.clone() }
            }
            _ => Error::InvalidParameter(format!("Invalid parameter at 'imageIds': {self:?}")),
        }
    }
}

impl ImageId {
    fn parse(&self) -> Result<(Option<Digest>, Option<ImageTag>), Failure> {
        if self.image_digest.is_none() && self.image_tag.is_none() {
            return Err(Failure::MissingDigestAndTag);
        }
        let digest = self.image_digest.as_deref().map(Digest::try_from).transpose();
        let tag = self.image_tag.as_deref().map(ImageTag::try_from).transpose();
        Ok((digest.map_err(|_| Failure::InvalidImageDigest)?, tag.map_err(|_| Failure::InvalidImageTag)?))
    }

    fn echo(&self) -> Value {
        json!({ "imageDigest": self.image_digest, "imageTag": self.image_tag })
    }
}

fn find<'a>(repository: &'a Repository, id: &ImageId) -> Result<(&'a Image, Option<ImageTag>), Failure> {
    let (digest, tag) = id.parse()?;
    match repository.find_image(digest.as_ref(), tag.as_ref()) {
        ImageLookup::Found(image) => Ok((image, tag)),
        ImageLookup::NotFound => Err(Failure::ImageNotFound),
        ImageLookup::OtherDigest => Err(Failure::ImageTagDoesNotMatchDigest),
    }
}
