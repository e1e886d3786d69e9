//! The whole path on one machine: the Terraform module applied to a stand-in for AWS, and a real client that pushes.
//!
//! [`LocalStack::start`] runs ministack (EventBridge, Step Functions, Lambda, IAM, SQS, Logs) and a local ECR on free
//! loopback ports, applies `tests/local` to them with Terraform, and stops everything when it is dropped. `make demo` and
//! the end-to-end tests share it.

mod between;
mod error;
mod events;
mod executions;
mod image;
mod layout;
mod logs;
mod ministack;
mod process;
mod redrive;
mod registry;
mod sample;
mod stack;
mod terraform;

pub use aws_sdk_sfn::types::ExecutionStatus;
pub use between::{Call, Fate, Invocation};
pub use error::Error;
pub use events::ReportEvent;
pub use executions::{Execution, Executions, HistoryEvent, MapRun};
pub use image::{Client, Image, Pushed};
pub use registry::{Contents, Registry};
pub use sample::Sample;
pub use stack::{CopyLayers, LocalStack, Options, SOURCE, Undeployed};
pub use terraform::{FUNCTIONS, plan};
