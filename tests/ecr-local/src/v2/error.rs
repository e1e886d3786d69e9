use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::error::Error;
use crate::faults::Fault;

/// An error of the Distribution protocol.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    pub(super) fn denied(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    pub(super) fn answer(self) -> Response {
        let Self { status, code, message } = self;
        let error = json!({ "code": code, "message": message, "detail": null });
        (status, Json(json!({ "errors": [error] }))).into_response()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::RepositoryNotFound(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Error::ImageNotFound { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Error::LayerNotFound { .. } | Error::LayerInaccessible { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Error::UploadNotFound { .. } => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Error::InvalidLayerPart { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Error::EmptyUpload | Error::LayerPartTooSmall | Error::LimitExceeded(_) => {
                (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID")
            }
            Error::InvalidLayer { .. } | Error::ImageDigestDoesNotMatch { .. } => {
                (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
            }
            Error::RequiredLayersNotFound { .. } | Error::ReferencedImagesNotFound { .. } => {
                (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN")
            }
            Error::ImageTagAlreadyExists { .. } => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
            Error::InvalidParameter(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Error::AccessDenied { .. } => (StatusCode::FORBIDDEN, "DENIED"),
            Error::Throttled => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Error::Server(_)
            // What follows is answered by the API only, or is a success here.
            | Error::ImageAlreadyExists { .. }
            | Error::InvalidTagParameter(_)
            | Error::Kms { .. }
            | Error::LayerAlreadyExists { .. }
            | Error::LifecyclePolicyNotFound(_)
            | Error::RepositoryAlreadyExists(_)
            | Error::RepositoryNotEmpty(_)
            | Error::RepositoryPolicyNotFound(_)
            | Error::TooManyTags => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<&Fault> for Refusal {
    fn from(fault: &Fault) -> Self {
        Self::new(fault.status(), &fault.code, fault.message.clone())
    }
}
