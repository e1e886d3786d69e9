//! Pictures of histories as Step Functions writes them: what is read out of one, what the page shows, what the program says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod browser;
mod history;
mod pages;
mod program;
mod runs;
mod service;
