//! What a replication rule selects.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;
use wildmatch::WildMatchPattern;

use crate::{
    contract::{RepositorySettings, SettingsMode, Target},
    names::{MalformedName, Region, RegistryId, RepositoryName, RoleArn},
};

/// The most targets of a request, as of a rule: what is told of more is more than Step Functions carries.
pub const MOST_TARGETS: usize = 60;

/// Names that are selected: patterns in which `*` stands for any characters, `/` among them, and for none.
///
/// It means what the event pattern means that Terraform makes of it. EventBridge cannot hold one field to two matchers, so where
/// a filter both includes and excludes, the pattern lets through what is excluded.
///
/// ```
/// use shared::rules::Filter;
/// let filter: Filter = serde_json::from_str(r#"{"include": ["v*"], "exclude": ["*-rc*"]}"#).unwrap();
/// assert!(filter.selects("v1.2"));
/// assert!(!filter.selects("v1.2-rc1"));
/// assert!(!filter.selects("latest"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Filter {
    /// The filter that includes what matches one of `patterns`.
    #[must_use]
    pub fn of(patterns: Vec<String>) -> Self {
        Self { include: patterns, exclude: Vec::new() }
    }

    /// Whether `name` matches one that it includes, and none that it excludes.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        let matches = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        matches(&self.include) && !matches(&self.exclude)
    }

    /// Whether it selects every name.
    #[must_use]
    pub fn selects_all(&self) -> bool {
        self.exclude.is_empty() && self.include.iter().any(|pattern| pattern == "*")
    }
}

/// Whether `text` is `pattern`, where `*` stands for any characters and every other character for itself.
fn matches(pattern: &str, text: &str) -> bool {
    // The library has a second wildcard, for one character: a byte that no name has.
    WildMatchPattern::<'*', '\0'>::new(pattern).matches(text)
}

/// A replication rule: what it selects, and where that goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The repositories.
    pub repositories: Filter,
    /// The tags.
    pub tags: Filter,
    /// Whether images that are pushed without a tag are replicated, too.
    pub untagged: bool,
    /// Where they go.
    pub targets: Vec<RequestedTarget>,
    /// The rule's own settings for target repositories.
    pub repository_settings: Option<RepositorySettings>,
}

/// A target as a rule, or a person, names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestedTarget {
    /// The target region.
    pub region: Region,
    /// What the repository is called there; as at the source where it does not say.
    pub repository: Option<TargetName>,
    /// The account whose registry it is.
    pub registry_id: Option<RegistryId>,
    /// The role that is assumed to reach it.
    pub role_arn: Option<RoleArn>,
    /// What that role wants to hear.
    pub external_id: Option<String>,
    /// The KMS key of a repository that is made there.
    pub kms_key_arn: Option<String>,
    /// What becomes of the repository's settings.
    #[serde(default)]
    pub settings: SettingsMode,
}

