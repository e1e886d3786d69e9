//! The Lambda function `put-manifest`.

use shared::{config, registry::Registries, serve::serve};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let registries = Registries::new(config::from_env(config::ATTEMPT).await)?;
    serve(registries, async |registries, input, deadline| put_manifest::handle(registries, input, deadline).await).await
}
