//! The names that ECR knows, each checked once where it enters.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A value that breaks the documented pattern of its parameter.
#[derive(Debug, thiserror::Error)]
#[error("Invalid parameter at '{parameter}' failed to satisfy constraint: '{constraint}'")]
pub(crate) struct InvalidName {
    parameter: &'static str,
    constraint: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $parameter:literal, $valid:expr, $constraint:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub(crate) struct $name(String);

        impl $name {
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(value: String) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&value) {
                    Ok(Self(value))
                } else {
                    Err(InvalidName { parameter: $parameter, constraint: $constraint })
                }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;

            fn try_from(value: &str) -> Result<Self, InvalidName> {
                Self::try_from(value.to_owned())
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
    /// An AWS account, which is a registry in each region.
    Account,
    "registryId",
    |value| value.len() == 12 && value.bytes().all(|byte| byte.is_ascii_digit()),
    "must satisfy regular expression '[0-9]{12}'"
);

name!(
    /// A region's code.
    Region,
    "region",
    |value| {
        (1..=32).contains(&value.len())
            && value.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    },
    "must be a region"
);

name!(
    /// A repository's name, namespaces included.
    RepositoryName,
    "repositoryName",
    |value| (2..=256).contains(&value.len()) && value.split('/').all(is_path_component),
    "must have length 2 to 256 and satisfy regular expression \
     '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*'"
);

name!(
    /// The sha256 digest of a layer or a manifest.
    Digest,
    "digest",
    |value| {
        value.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    },
    "must satisfy regular expression 'sha256:[a-f0-9]{64}'"
);

name!(
    /// An image's tag.
    ImageTag,
    "imageTag",
    |value| {
        (1..=300).contains(&value.len())
            && !value.starts_with(['.', '-'])
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    },
    "must have length 1 to 300 and satisfy regular expression '[a-zA-Z0-9_][a-zA-Z0-9._-]*'"
);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new().chain_update(bytes))
    }

    pub(crate) fn from_hash(hash: Sha256) -> Self {
        Self(format!("sha256:{}", hex(&hash.finalize())))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(|byte| alphanumeric(*byte));
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.chunk_by(|left, right| alphanumeric(*left) == alphanumeric(*right)).all(|run| {
            alphanumeric(run[0]) || matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-')
        })
}

/// One region's registry of one account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Registry {
    pub(crate) account: Account,
    pub(crate) region: Region,
}

impl Registry {
    /// The start of every repository ARN of this registry; the repository's name follows.
    pub(crate) fn arn_prefix(&self) -> String {
        let region = self.region.as_str();
        let partition = match region {
            _ if region.starts_with("cn-") => "aws-cn",
            _ if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:ecr:{region}:{}:repository/", self.account)
    }
}

/// A repository as the error messages of ECR name it.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryPlace {
    pub(crate) account: Account,
    pub(crate) name: RepositoryName,
}

impl fmt::Display for RepositoryPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "repository with name '{}' in the registry with id '{}'", self.name, self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_models_pattern() {
        for valid in ["ab", "prod/app", "a-b", "a--b", "a_b", "a__b", "a.b/c", "0/1/2"] {
            assert!(RepositoryName::try_from(valid).is_ok(), "{valid}");
        }
        for invalid in ["a", "", "Ab", "a//b", "/ab", "ab/", "-ab", "ab-", "a___b", "a..b", "a._b", "a b", "a:b"] {
            assert!(RepositoryName::try_from(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn digests_are_lower_case_sha256() {
        assert!(Digest::try_from(Digest::of(b"x").as_str()).is_ok());
        for invalid in ["sha256:abc", "sha512:00", "", &Digest::of(b"x").as_str().to_uppercase()] {
            assert!(Digest::try_from(invalid).is_err(), "{invalid}");
        }
    }
}
