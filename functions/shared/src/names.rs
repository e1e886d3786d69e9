//! Names as Amazon ECR accepts them: parsed once, valid from there on.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A name that is not one; the message shows the name and the valid form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {kind} `{given}`: expected {expected}")]
pub struct MalformedName {
    kind: &'static str,
    given: String,
    expected: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = MalformedName;

            fn from_str(text: &str) -> Result<Self, MalformedName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let given = text.chars().take(100).collect();
                    Err(MalformedName { kind: $kind, given, expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = MalformedName;

            fn try_from(text: String) -> Result<Self, MalformedName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A content digest, `sha256:` and 64 lowercase hex digits: the one algorithm that ECR stores.
    ///
    /// ```
    /// use shared::names::Digest;
    /// let digest: Digest = format!("sha256:{}", "0a".repeat(32)).parse().unwrap();
    /// assert!("sha512:00".parse::<Digest>().is_err());
    /// assert_eq!(digest.as_str().len(), 71);
    /// ```
    Digest,
    "digest",
    "`sha256:` and 64 lowercase hex digits",
    |text| {
        text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    }
);

impl Digest {
    /// The digest of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(content))
    }

    /// The digest of everything that `hasher` has seen.
    #[must_use]
    pub fn from_hash(hasher: Sha256) -> Self {
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in hasher.finalize() {
            for nibble in [byte >> 4, byte & 0xf] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Self(text)
    }
}

name!(
    /// A repository name: 2 to 256 characters of lowercase path components. Sources disagree on separators: `__` and `--` are of
    /// ECR's service model, and not of every page of its documentation.
    ///
    /// ```
    /// use shared::names::RepositoryName;
    /// assert!("prod/my--app".parse::<RepositoryName>().is_ok());
    /// assert!("Prod//app".parse::<RepositoryName>().is_err());
    /// ```
    RepositoryName,
    "repository name",
    "2 to 256 characters: lowercase letters and digits, separated by `.`, `_`, `__`, `-`, `--` and so on, or a single `/`",
    |text| {
        let of_word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let is_separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
        (2..=256).contains(&text.len())
            && text.split('/').all(|part| {
                part.starts_with(of_word) && part.ends_with(of_word) && part.split(of_word).all(is_separator)
            })
    }
);

name!(
    /// An image tag: 1 to 300 characters, as the ECR API allows.
    ///
    /// ```
    /// use shared::names::ImageTag;
    /// assert!("v1.2_rc-3".parse::<ImageTag>().is_ok());
    /// assert!("-v1".parse::<ImageTag>().is_err());
    /// ```
    ImageTag,
    "image tag",
    "1 to 300 characters: letters, digits, `.`, `_` and `-`, beginning with a letter, a digit or `_`",
    |text| {
        (1..=300).contains(&text.len())
            && !text.starts_with(['.', '-'])
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    }
);

name!(
    /// An AWS region, such as `eu-west-1`.
    ///
    /// ```
    /// use shared::names::Region;
    /// assert!("us-gov-west-1".parse::<Region>().is_ok());
    /// assert!("Frankfurt".parse::<Region>().is_err());
    /// ```
    Region,
    "region",
    "the code of an AWS region, such as `eu-west-1`",
    |text| {
        let words: Vec<&str> = text.split('-').collect();
        words.len() >= 3
            && text.len() <= 32
            && words.iter().enumerate().all(|(index, word)| {
                let wanted: fn(u8) -> bool = if index + 1 == words.len() {
                    |byte| byte.is_ascii_digit()
                } else {
                    |byte| byte.is_ascii_lowercase()
                };
                !word.is_empty() && word.bytes().all(wanted)
            })
    }
);

name!(
    /// A registry's ID: the number of the account that it belongs to.
    ///
    /// ```
    /// use shared::names::RegistryId;
    /// assert!("123456789012".parse::<RegistryId>().is_ok());
    /// assert!("12345".parse::<RegistryId>().is_err());
    /// ```
    RegistryId,
    "registry ID",
    "the 12 digits of an AWS account",
    |text| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
);

name!(
    /// The ARN of an IAM role.
    ///
    /// ```
    /// use shared::names::RoleArn;
    /// assert!("arn:aws:iam::123456789012:role/team/replicator".parse::<RoleArn>().is_ok());
    /// assert!("arn:aws:iam::123456789012:user/me".parse::<RoleArn>().is_err());
    /// ```
    RoleArn,
    "role ARN",
    "the ARN of an IAM role, such as `arn:aws:iam::123456789012:role/replicator`",
    |text| {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        text.len() <= 2048
            && matches!(parts[..], ["arn", partition, "iam", "", account, role]
                if partition.starts_with("aws")
                    && RegistryId::from_str(account).is_ok()
                    && role.strip_prefix("role/").is_some_and(|name| {
                        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
                    }))
    }
);

impl RoleArn {
    /// The account that the role is of.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::LazyLock};

    use proptest::{prelude::*, string::string_regex};
    use regex::Regex;

    use super::*;

    /// What is documented of a name: a pattern, and how many characters it may have.
    struct Grammar {
        pattern: &'static str,
        lengths: std::ops::RangeInclusive<usize>,
        /// The pattern with its repetitions bounded, to make texts from.
        bounded: &'static str,
    }

    /// ECR's of a repository's name, from its service model.
    const REPOSITORY: Grammar = Grammar {
        pattern: "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*)*",
        lengths: 2..=256,
        bounded: "(?:[a-z0-9]{1,8}(?:(?:\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}/){0,3}[a-z0-9]{1,9}(?:(?:\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}",
    };
    /// The OCI distribution specification's of a tag, as long as ECR's API reference has it.
    const TAG: Grammar = Grammar {
        pattern: "[a-zA-Z0-9_][a-zA-Z0-9._-]*",
        lengths: 1..=300,
        bounded: "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,299}",
    };
    /// The OCI image specification's of a digest by SHA-256.
    const DIGEST: Grammar =
        Grammar { pattern: "sha256:[a-f0-9]{64}", lengths: 71..=71, bounded: "sha256:[a-f0-9]{64}" };
    /// What the codes of regions have in common; AWS documents a list and no pattern.
    const REGION: Grammar = Grammar {
        pattern: "[a-z]+(?:-[a-z]+)+-[0-9]+",
        lengths: 1..=32,
        bounded: "[a-z]{1,6}(?:-[a-z]{1,6}){1,3}-[0-9]{1,2}",
    };

    /// A pattern that matches a text as a whole.
    fn whole(pattern: &str) -> Regex {
        Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap()
    }

    impl Grammar {
        fn accepts(&self, text: &str) -> bool {
            // Compiled once for each pattern: a property is held to thousands of texts.
            static PATTERNS: LazyLock<[(&str, Regex); 4]> =
                LazyLock::new(|| [REPOSITORY, TAG, DIGEST, REGION].map(|it| (it.pattern, whole(it.pattern))));
            let (_, pattern) = PATTERNS.iter().find(|(pattern, _)| *pattern == self.pattern).unwrap();
            self.lengths.contains(&text.chars().count()) && pattern.is_match(text)
        }

        /// Texts of this grammar.
        fn valid(&self) -> impl Strategy<Value = String> + use<> {
            let lengths = self.lengths.clone();
            let texts = string_regex(self.bounded).unwrap();
            texts.prop_filter("of a documented length", move |text| lengths.contains(&text.len()))
        }

        /// Texts near this grammar, within it or not, and texts far from it.
        fn near(&self) -> impl Strategy<Value = String> + use<> {
            let letter = prop_oneof![
                2 => proptest::sample::select(vec!['/', '.', '_', '-']),
                1 => proptest::char::any(),
                1 => proptest::sample::select("/._-:@%?# \0\n\r\t\"\\AZaz09ß\u{202e}\u{301}".chars().collect::<Vec<_>>()),
            ];
            let place = (any::<proptest::sample::Index>(), proptest::bool::weighted(0.2));
            let edits = proptest::collection::vec((place, letter, 0..3), 0..3);
            let ends = [self.lengths.start() - 1, *self.lengths.start(), *self.lengths.end(), self.lengths.end() + 1];
            let length = proptest::option::weighted(0.2, proptest::sample::select(ends.to_vec()));
            let edited = (self.valid(), edits, length).prop_map(|(text, edits, length)| {
                let mut letters: Vec<char> = text.chars().collect();
                for ((place, is_first), letter, edit) in edits {
                    let place = if is_first { 0 } else { place.index(letters.len() + 1) };
                    match edit {
                        0 => letters.insert(place, letter),
                        1 if place < letters.len() => letters[place] = letter,
                        _ => letters.truncate(place),
                    }
                }
                // As short and as long as may be, and a letter beyond that.
                if let (Some(length), Some(&last)) = (length, letters.last()) {
                    letters.resize(length, last);
                }
                String::from_iter(letters)
            });
            prop_oneof![9 => edited, 1 => any::<String>()]
        }
    }

    /// Holds a name to its grammar: no more is accepted, no less, and what is keeps its text.
    fn agrees<N>(grammar: &Grammar, text: &str) -> Result<(), TestCaseError>
    where
        N: FromStr<Err = MalformedName> + fmt::Display + Serialize + serde::de::DeserializeOwned,
    {
        let parsed = text.parse::<N>();
        prop_assert_eq!(parsed.is_ok(), grammar.accepts(text), "{:?}", text);
        let decoded = serde_json::from_value::<N>(serde_json::Value::from(text));
        match (parsed, decoded) {
            (Ok(name), Ok(decoded)) => {
                prop_assert_eq!(name.to_string(), text);
                prop_assert_eq!(serde_json::to_value(decoded).unwrap(), text);
            }
            (Err(error), Err(_)) => prop_assert!(error.to_string().len() < 1000, "{}", error),
            _ => prop_assert!(false, "the text and its JSON are not judged alike: {text:?}"),
        }
        Ok(())
    }

    /// A property that is held to texts of one sort only would show nothing.
    #[test]
    fn texts_near_a_grammar_are_on_both_sides_of_it() {
        use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
        let mut runner = TestRunner::deterministic();
        for grammar in [REPOSITORY, TAG, DIGEST, REGION] {
            let near = grammar.near();
            let sides: HashSet<bool> =
                (0..200).map(|_| grammar.accepts(&near.new_tree(&mut runner).unwrap().current())).collect();
            assert_eq!(sides.len(), 2, "{}", grammar.pattern);
        }
    }

    #[test]
    fn a_digest_is_computed_as_sha256sum_prints_it() {
        assert_eq!(
            Digest::of(b"hello\n").as_str(),
            "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        );
    }

    #[test]
    fn malformed_names_are_refused_and_shown() {
        for bad in ["", "sha256:", "sha256:AB", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        for bad in ["a", "a//b", "/a", "a/", "A/b", "a b", "a..b", "ä/b", &"a".repeat(257)] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
        for bad in ["", ".a", "-a", "a b", "a:b", &"a".repeat(301)] {
            assert!(bad.parse::<ImageTag>().is_err(), "{bad}");
        }
        for bad in ["", "eu", "eu-west", "eu-west-", "EU-west-1", "eu-west-1a", "eu--1"] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
        let message = "Eu".parse::<Region>().unwrap_err().to_string();
        assert_eq!(message, "malformed region `Eu`: expected the code of an AWS region, such as `eu-west-1`");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_the_documentation_has_is_accepted_and_keeps_its_text(
            repository in REPOSITORY.valid(), tag in TAG.valid(), digest in DIGEST.valid(), region in REGION.valid(),
        ) {
            prop_assert!(repository.parse::<RepositoryName>().is_ok(), "{}", repository);
            prop_assert!(tag.parse::<ImageTag>().is_ok(), "{}", tag);
            prop_assert!(digest.parse::<Digest>().is_ok(), "{}", digest);
            prop_assert!(region.parse::<Region>().is_ok(), "{}", region);
        }

        #[test]
        fn what_is_accepted_is_what_the_documentation_has(
            repository in REPOSITORY.near(), tag in TAG.near(), digest in DIGEST.near(), region in REGION.near(),
        ) {
            agrees::<RepositoryName>(&REPOSITORY, &repository)?;
            agrees::<ImageTag>(&TAG, &tag)?;
            agrees::<Digest>(&DIGEST, &digest)?;
            agrees::<Region>(&REGION, &region)?;
        }
    }
}
