//! The Lambda function `report`.

use report::{Dependencies, handle};
use shared::{config, serve::serve};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let deployment = std::env::var("DEPLOYMENT").map_err(|error| format!("DEPLOYMENT: {error}"))?;
    let dependencies = Dependencies::new(&config::from_env(config::ATTEMPT).await, deployment);
    serve(dependencies, async |dependencies, input, _| handle(dependencies, input).await).await
}
