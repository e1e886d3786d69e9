//! The Lambda function `copy-layers`.

use copy_layers::Dependencies;
use shared::{config, registry::Registries, serve::serve};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let memory = lambda_runtime::Config::from_env().memory;
    let dependencies = Dependencies::new(Registries::new(config::from_env().await)?, memory)?;
    serve(dependencies, async |dependencies, input, deadline| copy_layers::handle(dependencies, input, deadline).await)
        .await
}
