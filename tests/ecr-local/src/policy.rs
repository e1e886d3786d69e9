//! A repository's policy: whom it lets do what.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::caller::Caller;
use crate::wildcard;

/// A policy, which is given back as it came.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    text: String,
    statements: Vec<Statement>,
}

/// What a policy says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    Denied,
    Silent,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    statement: OneOrMany<Statement>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    effect: Effect,
    principal: Option<Principal>,
    not_principal: Option<Principal>,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    condition: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Principal {
    /// `"*"` is all that it may be.
    All(String),
    /// `AWS`, `Service`, and others.
    Of(BTreeMap<String, OneOrMany<String>>),
}

/// A list of one item may be written without its brackets.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn items(&self) -> &[T] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Many(items) => items,
        }
    }
}

impl Policy {
    /// Reads a policy; `None` where it is none.
    pub(crate) fn parse(text: String) -> Option<Self> {
        let Document { statement } = serde_json::from_str(&text).ok()?;
        let statements = match statement {
            OneOrMany::One(statement) => vec![statement],
            OneOrMany::Many(statements) => statements,
        };
        statements.iter().all(Statement::is_valid).then_some(Self { text, statements })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What the policy says of a caller who wants to call an operation. One that denies outweighs all that allow.
    pub(crate) fn verdict(&self, caller: &Caller, operation: &str) -> Verdict {
        let effects = self.statements.iter().filter(|each| each.concerns(caller, operation)).map(|each| each.effect);
        effects.fold(Verdict::Silent, |verdict, effect| match (verdict, effect) {
            (Verdict::Denied, _) | (_, Effect::Deny) => Verdict::Denied,
            (_, Effect::Allow) => Verdict::Allowed,
        })
    }
}

impl Statement {
    fn is_valid(&self) -> bool {
        let principals = self.principal.iter().chain(&self.not_principal);
        let actions = self.action.iter().chain(&self.not_action);
        principals.clone().count() == 1
            && actions.clone().count() == 1
            && principals.into_iter().all(|principal| !matches!(principal, Principal::All(all) if all != "*"))
            && actions.flat_map(OneOrMany::items).all(|action| action == "*" || action.contains(':'))
    }

