//! The Lambda function `copy-layers`.

use copy_layers::{Dependencies, Settings};
use shared::{config, registry::Registries, serve::serve};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let memory = lambda_runtime::Config::from_env().memory;
    let settings = Settings::read(memory, |name| std::env::var(name).ok())?;
    let dependencies = Dependencies::new(Registries::new(config::from_env(config::PART_ATTEMPT).await)?, settings)?;
    serve(dependencies, async |dependencies, input, deadline| copy_layers::handle(dependencies, input, deadline).await)
        .await
}
