//! The password of `/v2`, which says whom it was given to and until when.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;

use crate::ecr::Ecr;
use crate::names::{Account, Region, Registry};

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    NoCredentials,
    Invalid,
    Expired,
}

impl Ecr {
    pub(crate) fn issue_token(&self, registry: &Registry) -> (String, Timestamp) {
        let now = Timestamp::now();
        let ttl = i64::try_from(self.config.token_ttl.as_millis()).unwrap_or(i64::MAX);
        let expires_at =
            Timestamp::from_millisecond(now.as_millisecond().saturating_add(ttl)).unwrap_or(Timestamp::MAX);
        let claim = format!("{}/{}/{}", registry.account, registry.region, expires_at.as_millisecond());
        let signature = self.secret.sign(&claim);
        (URL_SAFE_NO_PAD.encode(format!("{claim}/{signature}")), expires_at)
    }

    /// The registry that the bearer of an `Authorization` header may use.
    pub(crate) fn read_token(&self, header: Option<&str>) -> Result<Registry, Unauthorized> {
        let encoded = header.and_then(|header| header.strip_prefix("Basic ")).ok_or(Unauthorized::NoCredentials)?;
        let (registry, expires_at) = self.parse_token(encoded).ok_or(Unauthorized::Invalid)?;
        if Timestamp::now().as_millisecond() >= expires_at {
            return Err(Unauthorized::Expired);
        }
        Ok(registry)
    }

    fn parse_token(&self, encoded: &str) -> Option<(Registry, i64)> {
        let credentials = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let token = String::from_utf8(URL_SAFE_NO_PAD.decode(credentials.strip_prefix("AWS:")?).ok()?).ok()?;
        let (claim, signature) = token.rsplit_once('/')?;
        if self.secret.sign(claim) != signature {
            return None;
        }
        let mut parts = claim.split('/');
        let account = Account::try_from(parts.next()?).ok()?;
        let region = Region::try_from(parts.next()?).ok()?;
        Some((Registry { account, region }, parts.next()?.parse().ok()?))
    }
}
