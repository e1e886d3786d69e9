//! The Lambda function `find-differences`.

use find_differences::{Dependencies, handle};
use shared::{
    config,
    registry::Registries,
    serve::serve,
    service::{Bucket, StepFunctions},
};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let config = config::from_env(config::ATTEMPT).await;
    let bucket = Bucket::new(&config, variable("BUCKET")?);
    let step_functions = StepFunctions::new(&config);
    let dependencies =
        Dependencies::new(Registries::new(config)?, bucket, step_functions, variable("REPLICATION_ARN")?);
    serve(dependencies, async |dependencies, input, deadline| handle(dependencies, input, deadline).await).await
}
