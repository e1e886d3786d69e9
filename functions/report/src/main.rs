//! The Lambda function `report`.

use report::{Dependencies, handle};
use shared::serve::serve;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let dependencies = Dependencies::new(&shared::config::from_env().await);
    serve(dependencies, async |dependencies, input, _| handle(dependencies, input).await).await
}
