//! The settings of a repository: what they are to be at a target, and what differs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wildmatch::WildMatchPattern;

use crate::{
    contract::{RepositorySettings, SettingChange, TagMutability},
    error::{shorten, shorten_json},
    names::{Region, RegistryId},
};

/// The tag of a repository that was made and has yet to get its policies, which no call sets as it makes one. Its value is the
/// name of the execution that made it. It goes when they are set; until then they are anybody's to set who finds it.
pub const INCOMPLETE: &str = "ecr-replicator:incomplete";

/// The most of a setting that a report repeats, in bytes.
const TEXT_LIMIT: usize = 256;

/// The most that one target's settings take in a report, as JSON, in bytes; and to what their texts are cut, step by step, until
/// they do. Step Functions carries them of 60 targets together, with how each one ended.
const TOLD_LIMIT: usize = 900;
const SHORTER: [usize; 5] = [128, 64, 32, 16, 8];

/// The settings of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which tags may be moved.
    pub tag_mutability: TagMutability,
    /// The filters of its exclusions.
    pub tag_mutability_exclusions: Vec<String>,
    /// Whether an image is scanned when it is pushed.
    pub scan_on_push: bool,
    /// How it is encrypted.
    pub encryption: Encryption,
    /// Its tags, without those that AWS reserves.
    pub tags: BTreeMap<String, String>,
    /// Its lifecycle policy, as text.
    pub lifecycle_policy: Option<String>,
    /// Its repository policy, as text.
    pub repository_policy: Option<String>,
}

/// How a repository is encrypted. It is decided when the repository is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// As the ECR API has it: `AES256`, `KMS` or `KMS_DSSE`.
    pub kind: String,
    /// The ARN of the KMS key; the region's default key where there is none.
    pub key: Option<String>,
}

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its region.
    pub region: Region,
    /// Its account.
    pub registry_id: RegistryId,
}

/// A setting that can be changed, and what it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Which tags may be moved, and the filters of its exclusions.
    TagMutability(TagMutability, Vec<String>),
    /// Whether an image is scanned when it is pushed.
    ScanOnPush(bool),
    /// Tags that are set, and the keys of those that are taken away.
    Tags(BTreeMap<String, String>, Vec<String>),
    /// The lifecycle policy.
    LifecyclePolicy(Option<String>),
    /// The repository policy.
    RepositoryPolicy(Option<String>),
}

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How it is told.
    pub told: SettingChange,
    /// How it is mended; nothing mends encryption, nor a policy that is not to be set.
    pub change: Option<Change>,
}

impl Settings {
    /// What a copy of this repository, which is at `source`, is to have at `target`: the rule's `own` settings, and this
    /// repository's where the rule has none. Its encryption comes with the target region's default key, because a key belongs to
    /// one region; `key` is the target's own.
    #[must_use]
    pub fn for_target(
        self,
        own: Option<RepositorySettings>,
        key: Option<&str>,
        source: &Place,
        target: &Place,
    ) -> Self {
        let own = own.unwrap_or_default();
        let encryption = match key {
            // Two layers stay two.
            Some(key) => {
                let kind = if self.encryption.kind == "KMS_DSSE" { "KMS_DSSE" } else { "KMS" };
                Encryption { kind: kind.to_owned(), key: Some(key.to_owned()) }
            }
            None => Encryption { kind: self.encryption.kind, key: None },
        };
        let tag_mutability_exclusions = match (own.tag_mutability_exclusions, own.tag_mutability) {
            (Some(exclusions), _) => exclusions,
            (None, None) => self.tag_mutability_exclusions,
            // The source's exclusions belong to the source's mutability.
            (None, Some(_)) => Vec::new(),
        };
        Self {
            tag_mutability: own.tag_mutability.unwrap_or(self.tag_mutability),
            tag_mutability_exclusions,
            scan_on_push: own.scan_on_push.unwrap_or(self.scan_on_push),
            encryption,
            tags: own.tags.unwrap_or(self.tags),
            lifecycle_policy: own.lifecycle_policy.or(self.lifecycle_policy),
            // The rule's own policy is written for its targets.
            repository_policy: own
                .repository_policy
                .or_else(|| self.repository_policy.map(|policy| mapped(&policy, source, target))),
        }
    }

