use axum::http::{HeaderMap, StatusCode};

use super::Refusal;
use crate::caller::Caller;
use crate::ecr::Ecr;
use crate::names::Region;
use crate::scope::{self, Scope, Unsigned};
use crate::sessions::Rejected;

/// Who calls, and which region: both are read from the signature's credential scope.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) caller: Caller,
    pub(super) region: Region,
}

impl Identity {
    pub(super) fn of(ecr: &Ecr, headers: &HeaderMap) -> Result<Self, Refusal> {
        let scope = Scope::of(headers)?;
        let caller = ecr.sessions.caller(&scope.access_key, scope::session_token(headers))?;
        Ok(Self { caller, region: scope.region })
    }
}

impl From<Unsigned> for Refusal {
    fn from(unsigned: Unsigned) -> Self {
        let (status, name, message) = unsigned.answer();
        Self::new(status, name, message)
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        let name = match rejected {
            Rejected::Invalid => "UnrecognizedClientException",
            Rejected::Expired => "ExpiredTokenException",
        };
        Self::new(StatusCode::BAD_REQUEST, name, rejected.message())
    }
}
