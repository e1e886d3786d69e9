//! What IAM would be asked about the calls: this registry asks it nothing, so whoever has a policy can hold the two to each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::caller::Caller;
use crate::ecr::Ecr;
use crate::guarded::Guarded;

/// A question to IAM: whether a caller may do this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The access key of the caller; of one that calls as a role, that of whoever assumed it first.
    pub access_key: String,
    /// The ARN of the role that it calls as, if it is another account's.
    pub role: Option<String>,
    /// The call, by the name that it has in the counters.
    pub call: String,
    /// The action, with its service, such as `ecr:PutImage`.
    pub action: String,
    /// The ARN of what it is done to, or `*` for an action that is done to nothing.
    pub resource: String,
    /// What a condition can ask about, by its key.
    pub context: BTreeMap<String, BTreeSet<String>>,
}

/// Each question once, until the counters are reset.
pub(crate) type Questions = Guarded<BTreeSet<Asked>>;

impl Ecr {
    /// Notes a question to IAM.
    pub(crate) fn ask(&self, caller: &Caller, call: &str, action: &str, resource: String) {
        self.ask_with(caller, call, action, resource, BTreeMap::new());
    }

    /// As [`Ecr::ask`], of a call that has what conditions ask about.
    pub(crate) fn ask_with(
        &self,
        caller: &Caller,
        call: &str,
        action: &str,
        resource: String,
        context: BTreeMap<String, BTreeSet<String>>,
    ) {
        let asked = Asked {
            access_key: caller.access_key().to_owned(),
            role: caller.role().map(str::to_owned),
            call: call.to_owned(),
            action: action.to_owned(),
            resource,
            context,
        };
        self.questions.lock().insert(asked);
    }
}
