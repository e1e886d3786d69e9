use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the local stack could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that is made beforehand is not there.
    #[error("{} is not there: {remedy}", path.display())]
    Missing {
        /// What is missing.
        path: PathBuf,
        /// What makes it.
        remedy: &'static str,
    },
    /// A file or a process could not be used.
    #[error("could not {doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} {problem}; the end of {}:\n{tail}", log.display())]
    Program {
        /// Its name.
        program: String,
        /// What it did.
        problem: String,
        /// Where it wrote.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// The image is not one that can be pushed.
    #[error("{image}: {problem}")]
    Image {
        /// The image, as it was given.
        image: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A call to the local stack failed.
    #[error("{operation} failed")]
    Call {
        /// The call.
        operation: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// An answer was not what it must be.
    #[error("{operation}: {problem}")]
    Answer {
        /// What was asked.
        operation: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// Something took too long.
    #[error("waited {seconds} s for {what}; {standing}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// How things stand.
        standing: String,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn call<E: StdError + Send + Sync + 'static>(operation: impl Into<String>) -> impl FnOnce(E) -> Self {
        let operation = operation.into();
        move |source| Self::Call { operation, source: Box::new(source) }
    }

    pub(crate) fn answer(operation: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Answer { operation: operation.into(), problem: problem.into() }
    }

    pub(crate) fn image(image: &Path, problem: impl Into<String>) -> Self {
        Self::Image { image: image.display().to_string(), problem: problem.into() }
    }

    /// The error and what caused it, in one line for each level that says something new.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            let level = error.to_string();
            if !text.contains(&level) {
                text.push_str(": ");
                text.push_str(&level);
            }
            source = error.source();
        }
        text
    }
}
