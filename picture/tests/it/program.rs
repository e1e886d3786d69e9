//! The program, as a person calls it.

use std::{fs, process::Output};

use serde_json::json;
use tokio::process::Command;

use crate::{
    history::{ARN, History, START},
    runs::two_targets,
    service::serve,
};

/// Calls the program as somebody who is signed in, or is not.
async fn picture(arguments: &[&str], is_signed_in: bool) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_picture"));
    program.env_clear().env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", "/nonexistent").args(arguments);
    if is_signed_in {
        program.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    }
    program.output().await.unwrap()
}

#[tokio::test]
async fn it_writes_the_page_and_says_where() {
    let described = json!({"status": "SUCCEEDED", "stopDate": START + 7204.0});
    let url = serve(&two_targets(|_, redriven| redriven), described).await;
    let home = tempfile::tempdir().unwrap();
    let page = home.path().join("run.html");
    let path = page.to_str().unwrap();
    let output = picture(&[ARN, "--output", path, "--endpoint-url", &url], true).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{path}\n"));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<title>prod/app:v1: succeeded</title>"), "{page}");
}

#[tokio::test]
async fn it_says_what_is_wrong() {
    let url = serve(&two_targets(|_, redriven| redriven), json!({"status": "SUCCEEDED"})).await;
    let mut other = History::default();
    other.start(&json!({}));
    other.task(0, (0.1, 0.2), "BuildAnApp", &json!({}));
    let other = serve(&other, json!({"status": "SUCCEEDED"})).await;
    let unknown = ARN.replace("a-push", "nobody");
    let nowhere = "http://127.0.0.1:9";
    let calls: [(&[&str], bool, &str); 6] = [
        (&["a-push"], true, "`a-push` is not the ARN of an execution: that is arn:aws:states:"),
        (&[&unknown, "--endpoint-url", &url], true, "there is no execution arn:aws:states:eu-central-1:123456789012:"),
        (&[ARN, "--endpoint-url", &other], true, "is no execution of ecr-replicator: arn:aws:states:eu-central-1:"),
        (&[ARN, "--endpoint-url", &url], false, "there are no AWS credentials: sign in"),
        (&[ARN, "--endpoint-url", nowhere], true, "DescribeExecution failed: dispatch failure"),
        (
            &[ARN, "--endpoint-url", &url, "--output", "/no/such/place"],
            true,
            "could not write /no/such/place: No such file",
        ),
    ];
    for (arguments, is_signed_in, problem) in calls {
        let output = picture(arguments, is_signed_in).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(problem), "{said}");
    }
}
