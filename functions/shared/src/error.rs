//! Error names: the contract between the functions and the state machine.
//!
//! `Retry` and `Catch` match on these names exactly, so [`ErrorName`] is their only list. The state machine and
//! `docs/errors.md` are held to it by tests.

use std::{error::Error, fmt};

use lambda_runtime::Diagnostic;

/// How the state machine answers an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Waiting helps: retried with growing, jittered delays.
    Retry,
    /// Doing it once more may help: retried a few times at most.
    Restart,
    /// Nothing helps but a person: not retried.
    Fatal,
}

macro_rules! error_names {
    ($($(#[$doc:meta])* $name:ident => $class:ident,)*) => {
        /// The name of an error, as Step Functions sees it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorName {
            $($(#[$doc])* $name,)*
        }

        impl ErrorName {
            /// Every name.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name as the state machine spells it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// How the state machine answers it.
            #[must_use]
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$name => Class::$class,)*
                }
            }
        }
    };
}

error_names! {
    /// The execution's input is not what it must be; the message names the field.
    InvalidInput => Fatal,
    /// The source has no such image, or no longer.
    ImageNotFound => Fatal,
    /// The repository does not exist, or was deleted while the image was on its way.
    RepositoryNotFound => Fatal,
    /// A role, a policy or a key forbids the call.
    AccessDenied => Fatal,
    /// The region's request quota is used up.
    RegistryThrottled => Retry,
    /// The registry failed, or the connection to it did.
    RegistryUnavailable => Retry,
    /// The registry no longer knows an upload: the layer starts again.
    UploadLost => Restart,
    /// Bytes are not those that their digest promises.
    DigestMismatch => Restart,
    /// The target lacks a blob or a manifest that this manifest needs: back to the copy.
    LayersMissing => Restart,
    /// The tag is immutable in the target, and another image has it.
    TagConflict => Fatal,
    /// The tag at the target is to go to a newer image that is on its way there.
    TagUnsettled => Retry,
    /// A service quota of the target is reached.
    QuotaExceeded => Fatal,
    /// The report, or what goes before it into S3, could not be delivered, or Step Functions could not be asked.
    ReportUndelivered => Retry,
    /// At least one target does not have the image: what the report says, as the execution's error.
    ReplicationIncomplete => Fatal,
    /// After a repair, a target differs from the source: what the report says, as the execution's error.
    ReconcileIncomplete => Fatal,
    /// Another reconciliation is under way: after a redrive, this one would be the second.
    RunUnderWay => Fatal,
    /// A defect of this program.
    Internal => Restart,
}

impl fmt::Display for ErrorName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An error that has a name in the contract.
pub trait Named: Error {
    /// Its name.
    fn name(&self) -> ErrorName;
}

/// The most that one error's text may take, in bytes: a line for each of 25 failed targets. Step Functions keeps 32 KiB
/// of a cause.
const MESSAGE_LIMIT: usize = 28 * 1024;

/// What the Lambda runtime answers for `error`: its name, and its whole source chain without secrets.
pub fn diagnostic(error: &impl Named) -> Diagnostic {
    named(error.name(), &chain(error))
}

/// What `error` says, and every source of it after that, without secrets.
pub fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    redact(&message)
}

/// The answer with the name `name` and the text `message`, without secrets.
pub(crate) fn named(name: ErrorName, message: &str) -> Diagnostic {
    Diagnostic { error_type: name.to_string(), error_message: shorten(&redact(message), MESSAGE_LIMIT) }
}

