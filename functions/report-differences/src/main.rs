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
    let dependencies =
        Dependencies::new(bucket, StepFunctions::new(&config), Events::new(&config), variable("DEPLOYMENT")?);
    serve(dependencies, async |dependencies, input, _| handle(dependencies, input).await).await
}
