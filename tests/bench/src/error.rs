use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {doing}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
    #[error("{operation} failed")]
    Call {
        operation: &'static str,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// What a program or the harness itself has to say.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io { doing, source }
    }

    pub(crate) fn call<E: Into<Box<dyn StdError + Send + Sync>>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Call { operation, source: source.into() }
    }

    /// A program's failure, with the end of its log.
    pub(crate) fn program(what: &str, problem: &str, log: &Path) -> Self {
        let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n");
        Self::Failed(format!("{what} {problem}; {}:\n{tail}", log.display()))
    }

    /// The error with everything that it came from.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        text
    }
}