    /// What differs of `self`, a repository of `account`, from what it is to be.
    #[must_use]
    pub fn differences(&self, wanted: &Self, account: &RegistryId) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut tell =
            |setting: &str, before: Option<String>, after: Option<String>, change: Result<Change, String>| {
                let short = |text: String| shorten(&text, TEXT_LIMIT);
                let (change, refused) = match change {
                    Ok(change) => (Some(change), None),
                    Err(reason) => (None, Some(reason)),
                };
                let (before, after) = (before.map(short), after.map(short));
                let told = SettingChange { setting: setting.to_owned(), before, after, refused };
                differences.push(Difference { told, change });
            };
        if self.mutability() != wanted.mutability() {
            let exclusions = wanted.tag_mutability_exclusions.clone();
            let change = Change::TagMutability(wanted.tag_mutability, exclusions);
            tell("tagMutability", Some(self.mutability_text()), Some(wanted.mutability_text()), Ok(change));
        }
        if self.scan_on_push != wanted.scan_on_push {
            let text = |settings: &Self| Some(settings.scan_on_push.to_string());
            tell("scanOnPush", text(self), text(wanted), Ok(Change::ScanOnPush(wanted.scan_on_push)));
        }
        if self.tags != wanted.tags {
            let text = |settings: &Self| serde_json::to_string(&settings.tags).ok();
            let set = wanted.tags.iter().filter(|(key, value)| self.tags.get(*key) != Some(value));
            let set = set.map(|(key, value)| (key.clone(), value.clone())).collect();
            let taken = self.tags.keys().filter(|key| !wanted.tags.contains_key(*key)).cloned().collect();
            tell("tags", text(self), text(wanted), Ok(Change::Tags(set, taken)));
        }
        if !is_same_policy(self.lifecycle_policy.as_deref(), wanted.lifecycle_policy.as_deref()) {
            let (before, after) = (self.lifecycle_policy.clone(), wanted.lifecycle_policy.clone());
            tell("lifecyclePolicy", before, after.clone(), Ok(Change::LifecyclePolicy(after)));
        }
        if !is_same_policy(self.repository_policy.as_deref(), wanted.repository_policy.as_deref()) {
            let (before, after) = (self.repository_policy.clone(), wanted.repository_policy.clone());
            let locks_out = after.as_deref().is_some_and(|policy| locks_out(policy, account));
            let change = if locks_out {
                Err(format!("it would keep {account}, whose repository it is, from ever setting another policy"))
            } else {
                Ok(Change::RepositoryPolicy(after.clone()))
            };
            tell("repositoryPolicy", before, after, change);
        }
        let (has, wants) = (&self.encryption, &wanted.encryption);
        if has.kind != wants.kind || is_another_key(has, wants) {
            let reason = "encryption is decided when a repository is made, and cannot be changed";
            tell("encryption", Some(has.text()), Some(wants.text()), Err(reason.to_owned()));
        }
        differences
    }

    /// The exclusions are in no order.
    fn mutability(&self) -> (TagMutability, BTreeSet<&String>) {
        (self.tag_mutability, self.tag_mutability_exclusions.iter().collect())
    }

    fn mutability_text(&self) -> String {
        let mode = serde_json::to_value(self.tag_mutability).unwrap_or_default();
        let mode = mode.as_str().unwrap_or_default();
        match &self.tag_mutability_exclusions[..] {
            [] => mode.to_owned(),
            exclusions => format!("{mode}: {}", exclusions.join(", ")),
        }
    }
}

/// The settings of a source repository, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    /// Where it is.
    pub place: Place,
    /// Its settings.
    pub settings: Settings,
}

