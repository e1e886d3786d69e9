//! What a request's signature says: who asks which service, and where. The signature itself is not checked.

use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::http::{HeaderMap, StatusCode};

use crate::names::Region;

const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// The credential scope of a request.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) access_key: String,
    pub(crate) region: Region,
    pub(crate) service: Service,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Ecr,
    Sts,
}

/// Why there is no scope.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unsigned {
    Missing,
    Incomplete,
    OtherService,
}

impl Scope {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Unsigned> {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or(Unsigned::Missing)?;
        let scope = header
            .strip_prefix("AWS4-HMAC-SHA256 ")
            .and_then(|rest| rest.split(',').find_map(|part| part.trim().strip_prefix("Credential=")))
            .ok_or(Unsigned::Incomplete)?;
        let mut parts = scope.split('/');
        let (Some(access_key), Some(_date), Some(region), Some(service), Some("aws4_request"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Unsigned::Incomplete);
        };
        let service = match service {
            "ecr" => Service::Ecr,
            "sts" => Service::Sts,
            _ => return Err(Unsigned::OtherService),
        };
        let region = Region::try_from(region).map_err(|_| Unsigned::Incomplete)?;
        Ok(Self { access_key: access_key.to_owned(), region, service })
    }
}

impl Unsigned {
    /// The answer's status, exception and text.
    pub(crate) fn answer(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Missing => {
                (StatusCode::FORBIDDEN, "MissingAuthenticationTokenException", "Missing Authentication Token")
            }
            Self::Incomplete => (
                StatusCode::BAD_REQUEST,
                "IncompleteSignatureException",
                "Authorization header requires 'Credential' with access key, date, region, service and terminator",
            ),
            Self::OtherService => (
                StatusCode::FORBIDDEN,
                "InvalidSignatureException",
                "Credential should be scoped to correct service: 'ecr'.",
            ),
        }
    }
}

/// The session token that goes with the access key of a role.
pub(crate) fn session_token(headers: &HeaderMap) -> Option<&str> {
    headers.get(SECURITY_TOKEN).and_then(|value| value.to_str().ok())
}
