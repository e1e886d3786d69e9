//! The Lambda function `ensure-repo`.

use shared::{config, registry::Registries, serve::serve};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let registries = Registries::new(config::from_env(config::ATTEMPT).await)?;
    serve(registries, async |registries, input, _| ensure_repo::handle(registries, input).await).await
}