/// `text`, at most `limit` bytes of it.
#[must_use]
pub fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit - '…'.len_utf8()).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// `text`, as much of it as takes at most `limit` bytes as JSON, without the quotes around it: a quote takes two, and what has no
/// letter takes six.
#[must_use]
pub fn shorten_json(text: &str, limit: usize) -> String {
    let size = |text: &str| serde_json::to_string(text).map_or(usize::MAX, |json| json.len() - 2);
    if size(text) <= limit {
        return text.to_owned();
    }
    let mut left = limit.saturating_sub('…'.len_utf8());
    let fits = |letter: &char| {
        let size = size(letter.encode_utf8(&mut [0; 4]));
        left.checked_sub(size).inspect(|rest| left = *rest).is_some()
    };
    let mut text: String = text.chars().take_while(fits).collect();
    text.push('…');
    text
}

/// `text` without what is a credential: the query of a URL, which signs it, the user and the password in one, and what
/// begins with `X-Amz-` elsewhere, for a refused signature is answered with the headers that it was computed from.
fn redact(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        let Some(begin) = secret(word) else {
            redacted.push_str(word);
            continue;
        };
        redacted.push_str(&word[..begin]);
        redacted.push_str("(redacted)");
        redacted.extend(word.chars().last().filter(|last| last.is_whitespace()));
    }
    redacted
}

/// Where the secret in `word` begins, if there is one.
fn secret(word: &str) -> Option<usize> {
    let url = word.find("://").map(|scheme| scheme + "://".len());
    let query = url.and_then(|url| Some(url + word[url..].find('?')? + 1));
    let user = url.filter(|&url| word[url..].split('/').next().is_some_and(|host| host.contains('@')));
    let signed = word.to_ascii_lowercase().find("x-amz-");
    [query, user, signed].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("layer unreadable")]
    struct Outer(#[source] std::io::Error);

    impl Named for Outer {
        fn name(&self) -> ErrorName {
            ErrorName::RegistryUnavailable
        }
    }

    #[test]
    fn a_diagnostic_has_the_name_and_the_whole_chain_without_secrets() {
        let inner = std::io::Error::other("what?https://bucket.s3.example/layer?X-Amz-Signature=secret failed");
        let diagnostic = diagnostic(&Outer(inner));
        assert_eq!(diagnostic.error_type, "RegistryUnavailable");
        assert_eq!(
            diagnostic.error_message,
            "layer unreadable: what?https://bucket.s3.example/layer?(redacted) failed"
        );
    }

    #[test]
    fn what_is_a_credential_is_not_told() {
        for (text, told) in [
            ("no secret: what? a@b", "no secret: what? a@b"),
            ("to https://a.example/b, then", "to https://a.example/b, then"),
            ("(https://a.example/b?c=d&e=ä)\n", "(https://a.example/b?(redacted)\n"),
            ("via http://user:word@proxy:80/ it", "via http://(redacted) it"),
            ("at /b?X-Amz-Signature=s\tis", "at /b?(redacted)\tis"),
            ("'host:ecr\nx-amz-security-token:IQoJ\n\nhost'", "'host:ecr\n(redacted)\n\nhost'"),
            ("x-AMZ-", "(redacted)"),
        ] {
            assert_eq!(redact(text), told);
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(shorten("äää", 6), "äää");
        assert_eq!(shorten("ääää", 6), "ä…");
    }

    #[test]
    fn what_is_escaped_is_cut_to_what_it_takes_escaped() {
        for text in ["x", "\"", "\\", "\n", "\u{1}", "ä", "漢", "😀"] {
            let cut = shorten_json(&text.repeat(300), 200);
            let size = serde_json::to_string(&cut).unwrap().len() - 2;
            assert!(cut.ends_with('…') && (190..=200).contains(&size), "{text:?}: {size}");
        }
        assert_eq!(shorten_json(&"\"".repeat(100), 200), "\"".repeat(100));
    }

    #[test]
    fn names_are_what_step_functions_accepts() {
        for name in ErrorName::ALL {
            let text = name.as_str();
            assert!(text.chars().all(|letter| letter.is_ascii_alphabetic()), "{text}");
            assert!(!text.starts_with("States") && !text.starts_with("Lambda"), "{text}");
        }
    }
}
