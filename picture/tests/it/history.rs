//! Histories as Step Functions writes them, by hand: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html>.

use serde_json::{Value, json};

pub(crate) const ARN: &str = "arn:aws:states:eu-central-1:123456789012:execution:ecr-replicator-replicate-image:a-push";

/// When the execution started: 2026-11-26 08:00:00 UTC.
pub(crate) const START: f64 = 1_795_680_000.0;

/// A history, as events are added to it.
#[derive(Debug, Default, Clone)]
pub(crate) struct History {
    pub(crate) events: Vec<Value>,
}

impl History {
    /// Adds an event that follows the event `previous`, so many seconds after the start. Its number.
    pub(crate) fn add(&mut self, previous: i64, seconds: f64, r#type: &str, details: Value) -> i64 {
        let id = i64::try_from(self.events.len()).unwrap() + 1;
        let mut event = json!({"timestamp": START + seconds, "type": r#type, "id": id, "previousEventId": previous});
        if let Value::Object(details) = details {
            event.as_object_mut().unwrap().extend(details);
        }
        self.events.push(event);
        id
    }

    pub(crate) fn start(&mut self, input: &Value) {
        let details = json!({"input": input.to_string(), "roleArn": "arn:aws:iam::123456789012:role/any"});
        self.add(0, 0.0, "ExecutionStarted", json!({"executionStartedEventDetails": details}));
    }

    pub(crate) fn enter(&mut self, previous: i64, at: f64, kind: &str, name: &str, input: &Value) -> i64 {
        let details = json!({"name": name, "input": input.to_string()});
        self.add(previous, at, &format!("{kind}StateEntered"), json!({"stateEnteredEventDetails": details}))
    }

    pub(crate) fn exit(&mut self, previous: i64, at: f64, kind: &str, name: &str, output: &Value) -> i64 {
        let details = json!({"name": name, "output": output.to_string()});
        self.add(previous, at, &format!("{kind}StateExited"), json!({"stateExitedEventDetails": details}))
    }

    /// A task's function is called.
    pub(crate) fn schedule(&mut self, previous: i64, at: f64, payload: &Value) -> i64 {
        let parameters =
            json!({"FunctionName": "arn:aws:lambda:eu-central-1:123456789012:function:any:live", "Payload": payload});
        let details = json!({
            "resourceType": "lambda", "resource": "invoke", "region": "eu-central-1", "timeoutInSeconds": 65,
            "parameters": parameters.to_string(),
        });
        let scheduled = self.add(previous, at, "TaskScheduled", json!({"taskScheduledEventDetails": details}));
        let details = json!({"resourceType": "lambda", "resource": "invoke"});
        self.add(scheduled, at, "TaskStarted", json!({"taskStartedEventDetails": details}))
    }

    pub(crate) fn succeed(&mut self, previous: i64, at: f64) -> i64 {
        let details = json!({"resourceType": "lambda", "resource": "invoke", "output": "{\"Payload\": {}}"});
        self.add(previous, at, "TaskSucceeded", json!({"taskSucceededEventDetails": details}))
    }

    pub(crate) fn fail(&mut self, previous: i64, at: f64, error: &str, message: &str) -> i64 {
        let cause = json!({"errorType": error, "errorMessage": message}).to_string();
        let details = json!({"resourceType": "lambda", "resource": "invoke", "error": error, "cause": cause});
        self.add(previous, at, "TaskFailed", json!({"taskFailedEventDetails": details}))
    }

    /// A task that succeeds at once, from `from` to `to`.
    pub(crate) fn task(&mut self, previous: i64, (from, to): (f64, f64), name: &str, input: &Value) -> i64 {
        let entered = self.enter(previous, from, "Task", name, input);
        let started = self.schedule(entered, from, input);
        let succeeded = self.succeed(started, to);
        self.exit(succeeded, to, "Task", name, input)
    }

    pub(crate) fn iteration(&mut self, previous: i64, at: f64, map: &str, index: usize, what: &str) -> i64 {
        let details = json!({format!("mapIteration{what}EventDetails"): {"name": map, "index": index}});
        self.add(previous, at, &format!("MapIteration{what}"), details)
    }

    /// A Map, entered and started.
    pub(crate) fn map(&mut self, previous: i64, at: f64, name: &str, length: usize, input: &Value) -> i64 {
        let entered = self.enter(previous, at, "Map", name, input);
        self.add(entered, at, "MapStateStarted", json!({"mapStateStartedEventDetails": {"length": length}}))
    }

    /// The end of a Map, after the end of one of its iterations.
    pub(crate) fn end_map(&mut self, previous: i64, at: f64, name: &str, output: &Value) -> i64 {
        let succeeded = self.add(previous, at, "MapStateSucceeded", Value::Null);
        self.exit(succeeded, at, "Map", name, output)
    }
}

pub(crate) fn image() -> Value {
    json!({
        "region": "eu-central-1", "repository": "prod/app", "tag": "v1", "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": format!("sha256:{}", "ab".repeat(32)), "manifests": 3, "referrers": 0, "referrersLeftOut": 0,
        "blobs": 8, "bytes": 39_845_888, "pushedAt": "2026-11-26T07:59:58Z",
    })
}

pub(crate) fn target(region: &str) -> Value {
    json!({"region": region, "repository": "prod/app"})
}

/// What `ReplicateToTargets` is given.
pub(crate) fn round(number: usize, targets: &[Value], settled: &Value) -> Value {
    json!({
        "image": image(), "referrers": [], "rule": "releases", "round": number, "redrives": number - 1,
        "targets": targets, "repositorySettings": null, "settled": settled,
    })
}

/// What `ReplicateToTargets` ends with.
pub(crate) fn finished(number: usize, outcomes: &[Value], settled: &Value) -> Value {
    json!({
        "image": image(), "referrers": [], "rule": "releases", "round": number, "redrives": number - 1,
        "repositorySettings": null, "settled": settled, "outcomes": outcomes, "finishedAt": "2026-11-26T08:00:30Z",
    })
}

/// What a task of a target is given.
pub(crate) fn task_input(target: &Value, layers: &Value) -> Value {
    json!({"execution": "a-push", "image": image(), "target": target, "layers": layers})
}

/// An iteration that ended with the image at its target.
pub(crate) fn replicated(target: &Value, bytes: u64) -> Value {
    let copied = json!({
        "layersCopied": 6, "layersStreamed": 6, "bytesCopied": bytes, "durationMs": 9000, "layersForeign": 0, "shards": 2,
    });
    let put = json!({
        "status": "REPLICATED", "manifestsCopied": 3, "manifestsSkipped": 0, "referrersCopied": 0, "referrersSkipped": 0,
        "referrersRefused": 0, "refusals": [], "completedAt": "2026-11-26T08:00:18Z", "durationMs": 900,
    });
    json!({"target": target, "ensure": {"created": true, "settings": [], "durationMs": 400}, "copied": copied, "put": put})
}

/// An iteration that caught an error.
pub(crate) fn failed(target: &Value, error: &str, message: &str) -> Value {
    let cause = json!({"errorType": error, "errorMessage": message}).to_string();
    json!({"target": target, "failure": {"step": "CopyLayers", "error": error, "cause": cause}})
}
