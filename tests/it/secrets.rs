//! What a whole run writes has no secret in it: the functions' logs at the most verbose level that their environment can ask
//! for, the execution's history, its error, the report.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ecr_local::Fault;
use local_stack::{Client, ExecutionStatus, LocalStack, Options, SOURCE, Sample};

const REPOSITORY: &str = "prod/app";
const TAG: &str = "v1";
const TARGETS: [&str; 3] = ["eu-west-1", "us-west-2", "ap-southeast-2"];
const PATIENCE: Duration = Duration::from_mins(2);

const SECRET_KEY: &str = "wJalrXUtnFEMI-a-secret-key";
const SESSION_TOKEN: &str = "IQoJb3JpZ2lu-a-session-token";

/// Which of `secrets` are in `text`.
fn found<'secret>(text: &str, secrets: &'secret [String]) -> Vec<&'secret str> {
    secrets.iter().map(String::as_str).filter(|secret| text.contains(secret)).collect()
}

/// What a registry's authorization has in common with every other of its account and region: the password, and the user and
/// the password as they go in a header.
async fn authorization(stack: &LocalStack, region: &str) -> [String; 2] {
    let answer = stack.ecr_client(region).get_authorization_token().send().await.unwrap();
    let token = answer.authorization_data()[0].authorization_token().unwrap();
    let decoded = String::from_utf8(STANDARD.decode(token).unwrap()).unwrap();
    let (user, password) = decoded.split_once(':').unwrap();
    // The account and the region come first, then the time: of four letters, each has six bits.
    let password = &password[..("000000000000/".len() + region.len()) * 8 / 6];
    let common = (user.len() + ":".len() + password.len()) * 8 / 6;
    [password.to_owned(), token[..common].to_owned()]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_and_no_report_of_a_run_that_fails_tells_a_secret() {
    let environment = [
        // The level of Lambda's logging controls, and the filter that is read beside it.
        ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
        ("RUST_LOG", "trace"),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", SESSION_TOKEN),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let home = tempfile::tempdir().unwrap();
    let image = Sample { seed: 41, shared_layers: vec![8, 2048], own_layers: vec![64], ..Sample::default() };
    let image = image.write(home.path().join("image")).unwrap();
    let stack = LocalStack::start(Options { environment, ..Options::quick(&TARGETS) }).await.unwrap();
    stack.create_repository(REPOSITORY, |request| request).await.unwrap();

    let [_, refused, failing] = TARGETS;
    let echo = format!("the Canonical String for this request should have been 'x-amz-security-token:{SESSION_TOKEN}");
    for fault in [
        // A download that is refused, and one that breaks.
        Fault::new("DownloadLayer", 403, "AccessDenied").times(3),
        Fault::cut("DownloadLayer", 100).times(3),
        // A registry that refuses the token.
        Fault::new("v2:POST upload", 401, "UNAUTHORIZED").in_region(refused).for_ever(),
        // Errors of the SDK: one that repeats what it was sent, an answer that is none, and a connection that breaks.
        Fault::new("v2:PUT upload", 403, "DENIED").in_region(failing).for_ever(),
        Fault { message: echo, ..Fault::new("InitiateLayerUpload", 403, "InvalidSignatureException") }
            .in_region(failing)
            .for_ever(),
        Fault::of("GetAuthorizationToken").body("<html>").in_region(TARGETS[0]),
        Fault::cut("BatchCheckLayerAvailability", 10).in_region(TARGETS[0]),
    ] {
        stack.ecr().fault(fault);
    }
    let pushed = stack.push(Client::installed(), &image, REPOSITORY, TAG).await.unwrap();
    let execution = stack.execution_for(&pushed.digest, &[]).await.unwrap();
    let execution = stack.finished(&execution.arn, PATIENCE).await.unwrap();
    assert_eq!(execution.status, ExecutionStatus::Failed, "{execution:?}");

    let mut secrets: Vec<String> =
        [SECRET_KEY, SESSION_TOKEN, "X-Amz-Signature", "X-Amz-Date=", "x-expires-at-ms"].map(ToOwned::to_owned).into();
    for region in TARGETS.into_iter().chain([SOURCE]) {
        secrets.extend(authorization(&stack, region).await);
    }
    let reports: Vec<_> = stack.reports(&execution.arn).await.unwrap().into_iter().map(|event| event.report).collect();
    let written = [
        ("the functions' logs", stack.function_logs().await.unwrap()),
        ("the log of what runs them", stack.service_log().unwrap()),
        ("the history", serde_json::to_string(&stack.history(&execution.arn).await.unwrap()).unwrap()),
        ("the execution", format!("{execution:?}")),
        ("the report", serde_json::to_string(&reports).unwrap()),
    ];
    let [(_, logs), .., (_, report)] = &written;
    // The run came to each of the faults, and what was written of them is here.
    for told in ["image resolved", "layers copied", "manifests put", "it goes by parts", "GetAuthorizationToken"] {
        assert!(logs.contains(told), "no `{told}` in {logs}");
    }
    assert!(stack.ecr().faults().iter().all(|state| state.remaining_times.is_none_or(|left| left == 0)));
    for (what, text) in &written {
        assert_eq!(found(text, &secrets), [] as [&str; 0], "{what}");
        // Each would have been found.
        let leaky = format!("{text}{}", secrets.join(" "));
        assert_eq!(found(&leaky, &secrets).len(), secrets.len());
    }
    assert!(
        report.contains("Canonical String") && report.contains("(redacted)"),
        "what was echoed came here: {report}"
    );
}