impl SourceSettings {
    /// What the target repository is to have. Where it is comes with it once it is there: only then its account is known.
    #[must_use]
    pub fn wanted(&self, own: Option<RepositorySettings>, key: Option<&str>, target: Option<&Place>) -> Settings {
        let mut wanted = self.settings.clone().for_target(own, key, &self.place, target.unwrap_or(&self.place));
        // The source may be a target of another deployment.
        wanted.tags.remove(INCOMPLETE);
        wanted
    }
}

impl Encryption {
    fn text(&self) -> String {
        self.key.as_ref().map_or_else(|| self.kind.clone(), |key| format!("{}: {key}", self.kind))
    }
}

/// `settings` as a report has room for them.
#[must_use]
pub fn shortened(mut settings: Vec<SettingChange>) -> Vec<SettingChange> {
    for limit in SHORTER {
        if serde_json::to_string(&settings).is_ok_and(|text| text.len() <= TOLD_LIMIT) {
            break;
        }
        for SettingChange { before, after, refused, .. } in &mut settings {
            for text in [before, after, refused].into_iter().flatten() {
                *text = shorten_json(text, limit);
            }
        }
    }
    settings
}

/// An alias is not told from its key: ECR names the key.
fn is_another_key(has: &Encryption, wants: &Encryption) -> bool {
    let wanted = wants.key.as_ref().filter(|key| !key.contains(":alias/"));
    wanted.is_some_and(|key| has.key.as_ref() != Some(key))
}

/// Whether two policies say the same: ECR does not promise to give a text back as it was set.
fn is_same_policy(one: Option<&str>, other: Option<&str>) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok().map(normal);
    match (one, other) {
        (Some(one), Some(other)) => one == other || read(one).is_some_and(|value| Some(value) == read(other)),
        (one, other) => one == other,
    }
}

/// A policy in the one form of all those that mean the same: a list of one is what is in it, other lists are in order, an account
/// that is a principal is its number, whatever it was called, and a number or a truth value is a text.
fn normal(value: Value) -> Value {
    match value {
        Value::Array(values) => {
            let mut values: Vec<Value> = values.into_iter().map(normal).collect();
            values.sort_by_cached_key(Value::to_string);
            values.dedup();
            if values.len() == 1 { values.remove(0) } else { Value::Array(values) }
        }
        Value::Object(members) => {
            let of_principals = |(key, value): (String, Value)| {
                let is_principal = key == "Principal" || key == "NotPrincipal";
                let value = normal(value);
                (key, if is_principal { normal(principals(value)) } else { value })
            };
            Value::Object(members.into_iter().map(of_principals).collect())
        }
        Value::Bool(value) => Value::String(value.to_string()),
        Value::Number(value) => Value::String(value.to_string()),
        value => value,
    }
}

/// Principals, with accounts by their number. Everyone is everyone by either of two names.
fn principals(value: Value) -> Value {
    match value {
        Value::String(text) => {
            let account = text.strip_prefix("arn:").and_then(|arn| arn.split_once(":iam::")?.1.strip_suffix(":root"));
            Value::String(account.map(str::to_owned).unwrap_or(text))
        }
        Value::Array(values) => Value::Array(values.into_iter().map(principals).collect()),
        Value::Object(members) if members.len() == 1 && members.get("AWS").is_some_and(|it| *it == "*") => "*".into(),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(key, value)| (key, principals(value))).collect())
        }
        value => value,
    }
}

/// The policy of a repository at `source` for its copy at `target`: what names the source's region or account in an ARN names
/// the target's, and so does the account where it stands alone, as a principal.
fn mapped(policy: &str, source: &Place, target: &Place) -> String {
    let Ok(mut document) = serde_json::from_str::<Value>(policy) else { return policy.to_owned() };
    if map_strings(&mut document, source, target) { document.to_string() } else { policy.to_owned() }
}