/// What the repository is called at a target.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "NameInput")]
pub enum TargetName {
    /// This.
    Fixed(RepositoryName),
    /// As at the source, after a prefix.
    Prefix(String),
    /// As at the source, with another beginning.
    ReplacePrefix {
        /// That beginning.
        from: String,
        /// What stands for it.
        to: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NameInput {
    Text(String),
    Change(NameChange),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NameChange {
    prefix: Option<String>,
    replace_prefix: Option<ReplacePrefix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplacePrefix {
    from: String,
    to: String,
}

impl TryFrom<NameInput> for TargetName {
    type Error = String;

    fn try_from(input: NameInput) -> Result<Self, String> {
        match input {
            NameInput::Text(name) => name.parse().map(Self::Fixed).map_err(|error| error.to_string()),
            NameInput::Change(NameChange { prefix: Some(prefix), replace_prefix: None }) => Ok(Self::Prefix(prefix)),
            NameInput::Change(NameChange { prefix: None, replace_prefix: Some(ReplacePrefix { from, to }) }) => {
                Ok(Self::ReplacePrefix { from, to })
            }
            NameInput::Change(_) => Err("needs either `prefix` or `replacePrefix`".to_owned()),
        }
    }
}

impl TargetName {
    /// What a repository is called that is `source` at the source.
    ///
    /// # Errors
    /// When that is no name, or has not the beginning that is to be replaced.
    pub fn of(&self, source: &RepositoryName) -> Result<RepositoryName, String> {
        let name = match self {
            Self::Fixed(name) => return Ok(name.clone()),
            Self::Prefix(prefix) => format!("{prefix}{source}"),
            Self::ReplacePrefix { from, to } => {
                let rest = source.as_str().strip_prefix(from.as_str());
                let rest =
                    rest.ok_or_else(|| format!("{source} does not begin with `{from}`, which is to be replaced"))?;
                format!("{to}{rest}")
            }
        };
        name.parse().map_err(|error: MalformedName| error.to_string())
    }
}

/// A rule, or a target, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Unusable {
    /// What of the input it is about.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Unusable {
    Unusable { field: field.into(), problem: problem.into() }
}

/// The rule `name` of `rules`.
///
/// # Errors
/// When it is none of them, or cannot be read.
pub fn find(name: &str, rules: &BTreeMap<String, Value>) -> Result<Rule, Unusable> {
    let rule = rules.get(name).ok_or_else(|| {
        let known: Vec<&str> = rules.keys().map(String::as_str).collect();
        invalid("rule", format!("`{name}` is none of the rules here: {}", known.join(", ")))
    })?;
    Rule::deserialize(rule).map_err(|error| invalid(format!("rules.{name}"), error.to_string()))
}

/// The distinct targets of `source_repository`, which is in the region `source`.
///
/// # Errors
/// When there is none, or are too many, or when one is not what a target must be; the error says which.
pub fn resolve_targets(
    requested: &[RequestedTarget],
    source_repository: &RepositoryName,
    source: &Region,
) -> Result<Vec<Target>, Unusable> {
    if requested.is_empty() {
        return Err(invalid("targets", "is empty: nowhere to replicate to"));
    }
    if requested.len() > MOST_TARGETS {
        let problem =
            format!("are {}, and at most {MOST_TARGETS} fit into an execution: start several", requested.len());
        return Err(invalid("targets", problem));
    }
    let mut seen = HashSet::new();
    let mut targets = Vec::new();
    for (index, target) in requested.iter().enumerate() {
        let field = |name: &str| format!("targets[{index}]{name}");
        let repository = match &target.repository {
            Some(name) => name.of(source_repository).map_err(|problem| invalid(field(".repository"), problem))?,
            None => source_repository.clone(),
        };
        let RequestedTarget { region, registry_id, role_arn, external_id, kms_key_arn, settings, .. } = target;
        if region == source && repository == *source_repository && registry_id.is_none() {
            return Err(invalid(field(""), format!("is the source itself: {source_repository} in {source}")));
        }
        if let Some(role) = role_arn
            && registry_id.as_ref().map(RegistryId::as_str) != Some(role.account())
        {
            return Err(invalid(
                field(".registryId"),
                format!("is not {}, the account that the role is of", role.account()),
            ));
        }
        if registry_id.is_some() && role_arn.is_none() && *settings != SettingsMode::None {
            let problem = "needs a `roleArn`, or the settings `none`: without a role, another account's repository must be there \
                           already; and this account's registry needs no `registryId`";
            return Err(invalid(field(".registryId"), problem));
        }
        // The same target twice is one target.
        if seen.insert((region.clone(), registry_id.clone(), repository.clone())) {
            targets.push(Target {
                region: region.clone(),
                repository,
                registry_id: registry_id.clone(),
                role_arn: role_arn.clone(),
                external_id: external_id.clone(),
                kms_key_arn: kms_key_arn.clone(),
                settings: *settings,
                put_interval_ms: None,
            });
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect();
        Filter { include: owned(include), exclude: owned(exclude) }
    }

    #[test]
    fn a_wildcard_stands_for_any_characters_and_for_none() {
        for (pattern, text, is_match) in [
            ("*", "anything/at-all", true),
            ("prod/*", "prod/app", true),
            ("prod/*", "prod/team/app", true),
            ("prod/*", "prod/", true),
            ("prod/*", "prod", false),
            ("prod/*", "not/prod/app", false),
            ("*/app", "prod/app", true),
            ("*/app", "prod/app2", false),
            ("p*d/*p", "prod/app", true),
            ("v1.*", "v1x2", false),
            ("v?", "v1", false),
            ("app", "app", true),
            ("app", "App", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), is_match, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_excluded_is_not_selected_whatever_includes_it() {
        let filter = filter(&["prod/*", "base"], &["prod/scratch-*", "*/tmp"]);
        for (name, is_selected) in [
            ("prod/app", true),
            ("base", true),
            ("base/image", false),
            ("prod/scratch-1", false),
            ("prod/team/tmp", false),
            ("dev/app", false),
        ] {
            assert_eq!(filter.selects(name), is_selected, "{name}");
        }
    }

    #[test]
    fn only_a_filter_that_excludes_nothing_selects_all() {
        assert!(filter(&["*"], &[]).selects_all());
        assert!(filter(&["prod/*", "*"], &[]).selects_all());
        assert!(!filter(&["*"], &["dev"]).selects_all());
        assert!(!filter(&["v*"], &[]).selects_all());
    }
}
