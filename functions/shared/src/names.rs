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
    /// A repository name: 2 to 256 characters of lowercase path components.
    ///
    /// ```
    /// use shared::names::RepositoryName;
    /// assert!("prod/my-app".parse::<RepositoryName>().is_ok());
    /// assert!("Prod//app".parse::<RepositoryName>().is_err());
    /// ```
    RepositoryName,
    "repository name",
    "2 to 256 characters: lowercase letters and digits, separated by single `.`, `_`, `-` or `/`",
    |text| {
        (2..=256).contains(&text.len())
            && text.split(['.', '_', '-', '/']).all(|word| {
                !word.is_empty()
                    && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        #[test]
        fn names_survive_json(
            repository in "[a-z0-9]{1,8}([._/-][a-z0-9]{1,8}){1,4}",
            tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}",
        ) {
            let repository: RepositoryName = repository.parse().unwrap();
            let json = serde_json::to_string(&repository).unwrap();
            prop_assert_eq!(serde_json::from_str::<RepositoryName>(&json).unwrap(), repository);
            let tag: ImageTag = tag.parse().unwrap();
            let json = serde_json::to_string(&tag).unwrap();
            prop_assert_eq!(serde_json::from_str::<ImageTag>(&json).unwrap(), tag);
        }
    }
}
