//! The roles that can be assumed, and the credentials that were given out for them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::caller::{Caller, Role};
use crate::guarded::Guarded;
use crate::names::Account;

/// The account of a caller whose access key is no account id.
const DEFAULT_ACCOUNT: &str = "000000000000";

#[derive(Debug)]
pub(crate) struct Sessions {
    roles: Guarded<BTreeMap<String, Role>>,
    /// By access key. None is forgotten: one that has expired is told so.
    issued: Guarded<HashMap<String, Session>>,
}

#[derive(Debug)]
struct Session {
    caller: Caller,
    token: String,
    expires_at: Timestamp,
}

/// What a client signs with from now on.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) token: String,
    pub(crate) expires_at: Timestamp,
}

/// Why an access key is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Its session token is missing, or another's.
    Invalid,
    Expired,
}

impl Rejected {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Invalid => "The security token included in the request is invalid.",
            Self::Expired => "The security token included in the request is expired",
        }
    }
}

impl Sessions {
    pub(crate) fn new(roles: &[Role]) -> Self {
        let roles = roles.iter().map(|role| (role.arn().to_owned(), role.clone())).collect();
        Self { roles: Guarded::new(roles), issued: Guarded::default() }
    }

    pub(crate) fn add_role(&self, role: Role) {
        self.roles.lock().insert(role.arn().to_owned(), role);
    }

    pub(crate) fn role(&self, arn: &str) -> Option<Role> {
        self.roles.lock().get(arn).cloned()
    }

    pub(crate) fn issue(&self, caller: Caller, lifetime: Duration) -> Credentials {
        let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let expires_at = Timestamp::now().as_millisecond().saturating_add(lifetime);
        let credentials = Credentials {
            access_key: format!("ASIA{}", random().split_off(16).to_uppercase()),
            secret_key: random(),
            token: random() + &random(),
            expires_at: Timestamp::from_millisecond(expires_at).unwrap_or(Timestamp::MAX),
        };
        let session = Session { caller, token: credentials.token.clone(), expires_at: credentials.expires_at };
        self.issued.lock().insert(credentials.access_key.clone(), session);
        credentials
    }

    /// Whose access key it is. One that was not given out here needs no token, and is an account's own.
    pub(crate) fn caller(&self, access_key: &str, token: Option<&str>) -> Result<Caller, Rejected> {
        if let Some(session) = self.issued.lock().get(access_key) {
            if token != Some(&session.token) {
                return Err(Rejected::Invalid);
            }
            if Timestamp::now() >= session.expires_at {
                return Err(Rejected::Expired);
            }
            return Ok(session.caller.clone());
        }
        let account = Account::try_from(access_key).or_else(|_| Account::try_from(DEFAULT_ACCOUNT));
        account.map(|account| Caller::of_account(account, access_key)).map_err(|_| Rejected::Invalid)
    }

    /// Has all credentials that were given out expire.
    pub(crate) fn expire(&self) {
        for session in self.issued.lock().values_mut() {
            session.expires_at = Timestamp::MIN;
        }
    }
}

/// 32 hexadecimal digits.
fn random() -> String {
    Uuid::new_v4().simple().to_string()
}
