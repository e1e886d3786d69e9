//! The Lambda function `report-differences`.

use report_differences::{Dependencies, handle};
use shared::{
    config,
    serve::serve,
    service::{Bucket, Events, StepFunctions},
};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let config = config::from_env(config::ATTEMPT).await;
    let bucket = Bucket::new(&config, variable("BUCKET")?);
    let (step_functions, events) = (StepFunctions::new(&config), Events::new(&config));
    let drift_since = std::env::var("DRIFT_SINCE").ok().map(|time| time.parse()).transpose();
    let drift_since = drift_since.map_err(|error| format!("DRIFT_SINCE: {error}"))?;
    let dependencies = Dependencies::new(bucket, step_functions, events, variable("DEPLOYMENT")?, drift_since);
    serve(dependencies, async |dependencies, input, _| handle(dependencies, input).await).await
}
