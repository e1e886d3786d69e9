use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};

use super::Refusal;
use crate::names::{Account, Region};

/// The account of a caller whose access key is no account id.
const DEFAULT_ACCOUNT: &str = "000000000000";

/// Who calls, and which region: both are read from the signature's credential scope. The signature itself is not checked.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) account: Account,
    pub(super) region: Region,
}

impl Identity {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(|| {
            Refusal::new(StatusCode::FORBIDDEN, "MissingAuthenticationTokenException", "Missing Authentication Token")
        })?;
        let incomplete = || {
            let message =
                "Authorization header requires 'Credential' with access key, date, region, service and terminator";
            Refusal::new(StatusCode::BAD_REQUEST, "IncompleteSignatureException", message)
        };
        let scope = header
            .strip_prefix("AWS4-HMAC-SHA256 ")
            .and_then(|rest| rest.split(',').find_map(|part| part.trim().strip_prefix("Credential=")))
            .ok_or_else(incomplete)?;
        let mut parts = scope.split('/');
        let (Some(access_key), Some(_date), Some(region), Some(service), Some("aws4_request"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(incomplete());
        };
        if service != "ecr" {
            let message = "Credential should be scoped to correct service: 'ecr'.";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "InvalidSignatureException", message));
        }
        Ok(Self {
            account: Account::try_from(access_key)
                .or_else(|_| Account::try_from(DEFAULT_ACCOUNT))
                .map_err(|_| incomplete())?,
            region: Region::try_from(region).map_err(|_| incomplete())?,
        })
    }
}