    /// A statement with a condition concerns nobody, since there is nothing here that it could ask about.
    fn concerns(&self, caller: &Caller, operation: &str) -> bool {
        let is_caller = |principal: &Principal| principal.is(caller);
        let is_action = |actions: &OneOrMany<String>| actions.items().iter().any(|action| covers(action, operation));
        self.condition.is_none()
            && (self.principal.as_ref().is_some_and(is_caller)
                || self.not_principal.as_ref().is_some_and(|principal| !is_caller(principal)))
            && (self.action.as_ref().is_some_and(is_action)
                || self.not_action.as_ref().is_some_and(|actions| !is_action(actions)))
    }
}

impl Principal {
    fn is(&self, caller: &Caller) -> bool {
        match self {
            Self::All(_) => true,
            Self::Of(kinds) => {
                kinds.get("AWS").is_some_and(|principals| principals.items().iter().any(|each| caller.is(each)))
            }
        }
    }
}

/// Upper and lower case are the same in the name of an action.
fn covers(action: &str, operation: &str) -> bool {
    wildcard::matches(&action.to_lowercase(), &format!("ecr:{}", operation.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::caller::Role;
    use crate::names::Account;

    const ROLE: &str = "arn:aws:iam::210987654321:role/replicator";

    fn verdict(statements: &Value, operation: &str) -> Verdict {
        let policy = Policy::parse(json!({ "Version": "2012-10-17", "Statement": statements }).to_string()).unwrap();
        let anyone = Caller::of_account(Account::try_from("210987654321").unwrap(), "key");
        policy.verdict(&anyone.assuming(&Role::new(ROLE).unwrap(), "run"), operation)
    }

    #[test]
    fn a_statement_concerns_whom_and_what_it_names() {
        for (principal, action, expected) in [
            (json!("*"), json!("*"), Verdict::Allowed),
            (json!({ "AWS": "*" }), json!("ecr:*"), Verdict::Allowed),
            (json!({ "AWS": "210987654321" }), json!("ecr:PutImage"), Verdict::Allowed),
            (json!({ "AWS": "arn:aws:iam::210987654321:root" }), json!("ecr:putimage"), Verdict::Allowed),
            (json!({ "AWS": ["123456789012", ROLE] }), json!(["ecr:GetX", "ecr:Put*"]), Verdict::Allowed),
            (json!({ "AWS": "arn:aws:iam::210987654321:role/other" }), json!("ecr:*"), Verdict::Silent),
            (json!({ "AWS": "123456789012" }), json!("ecr:*"), Verdict::Silent),
            (json!({ "Service": "*" }), json!("ecr:*"), Verdict::Silent),
            (json!("*"), json!("ecr:Put"), Verdict::Silent),
            (json!("*"), json!("s3:*"), Verdict::Silent),
            (json!("*"), json!([]), Verdict::Silent),
        ] {
            let statement = json!({ "Effect": "Allow", "Principal": principal, "Action": action });
            assert_eq!(verdict(&statement, "PutImage"), expected, "{statement}");
            assert_eq!(verdict(&json!([statement]), "PutImage"), expected, "{statement}");
        }
    }

    #[test]
    fn what_denies_outweighs_what_allows() {
        let allow = json!({ "Effect": "Allow", "Principal": "*", "Action": "ecr:*" });
        let deny = json!({ "Effect": "Deny", "Principal": { "AWS": ROLE }, "Action": "ecr:Put*" });
        for statements in [json!([allow, deny]), json!([deny, allow])] {
            assert_eq!(verdict(&statements, "PutImage"), Verdict::Denied);
            assert_eq!(verdict(&statements, "BatchGetImage"), Verdict::Allowed);
        }
        let except = json!({ "Effect": "Deny", "NotPrincipal": { "AWS": "123456789012" }, "NotAction": "ecr:Batch*" });
        assert_eq!(verdict(&json!([allow, except]), "PutImage"), Verdict::Denied);
        assert_eq!(verdict(&json!([allow, except]), "BatchGetImage"), Verdict::Allowed);
        assert_eq!(verdict(&json!([]), "PutImage"), Verdict::Silent);
    }

    #[test]
    fn a_statement_with_a_condition_has_no_effect() {
        for effect in ["Allow", "Deny"] {
            let condition = json!({ "StringEquals": { "aws:PrincipalOrgID": "o-1" } });
            let statement = json!({ "Effect": effect, "Principal": "*", "Action": "*", "Condition": condition });
            assert_eq!(verdict(&statement, "PutImage"), Verdict::Silent);
        }
    }

    #[test]
    fn a_policy_has_statements_with_an_effect_a_principal_and_an_action() {
        for invalid in [
            json!({}),
            json!([]),
            json!({ "Statement": {} }),
            json!({ "Statement": { "Effect": "Permit", "Principal": "*", "Action": "*" } }),
            json!({ "Statement": { "Effect": "Allow", "Action": "*" } }),
            json!({ "Statement": { "Effect": "Allow", "Principal": "*" } }),
            json!({ "Statement": { "Effect": "Allow", "Principal": "210987654321", "Action": "*" } }),
            json!({ "Statement": { "Effect": "Allow", "Principal": "*", "Action": "PutImage" } }),
            json!({ "Statement": { "Effect": "Allow", "Principal": "*", "Action": "*", "NotAction": "*" } }),
        ] {
            assert!(Policy::parse(invalid.to_string()).is_none(), "{invalid}");
        }
        let owner = Caller::of_account(Account::try_from("123456789012").unwrap(), "key");
        let empty = Policy::parse(r#"{ "Statement": [] }"#.to_owned()).unwrap();
        assert_eq!((empty.verdict(&owner, "PutImage"), empty.text()), (Verdict::Silent, r#"{ "Statement": [] }"#));
    }
}
