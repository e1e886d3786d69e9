//! The Lambda function `report-differences`.

use report_differences::{Dependencies, handle};
use shared::{config, serve::serve};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let (bucket, deployment) = (variable("BUCKET")?, variable("DEPLOYMENT")?);
    let dependencies = Dependencies::new(&config::from_env().await, bucket, deployment);
    serve(dependencies, async |dependencies, input, _| handle(dependencies, input).await).await
}
