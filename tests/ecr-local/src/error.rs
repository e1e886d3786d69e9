//! What ECR refuses, by the exceptions of its service model.

use std::io;

use uuid::Uuid;

use crate::access::Reason;
use crate::names::{Account, Digest, ImageTag, InvalidName, RepositoryName, RepositoryPlace};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    InvalidParameter(String),
    #[error("{0}")]
    InvalidTagParameter(String),
    #[error("The maximum number of tags of a resource is 50")]
    TooManyTags,
    #[error("The {0} does not exist")]
    RepositoryNotFound(RepositoryPlace),
    #[error("The {0} already exists")]
    RepositoryAlreadyExists(RepositoryPlace),
    #[error("The {0} cannot be deleted because it still contains images")]
    RepositoryNotEmpty(RepositoryPlace),
    #[error("Repository policy does not exist for the {0}")]
    RepositoryPolicyNotFound(RepositoryPlace),
    #[error("Lifecycle policy does not exist for the {0}")]
    LifecyclePolicyNotFound(RepositoryPlace),
    #[error("An upload with the upload id '{upload}' in the {place} could not be found")]
    UploadNotFound { upload: Uuid, place: RepositoryPlace },
    #[error("{message}")]
    InvalidLayerPart {
        message: String,
        account: Account,
        repository: RepositoryName,
        upload: Uuid,
        last_valid_byte: Option<u64>,
    },
    #[error("The upload has no parts")]
    EmptyUpload,
    #[error("All layer parts except the last part should be at least 5MB")]
    LayerPartTooSmall,
    #[error("The layer's digest '{computed}' does not match the provided digest '{provided}'")]
    InvalidLayer { computed: Digest, provided: Digest },
    #[error("The layer with digest '{digest}' already exists in the {place}")]
    LayerAlreadyExists { digest: Digest, place: RepositoryPlace },
    #[error("The layers with digests '[{}]' required for pushing image into {place} do not exist", list(.digests))]
    RequiredLayersNotFound { digests: Vec<Digest>, place: RepositoryPlace },
    #[error("The layer with digest '{digest}' does not exist in the {place}")]
    LayerNotFound { digest: Digest, place: RepositoryPlace },
    #[error(
        "The layer with digest '{digest}' in the {place} is not available because it is not associated with an image. \
         Unassociated image layers may be cleaned up at any time"
    )]
    LayerInaccessible { digest: Digest, place: RepositoryPlace },
    #[error("The images with digests '[{}]' required for pushing image into {place} do not exist", list(.digests))]
    ReferencedImagesNotFound { digests: Vec<Digest>, place: RepositoryPlace },
    #[error("The provided image digest '{provided}' does not match the calculated digest '{computed}'")]
    ImageDigestDoesNotMatch { computed: Digest, provided: Digest },
    #[error("Image with digest '{digest}'{} already exists in the {place}", tagged(.tag.as_ref()))]
    ImageAlreadyExists { digest: Digest, tag: Option<ImageTag>, place: RepositoryPlace },
    #[error(
        "The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten because the \
         tag is immutable."
    )]
    ImageTagAlreadyExists { tag: ImageTag, repository: RepositoryName },
    #[error("The image with imageId {image} does not exist within the {place}")]
    ImageNotFound { image: String, place: RepositoryPlace },
    #[error("{0}")]
    LimitExceeded(String),
    #[error("The KMS key '{key}' cannot be used: {kms_error}")]
    Kms { key: String, kms_error: &'static str },
    #[error(
        "User: {caller} is not authorized to perform: ecr:{action} on resource: {resource} {}", .reason.text(action)
    )]
    AccessDenied { caller: String, action: String, resource: String, reason: Reason },
    #[error("Rate exceeded")]
    Throttled,
    #[error("{0}")]
    Server(#[from] io::Error),
}

impl Error {
    /// The exception's name in the service model.
    pub(crate) fn exception(&self) -> &'static str {
        match self {
            Self::InvalidParameter(_) => "InvalidParameterException",
            Self::InvalidTagParameter(_) => "InvalidTagParameterException",
            Self::TooManyTags => "TooManyTagsException",
            Self::RepositoryNotFound(_) => "RepositoryNotFoundException",
            Self::RepositoryAlreadyExists(_) => "RepositoryAlreadyExistsException",
            Self::RepositoryNotEmpty(_) => "RepositoryNotEmptyException",
            Self::RepositoryPolicyNotFound(_) => "RepositoryPolicyNotFoundException",
            Self::LifecyclePolicyNotFound(_) => "LifecyclePolicyNotFoundException",
            Self::UploadNotFound { .. } => "UploadNotFoundException",
            Self::InvalidLayerPart { .. } => "InvalidLayerPartException",
            Self::EmptyUpload => "EmptyUploadException",
            Self::LayerPartTooSmall => "LayerPartTooSmallException",
            Self::InvalidLayer { .. } => "InvalidLayerException",
            Self::LayerAlreadyExists { .. } => "LayerAlreadyExistsException",
            Self::RequiredLayersNotFound { .. } | Self::LayerNotFound { .. } => "LayersNotFoundException",
            Self::LayerInaccessible { .. } => "LayerInaccessibleException",
            Self::ReferencedImagesNotFound { .. } => "ReferencedImagesNotFoundException",
            Self::ImageDigestDoesNotMatch { .. } => "ImageDigestDoesNotMatchException",
            Self::ImageAlreadyExists { .. } => "ImageAlreadyExistsException",
            Self::ImageTagAlreadyExists { .. } => "ImageTagAlreadyExistsException",
            Self::ImageNotFound { .. } => "ImageNotFoundException",
            Self::LimitExceeded(_) => "LimitExceededException",
            Self::Kms { .. } => "KmsException",
            // Of no service's model: any service answers these.
            Self::AccessDenied { .. } => "AccessDeniedException",
            Self::Throttled => "ThrottleException",
            Self::Server(_) => "ServerException",
        }
    }
}

impl From<InvalidName> for Error {
    fn from(invalid: InvalidName) -> Self {
        Self::InvalidParameter(invalid.to_string())
    }
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(Digest::as_str).collect::<Vec<_>>().join(", ")
}

fn tagged(tag: Option<&ImageTag>) -> String {
    tag.map(|tag| format!(" and tag '{tag}'")).unwrap_or_default()
}
