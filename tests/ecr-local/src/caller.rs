use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::Account;

/// A role that `AssumeRole` gives credentials of. Anyone may assume it who knows its external ID, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    arn: String,
    account: Account,
    external_id: Option<String>,
}

/// A text that is no role's ARN.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not the ARN of a role: arn:aws:iam::<account>:role/<name>")]
pub struct InvalidRole(String);

impl Role {
    /// A role without an external ID.
    ///
    /// # Errors
    /// If the ARN is not one of a role.
    pub fn new(arn: &str) -> Result<Self, InvalidRole> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        if let ["arn", "aws", "iam", "", account, resource] = parts[..]
            && let Ok(account) = Account::try_from(account)
            && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty() && !name.ends_with('/'))
        {
            return Ok(Self { arn: arn.to_owned(), account, external_id: None });
        }
        Err(InvalidRole(arn.to_owned()))
    }

    /// The same role only for those who name this external ID.
    #[must_use]
    pub fn with_external_id(self, id: &str) -> Self {
        Self { external_id: Some(id.to_owned()), ..self }
    }

    /// The role's ARN.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    pub(crate) fn is_open_to(&self, external_id: Option<&str>) -> bool {
        self.external_id.is_none() || self.external_id.as_deref() == external_id
    }
}

/// `<ARN>`, or `<ARN>#<external ID>`.
impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        match text.split_once('#') {
            Some((arn, external_id)) => Ok(Self::new(arn)?.with_external_id(external_id)),
            None => Self::new(text),
        }
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caller {
    pub(crate) account: Account,
    /// What it began with.
    access_key: String,
    /// Of nobody but the account itself, if there is none.
    session: Option<RoleSession>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RoleSession {
    role: String,
    name: String,
}

impl Caller {
    /// The account itself, which may do anything in it.
    pub(crate) fn of_account(account: Account, access_key: &str) -> Self {
        Self { account, access_key: access_key.to_owned(), session: None }
    }

    /// As a role.
    pub(crate) fn assuming(&self, role: &Role, session: &str) -> Self {
        let session = RoleSession { role: role.arn.clone(), name: session.to_owned() };
        Self { account: role.account.clone(), access_key: self.access_key.clone(), session: Some(session) }
    }

    pub(crate) fn access_key(&self) -> &str {
        &self.access_key
    }

    pub(crate) fn role(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.role.as_str())
    }

    /// The ARN by which error messages name the caller.
    pub(crate) fn arn(&self) -> String {
        let Self { account, session, .. } = self;
        match session {
            None => format!("arn:aws:iam::{account}:root"),
            // Without the role's path.
            Some(RoleSession { role, name }) => {
                let role = role.rsplit('/').next().unwrap_or_default();
                format!("arn:aws:sts::{account}:assumed-role/{role}/{name}")
            }
        }
    }

    /// Whether an `AWS` principal of a policy is the caller.
    pub(crate) fn is(&self, principal: &str) -> bool {
        principal == "*"
            || principal == self.account.as_str()
            || principal == format!("arn:aws:iam::{}:root", self.account)
            || principal == self.arn()
            || self.session.as_ref().is_some_and(|session| session.role == principal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_told_by_its_arn() {
        let role: Role = "arn:aws:iam::210987654321:role/path/replicator#secret".parse().unwrap();
        assert_eq!(
            role,
            Role::new("arn:aws:iam::210987654321:role/path/replicator").unwrap().with_external_id("secret")
        );
        assert!(role.is_open_to(Some("secret")) && !role.is_open_to(Some("other")) && !role.is_open_to(None));
        for invalid in [
            "",
            "replicator",
            "arn:aws:iam::210987654321:user/replicator",
            "arn:aws:iam::210987654321:role/",
            "arn:aws:iam::21098765432:role/replicator",
            "arn:aws:sts::210987654321:role/replicator",
            "arn:aws-cn:iam::210987654321:role/replicator",
        ] {
            assert!(invalid.parse::<Role>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_caller_is_named_by_its_account_role_or_session() {
        let account = Account::try_from("210987654321").unwrap();
        let role = Role::new("arn:aws:iam::210987654321:role/path/replicator").unwrap();
        let owner = Caller::of_account(account, "key");
        let session = owner.assuming(&role, "run");
        assert_eq!(owner.arn(), "arn:aws:iam::210987654321:root");
        assert_eq!(session.arn(), "arn:aws:sts::210987654321:assumed-role/replicator/run");
        for (principal, is_owner, is_session) in [
            ("*", true, true),
            ("210987654321", true, true),
            ("arn:aws:iam::210987654321:root", true, true),
            (role.arn(), false, true),
            ("arn:aws:sts::210987654321:assumed-role/replicator/run", false, true),
            ("arn:aws:iam::210987654321:role/other", false, false),
            ("123456789012", false, false),
        ] {
            assert_eq!((owner.is(principal), session.is(principal)), (is_owner, is_session), "{principal}");
        }
    }
}
