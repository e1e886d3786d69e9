//! The password of `/v2`, which says whom it was given to, for which registry, and until when.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::caller::Caller;
use crate::ecr::Ecr;
use crate::names::{Account, Region, Registry};

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    NoCredentials,
    Invalid,
    Expired,
}

/// What a token is good for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) caller: Caller,
    account: Account,
    region: Region,
    /// In milliseconds since 1970.
    expires_at: i64,
}

impl Claim {
    /// The registry that the token was asked for.
    pub(crate) fn registry(&self) -> Registry {
        Registry { account: self.account.clone(), region: self.region.clone() }
    }
}

impl Ecr {
    pub(crate) fn issue_token(&self, caller: &Caller, registry: &Registry) -> (String, Timestamp) {
        let now = Timestamp::now();
        let ttl = i64::try_from(self.config.token_ttl.as_millis()).unwrap_or(i64::MAX);
        let expires_at =
            Timestamp::from_millisecond(now.as_millisecond().saturating_add(ttl)).unwrap_or(Timestamp::MAX);
        let claim = serde_json::json!(Claim {
            caller: caller.clone(),
            account: registry.account.clone(),
            region: registry.region.clone(),
            expires_at: expires_at.as_millisecond(),
        });
        let claim = claim.to_string();
        let signature = self.secret.sign(&claim);
        (URL_SAFE_NO_PAD.encode(format!("{claim}/{signature}")), expires_at)
    }

    /// What the bearer of an `Authorization` header may do.
    pub(crate) fn read_token(&self, header: Option<&str>) -> Result<Claim, Unauthorized> {
        let encoded = header.and_then(|header| header.strip_prefix("Basic ")).ok_or(Unauthorized::NoCredentials)?;
        let claim = self.parse_token(encoded).ok_or(Unauthorized::Invalid)?;
        if Timestamp::now().as_millisecond() >= claim.expires_at {
            return Err(Unauthorized::Expired);
        }
        Ok(claim)
    }

    fn parse_token(&self, encoded: &str) -> Option<Claim> {
        let credentials = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let token = String::from_utf8(URL_SAFE_NO_PAD.decode(credentials.strip_prefix("AWS:")?).ok()?).ok()?;
        let (claim, signature) = token.rsplit_once('/')?;
        if self.secret.sign(claim) != signature {
            return None;
        }
        serde_json::from_str(claim).ok()
    }
}
