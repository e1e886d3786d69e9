//! What a replication rule selects.

use serde::Deserialize;
use wildmatch::WildMatchPattern;

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
