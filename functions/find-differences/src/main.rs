//! The Lambda function `find-differences`.

use find_differences::{Dependencies, handle};
use shared::{config, registry::Registries, serve::serve};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let (bucket, replication) = (variable("BUCKET")?, variable("REPLICATION_ARN")?);
    let config = config::from_env().await;
    let dependencies = Dependencies::new(Registries::new(config.clone())?, &config, bucket, replication);
    serve(dependencies, async |dependencies, input, deadline| handle(dependencies, input, deadline).await).await
}
