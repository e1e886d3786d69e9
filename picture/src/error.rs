use std::{error::Error as StdError, io, path::PathBuf};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The argument is no execution's ARN.
    #[error(
        "`{arn}` is not the ARN of an execution: that is arn:aws:states:<region>:<account>:execution:<state machine>:<name>"
    )]
    MalformedArn {
        /// The argument.
        arn: String,
    },
    /// There is no such execution.
    #[error("there is no execution {arn} (Step Functions keeps one for 90 days after its end)")]
    Unknown {
        /// Its ARN.
        arn: String,
    },
    /// The execution is of another state machine.
    #[error("{arn} is no execution of ecr-replicator: {state_machine} begins with the state {state}")]
    OtherStateMachine {
        /// Its ARN.
        arn: String,
        /// That state machine.
        state_machine: String,
        /// The state that it begins with.
        state: String,
    },
    /// Nobody is signed in.
    #[error("there are no AWS credentials: sign in, with AWS_PROFILE for a profile that is not the default")]
    NoCredentials(#[source] Box<dyn StdError + Send + Sync>),
    /// Step Functions did not answer.
    #[error("{operation} failed")]
    Call {
        /// The call.
        operation: &'static str,
        /// What it answered.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The page could not be rendered.
    #[error("the page could not be rendered")]
    Render(#[from] askama::Error),
    /// The page could not be written.
    #[error("could not write {}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