/// Whether anything was changed.
fn map_strings(value: &mut Value, source: &Place, target: &Place) -> bool {
    match value {
        Value::String(text) => {
            let mapped = map_string(text, source, target);
            let is_changed = mapped != *text;
            *text = mapped;
            is_changed
        }
        // Each is mapped: no shortcut.
        Value::Array(values) => values.iter_mut().fold(false, |is, value| map_strings(value, source, target) | is),
        Value::Object(members) => members.values_mut().fold(false, |is, value| map_strings(value, source, target) | is),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn map_string(text: &str, source: &Place, target: &Place) -> String {
    if text == source.registry_id.as_str() {
        return target.registry_id.to_string();
    }
    let mut parts: Vec<&str> = text.splitn(6, ':').collect();
    if let ["arn", _, _, region, account, _] = &mut parts[..] {
        if *region == source.region.as_str() {
            *region = target.region.as_str();
        }
        if *account == source.registry_id.as_str() {
            *account = target.registry_id.as_str();
        }
    }
    parts.join(":")
}

/// Whether a repository policy denies everyone, or `account` as a whole, to set another one, whatever the circumstances.
#[must_use]
pub fn locks_out(policy: &str, account: &RegistryId) -> bool {
    let Ok(document) = serde_json::from_str::<Value>(policy) else { return false };
    let root = format!(":{account}:root");
    let is_owner = |principal: &str| {
        principal == "*"
            || principal == account.as_str()
            || (principal.starts_with("arn:") && principal.ends_with(&root))
    };
    let is_setting = |action: &str| {
        WildMatchPattern::<'*', '?'>::new(&action.to_ascii_lowercase()).matches("ecr:setrepositorypolicy")
    };
    let names = |statement: &Value, member: &str, is_it: &dyn Fn(&str) -> bool| {
        let value = &statement[member];
        let values = each(value).into_iter().chain(each(&value["AWS"]));
        values.filter_map(Value::as_str).any(is_it)
    };
    // What is denied to all but some, or is all but some.
    let covers = |statement: &Value, member: &str, is_it: &dyn Fn(&str) -> bool| {
        let others = format!("Not{member}");
        names(statement, member, is_it) || (statement.get(&others).is_some() && !names(statement, &others, is_it))
    };
    each(&document["Statement"]).into_iter().any(|statement| {
        statement["Effect"] == "Deny"
            && statement
                .get("Condition")
                .is_none_or(|condition| condition.as_object().is_some_and(serde_json::Map::is_empty))
            && covers(statement, "Principal", &is_owner)
            && covers(statement, "Action", &is_setting)
    })
}

/// What may be one or a list of them.
fn each(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        contract::{
            CopiedInAll, Ensured, Failure, MOST_REFUSALS, Outcome, Put, REFUSAL_LIMIT, Refusal, Status, Target, now,
        },
        names::Digest,
    };

    fn place(region: &str, account: &str) -> Place {
        Place { region: region.parse().unwrap(), registry_id: account.parse().unwrap() }
    }

    fn settings() -> Settings {
        Settings {
            tag_mutability: TagMutability::ImmutableWithExclusion,
            tag_mutability_exclusions: vec!["latest*".to_owned()],
            scan_on_push: true,
            encryption: Encryption { kind: "KMS".to_owned(), key: Some("arn:aws:kms:eu-central-1:1:key/1".to_owned()) },
            tags: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
            lifecycle_policy: Some(r#"{"rules": []}"#.to_owned()),
            repository_policy: None,
        }
    }

    fn here() -> Place {
        place("eu-central-1", "111111111111")
    }

    #[test]
    fn arns_and_principals_of_the_source_become_those_of_the_target() {
        let there = place("us-east-1", "222222222222");
        let policy = json!({"Statement": [{
            "Principal": {"AWS": ["111111111111", "arn:aws:iam::111111111111:role/ci", "arn:aws:iam::333333333333:root"]},
            "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:lambda:eu-central-1:111111111111:function:*"}},
            "Resource": "arn:aws:ecr:eu-west-1:111111111111:repository/x:y",
            "Sid": "In-eu-central-1-of-111111111111",
        }]});
        let wanted = json!({"Statement": [{
            "Principal": {"AWS": ["222222222222", "arn:aws:iam::222222222222:role/ci", "arn:aws:iam::333333333333:root"]},
            "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:lambda:us-east-1:222222222222:function:*"}},
            "Resource": "arn:aws:ecr:eu-west-1:222222222222:repository/x:y",
            "Sid": "In-eu-central-1-of-111111111111",
        }]});
        let mapped = mapped(&policy.to_string(), &here(), &there);
        assert_eq!(serde_json::from_str::<Value>(&mapped).unwrap(), wanted);
    }

    #[test]
    fn a_policy_that_names_nothing_of_the_source_keeps_its_text() {
        let there = place("us-east-1", "222222222222");
        for policy in [r#"{ "Statement" : [] }"#, "no JSON at all"] {
            assert_eq!(mapped(policy, &here(), &there), policy);
        }
    }

    #[test]
    fn a_rule_s_own_settings_come_before_the_source_s() {
        let own = RepositorySettings {
            tag_mutability: Some(TagMutability::Immutable),
            repository_policy: Some("{}".to_owned()),
            ..RepositorySettings::default()
        };
        let there = place("us-east-1", "222222222222");
        let wanted = settings().for_target(Some(own), None, &here(), &there);
        let encryption = Encryption { kind: "KMS".to_owned(), key: None };
        let expected = Settings {
            tag_mutability: TagMutability::Immutable,
            tag_mutability_exclusions: Vec::new(),
            repository_policy: Some("{}".to_owned()),
            encryption,
            ..settings()
        };
        assert_eq!(wanted, expected);
        let wanted = settings().for_target(None, Some("arn:aws:kms:us-east-1:2:key/2"), &here(), &there);
        let key = Some("arn:aws:kms:us-east-1:2:key/2".to_owned());
        assert_eq!(wanted, Settings { encryption: Encryption { kind: "KMS".to_owned(), key }, ..settings() });
    }

    #[test]
    fn every_difference_is_told_and_those_that_can_be_are_mended() {
        let has = Settings {
            tag_mutability: TagMutability::Mutable,
            tag_mutability_exclusions: Vec::new(),
            scan_on_push: false,
            encryption: Encryption { kind: "AES256".to_owned(), key: None },
            tags: BTreeMap::from([("old".to_owned(), "1".to_owned()), ("team".to_owned(), "b".to_owned())]),
            lifecycle_policy: None,
            repository_policy: Some("{}".to_owned()),
        };
        let wanted = Settings { encryption: Encryption { kind: "KMS".to_owned(), key: None }, ..settings() };
        let differences = has.differences(&wanted, &here().registry_id);
        let told: Vec<_> = differences
            .iter()
            .map(|Difference { told, .. }| (&*told.setting, told.before.as_deref(), told.after.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("tagMutability", Some("MUTABLE"), Some("IMMUTABLE_WITH_EXCLUSION: latest*")),
                ("scanOnPush", Some("false"), Some("true")),
                ("tags", Some(r#"{"old":"1","team":"b"}"#), Some(r#"{"team":"a"}"#)),
                ("lifecyclePolicy", None, Some(r#"{"rules": []}"#)),
                ("repositoryPolicy", Some("{}"), None),
                ("encryption", Some("AES256"), Some("KMS")),
            ]
        );
        let changes: Vec<_> = differences.iter().map(|difference| difference.change.clone()).collect();
        assert_eq!(
            changes,
            [
                Some(Change::TagMutability(TagMutability::ImmutableWithExclusion, vec!["latest*".to_owned()])),
                Some(Change::ScanOnPush(true)),
                Some(Change::Tags(settings().tags, vec!["old".to_owned()])),
                Some(Change::LifecyclePolicy(settings().lifecycle_policy)),
                Some(Change::RepositoryPolicy(None)),
                None,
            ]
        );
        assert_eq!(wanted.differences(&wanted, &here().registry_id), []);
    }

    #[test]
    fn a_policy_in_another_layout_is_no_difference() {
        assert!(is_same_policy(Some(r#"{"a": 1, "b": 2}"#), Some(r#"{"b":2,"a":1}"#)));
        assert!(!is_same_policy(Some(r#"{"a": 1}"#), Some(r#"{"a": 2}"#)));
        assert!(!is_same_policy(Some("no"), Some("JSON")));
        assert!(!is_same_policy(None, Some("{}")));
    }

    #[test]
    fn a_policy_as_ecr_gives_it_back_is_no_difference() {
        let policy = |principal: Value, action: Value, condition: Value| {
            json!({"Statement": {"Effect": "Allow", "Principal": principal, "Action": action, "Condition": condition}})
                .to_string()
        };
        let root = "arn:aws:iam::222222222222:root";
        let secure = |value: Value| json!({"Bool": {"aws:SecureTransport": value}});
        let set = policy(json!({"AWS": ["222222222222", "333333333333"]}), json!(["a", "b"]), secure(json!(true)));
        let given = policy(json!({"AWS": ["333333333333", root]}), json!(["b", "a"]), secure(json!("true")));
        assert!(is_same_policy(Some(&set), Some(&given)));
        let everyone = policy(json!({"AWS": ["*"]}), json!(["a"]), json!({}));
        assert!(is_same_policy(Some(&everyone), Some(&policy(json!({"AWS": "*"}), json!("a"), json!({})))));
        let listed = json!({"Statement": [serde_json::from_str::<Value>(&set).unwrap()["Statement"]]}).to_string();
        assert!(is_same_policy(Some(&set), Some(&listed)));
        assert!(is_same_policy(
            Some(&policy(json!({"AWS": "*"}), json!("a"), json!({}))),
            Some(&policy(json!("*"), json!("a"), json!({})))
        ));

        let role = "arn:aws:iam::222222222222:role/root";
        for (principal, action, condition) in [
            (json!({"AWS": ["222222222222"]}), json!(["a", "b"]), secure(json!(true))),
            (json!({"AWS": ["222222222222", "333333333333"]}), json!(["a", "c"]), secure(json!(true))),
            (json!({"AWS": ["222222222222", "333333333333"]}), json!(["a", "b"]), secure(json!(false))),
            (json!({"AWS": [role, "333333333333"]}), json!(["a", "b"]), secure(json!(true))),
            (json!({"Service": ["222222222222", "333333333333"]}), json!(["a", "b"]), secure(json!(true))),
        ] {
            let other = policy(principal, action, condition);
            assert!(!is_same_policy(Some(&set), Some(&other)), "{other}");
        }
        // Elsewhere than among principals, an account and its root are two.
        let of = |value: &str| policy(json!("*"), json!("a"), json!({"StringEquals": {"aws:PrincipalArn": value}}));
        assert!(!is_same_policy(Some(&of(root)), Some(&of("222222222222"))));
    }

    #[test]
    fn exclusions_in_another_order_are_no_difference() {
        let of = |filters: &[&str]| Settings {
            tag_mutability_exclusions: filters.iter().map(ToString::to_string).collect(),
            ..settings()
        };
        let account = here().registry_id;
        assert_eq!(of(&["a", "b"]).differences(&of(&["b", "a"]), &account), []);
        assert_eq!(of(&["a", "b"]).differences(&of(&["a"]), &account).len(), 1);
    }

    #[test]
    fn a_key_of_the_target_s_own_leaves_two_layers_two() {
        let there = place("us-east-1", "222222222222");
        for (kind, wanted) in [("AES256", "KMS"), ("KMS", "KMS"), ("KMS_DSSE", "KMS_DSSE")] {
            let source = Settings { encryption: Encryption { kind: kind.to_owned(), key: None }, ..settings() };
            let encryption = source.for_target(None, Some("key"), &here(), &there).encryption;
            assert_eq!(encryption, Encryption { kind: wanted.to_owned(), key: Some("key".to_owned()) });
        }
    }

    fn told(text: &str) -> Vec<SettingChange> {
        ["tagMutability", "scanOnPush", "tags", "lifecyclePolicy", "repositoryPolicy", "encryption"]
            .into_iter()
            .map(|setting| {
                let text = Some(text.to_owned());
                let (before, after, refused) = (text.clone(), text.clone(), text);
                SettingChange { setting: setting.to_owned(), before, after, refused }
            })
            .collect()
    }

    #[test]
    fn settings_are_cut_as_far_as_they_have_to_be() {
        let few = told(&"x".repeat(100)).split_off(4);
        assert_eq!(shortened(few.clone()), few);
        let long = shortened(told(&"x".repeat(200)).split_off(4));
        assert_eq!(long[0].before.as_deref(), Some(&*format!("{}…", "x".repeat(125))));
        // What is short already stays.
        let mut mixed = told("true");
        mixed[3].after = Some("x".repeat(600));
        assert_eq!(shortened(mixed.clone())[0], mixed[0]);
    }

    /// What the state machine leaves of a cause, in bytes of JSON.
    fn cause_limit() -> usize {
        let machine = include_str!("../../../statemachine/replicate-image.asl.json");
        let fits = machine.split("'....')) <= ").nth(1).unwrap();
        fits.split(' ').next().unwrap().parse().unwrap()
    }

    /// Terraform reckons with so many bytes for each target, beside the rule's own settings and its targets as they are written.
    #[test]
    fn how_a_target_ends_fits_into_what_step_functions_carries() {
        let terraform = include_str!("../../../terraform/modules/rules/problems.tf");
        let figure = |name: &str| -> usize {
            let line = terraform.lines().map(str::trim).find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let (outcome, targets) = (figure("largest_outcome"), figure("most_targets"));
        assert!(outcome * targets < figure("largest_round"), "the rule has room, too");
        let digest = Digest::of(b"referrer");
        let refusal = |text: &str| Refusal {
            tag: Some(format!("{}.sbom", digest.as_str().replace(':', "-")).parse().unwrap()),
            digest: digest.clone(),
            error: "RepositoryNotFound".to_owned(),
            message: shorten_json(&text.repeat(1000), REFUSAL_LIMIT),
        };
        let put = |text: &str| Put {
            status: Status::Replicated,
            manifests_copied: 10_000,
            manifests_skipped: 10_000,
            referrers_copied: 999,
            referrers_skipped: 999,
            referrers_refused: 999,
            refusals: vec![refusal(text); MOST_REFUSALS],
            completed_at: now(),
            duration_ms: 999_999,
            throttled: 99_999,
        };
        let failure = |text: &str| Failure {
            step: "EnsureRepository".to_owned(),
            error: "Lambda.ClientExecutionTimeoutException".to_owned(),
            cause: shorten_json(&text.repeat(2000), cause_limit()),
        };
        for text in ["x", "\"", "\\", "ä", "漢", "😀", "\n", "\u{1}"] {
            let ended = [(Some(put(text)), None), (None, Some(failure(text)))];
            let worst = ended.map(|(put, failure)| Outcome {
                retries: 9999,
                target: Target::own("ap-southeast-1".parse().unwrap(), "r".repeat(256).parse().unwrap()),
                ensure: Some(Ensured {
                    created: false,
                    settings: shortened(told(&text.repeat(256))),
                    duration_ms: 99_999,
                    throttled: 99_999,
                }),
                copied: CopiedInAll {
                    layers_copied: 10_000,
                    layers_streamed: 10_000,
                    bytes_copied: 1 << 50,
                    duration_ms: 99_999_999,
                    throttled: 9_999_999,
                    layers_foreign: 10_000,
                    shards: 999,
                },
                put,
                failure,
            });
            let bytes = worst.map(|worst| serde_json::to_string(&worst).unwrap().len());
            assert!(bytes.iter().all(|bytes| *bytes <= outcome), "{bytes:?} of {outcome} with {text:?}");
        }
    }

    #[test]
    fn a_key_counts_only_where_the_target_has_one_of_its_own() {
        let own = |key: Option<&str>| Settings {
            encryption: Encryption { kind: "KMS".to_owned(), key: key.map(str::to_owned) },
            ..settings()
        };
        let account = here().registry_id;
        assert_eq!(own(Some("default")).differences(&own(None), &account), []);
        let differences = own(Some("default")).differences(&own(Some("mine")), &account);
        assert!(differences[0].told.refused.is_some());
    }

    #[test]
    fn a_policy_that_would_lock_the_owner_out_is_not_set() {
        let account = here().registry_id;
        let policy = |principal: Value, action: Value, condition: Value| {
            json!({"Statement": {"Effect": "Deny", "Principal": principal, "Action": action, "Condition": condition}})
                .to_string()
        };
        for (principal, action, condition, is_locked) in [
            (json!("*"), json!("ecr:*"), json!({}), true),
            (json!({"AWS": "*"}), json!(["ecr:PutImage", "ecr:Set*"]), json!({}), true),
            (json!({"AWS": ["arn:aws:iam::111111111111:root"]}), json!("*"), json!({}), true),
            (json!({"AWS": "111111111111"}), json!("ECR:SetRepositoryPolicy"), json!({}), true),
            (json!({"AWS": "222222222222"}), json!("ecr:*"), json!({}), false),
            (json!("*"), json!("ecr:DeleteRepository"), json!({}), false),
            (json!("*"), json!("ecr:*"), json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}), false),
            (json!("*"), json!("ecr:Set?epository*"), json!({}), true),
            (json!("*"), json!("ecr:Set?Repository*"), json!({}), false),
        ] {
            let text = policy(principal, action, condition);
            assert_eq!(locks_out(&text, &account), is_locked, "{text}");
        }
        let own_role = json!({"AWS": "arn:aws:iam::111111111111:role/admin"});
        for (members, is_locked) in [
            (json!({"NotPrincipal": {"AWS": ["arn:aws:iam::222222222222:root"]}, "Action": "*"}), true),
            // AWS asks for the account beside its role.
            (json!({"NotPrincipal": own_role, "Action": "*"}), true),
            (json!({"NotPrincipal": {"AWS": ["111111111111", "222222222222"]}, "Action": "*"}), false),
            (json!({"NotPrincipal": {"AWS": "arn:aws:iam::111111111111:root"}, "Action": "*"}), false),
            (json!({"Principal": "*", "NotAction": "ecr:BatchGetImage"}), true),
            (json!({"Principal": "*", "NotAction": ["ecr:BatchGetImage", "ecr:SetRepository*"]}), false),
            (json!({"Principal": {"AWS": "222222222222"}, "NotAction": "ecr:BatchGetImage"}), false),
            (json!({"NotPrincipal": {"AWS": "222222222222"}, "NotAction": "ecr:PutImage"}), true),
            (json!({"Action": "*"}), false),
        ] {
            let mut statement = members.clone();
            statement["Effect"] = json!("Deny");
            let text = json!({"Statement": [statement]}).to_string();
            assert_eq!(locks_out(&text, &account), is_locked, "{members}");
        }
        let wanted = Settings { repository_policy: Some(policy(json!("*"), json!("*"), json!({}))), ..settings() };
        let differences = settings().differences(&wanted, &account);
        assert_eq!(differences[0].change, None);
        assert!(differences[0].told.refused.as_ref().unwrap().contains("111111111111"));
    }
}
