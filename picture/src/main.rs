//! `make picture EXECUTION=<arn>`: a picture of a run.

use std::{
    fs,
    io::{Write as _, stderr, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sfn::{Client, config::ProvideCredentials as _};
use clap::Parser;
use picture::{Error, ExecutionArn};

/// Write one HTML page of an execution: its targets, its steps, and what took the time.
#[derive(Debug, Parser)]
struct Arguments {
    /// The execution's ARN, which also tells the region
    execution: String,
    /// Where to write the page
    #[arg(long, short, value_name = "FILE", default_value = "run.html")]
    output: PathBuf,
    /// Where Step Functions is, if not in AWS
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => {
            let _ = writeln!(stdout(), "{}", arguments.output.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(stderr(), "error: {}", shared::error::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Error> {
    let arn = ExecutionArn::parse(&arguments.execution)?;
    let mut config = aws_config::defaults(BehaviorVersion::v2026_01_12()).region(Region::new(arn.region));
    if let Some(url) = &arguments.endpoint_url {
        config = config.endpoint_url(url);
    }
    let config = config.load().await;
    if let Some(provider) = config.credentials_provider() {
        provider.provide_credentials().await.map_err(|error| Error::NoCredentials(error.into()))?;
    }
    let run = picture::read(&Client::new(&config), &arguments.execution).await?;
    // What a stand-in for AWS has run is in no console.
    write(&arguments.output, &picture::page(&run, config.endpoint_url().is_none())?)
}

fn write(path: &Path, page: &str) -> Result<(), Error> {
    fs::write(path, page).map_err(|source| Error::Write { path: path.to_owned(), source })
}
