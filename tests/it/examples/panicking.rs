//! A function that panics whenever it is invoked, for `state_machine_faults`.

use serde_json::Value;
use shared::serve::serve;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve((), async |(), _: Value, _| -> Result<Value, report::Error> { panic!("a defect of the tests") }).await
}
