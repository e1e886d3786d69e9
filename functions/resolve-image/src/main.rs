//! The Lambda function `resolve-image`.

use shared::{config, registry::Registries, serve::serve};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let registries = Registries::new(config::from_env(config::ATTEMPT).await)?;
    serve(registries, async |registries, input, _| resolve_image::handle(registries, input).await).await
}
