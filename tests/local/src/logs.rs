//! What is in CloudWatch Logs.

use serde_json::{Value, json};

use crate::error::Error;
use crate::stack::ACCESS_KEY;

/// Every message of every log group of `region`, a line each.
pub(crate) async fn read(endpoint: &str, region: &str) -> Result<String, Error> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(Error::call("building an HTTP client"))?;
    let call = async |operation: &'static str, input: Value| -> Result<Value, Error> {
        // ministack reads the region of a signature, and does not verify it.
        let scope = format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{region}/logs/aws4_request");
        let request = client.post(endpoint).header("authorization", scope);
        let request = request.header("x-amz-target", format!("Logs_20140328.{operation}"));
        let request = request.header("content-type", "application/x-amz-json-1.1").body(input.to_string());
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        let text = answer.map_err(Error::call(operation))?.text().await.map_err(Error::call(operation))?;
        serde_json::from_str(&text).map_err(|error| Error::answer(operation, format!("{error}: {text}")))
    };
    let mut messages = String::new();
    let groups = call("DescribeLogGroups", json!({})).await?;
    for group in groups["logGroups"].as_array().into_iter().flatten() {
        let mut next = None;
        loop {
            let answer =
                call("FilterLogEvents", json!({"logGroupName": group["logGroupName"], "nextToken": next})).await?;
            for event in answer["events"].as_array().into_iter().flatten() {
                messages.push_str(event["message"].as_str().unwrap_or_default());
                messages.push('\n');
            }
            next = answer.get("nextToken").and_then(Value::as_str).map(ToOwned::to_owned);
            if next.is_none() {
                break;
            }
        }
    }
    Ok(messages)
}
