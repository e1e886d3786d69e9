//! Who may do what: an account with its own repositories anything that their policies do not deny, and with those of others what
//! their policies allow.

use crate::caller::Caller;
use crate::ecr::Ecr;
use crate::error::{Error, Result};
use crate::names::{Registry, RepositoryName};
use crate::policy::{Policy, Verdict};

/// Why access is denied, as the end of AWS's sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    NotAllowed,
    Denied,
}

impl Reason {
    pub(crate) fn text(self, action: &str) -> String {
        match self {
            Self::NotAllowed => format!("because no resource-based policy allows the ecr:{action} action"),
            Self::Denied => "with an explicit deny in a resource-based policy".to_owned(),
        }
    }
}

impl Ecr {
    /// Refuses the caller what it may not do with a repository. One that is not there is told as such to anyone.
    pub(crate) fn permit(
        &self,
        caller: &Caller,
        registry: &Registry,
        name: &RepositoryName,
        action: &str,
    ) -> Result<()> {
        let store = self.store.lock();
        let policy = store.repository(registry, name)?.policy.as_ref();
        match objection(caller, registry, policy, action) {
            None => Ok(()),
            Some(reason) => Err(denied(caller, registry, name.as_str(), action, reason)),
        }
    }
}

/// Refuses the caller what no policy of a repository can allow, unless the registry is its own.
pub(crate) fn permit_owner(caller: &Caller, registry: &Registry, resource: &str, action: &str) -> Result<()> {
    if caller.account == registry.account {
        return Ok(());
    }
    Err(denied(caller, registry, resource, action, Reason::NotAllowed))
}

/// What stands against a call, if anything does.
pub(crate) fn objection(caller: &Caller, registry: &Registry, policy: Option<&Policy>, action: &str) -> Option<Reason> {
    match policy.map_or(Verdict::Silent, |policy| policy.verdict(caller, action)) {
        Verdict::Denied => Some(Reason::Denied),
        Verdict::Silent if caller.account != registry.account => Some(Reason::NotAllowed),
        Verdict::Silent | Verdict::Allowed => None,
    }
}

fn denied(caller: &Caller, registry: &Registry, resource: &str, action: &str, reason: Reason) -> Error {
    let resource = format!("{}{resource}", registry.arn_prefix());
    Error::AccessDenied { caller: caller.arn(), action: action.to_owned(), resource, reason }
}
