//! The program: one line of JSON at the start, nothing left at the end.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Program {
    child: Child,
    address: String,
}

fn start(data: &Path) -> Program {
    start_with(data, &[])
}

fn start_with(data: &Path, arguments: &[&str]) -> Program {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ecr-local"))
        .args(["--port", "0", "--data-dir"])
        .arg(data)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = ready["endpoint"].as_str().unwrap().strip_prefix("http://127.0.0.1:").unwrap();
    Program { address: format!("127.0.0.1:{address}"), child }
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

fn assert_answers(program: &Program) {
    let mut connection = TcpStream::connect(&program.address).unwrap();
    connection.write_all(b"GET /_admin/stats HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("{}"), "{answer}");
}

#[test]
fn it_stops_when_its_input_is_closed() {
    let data = tempfile::tempdir().unwrap();
    let mut program = start(data.path());
    assert_answers(&program);
    assert_eq!(entries(data.path()), 1);
    drop(program.child.stdin.take());
    assert!(program.child.wait().unwrap().success());
    assert_eq!(entries(data.path()), 0);
}

#[test]
fn it_stops_at_a_signal() {
    for signal in ["TERM", "INT"] {
        let data = tempfile::tempdir().unwrap();
        let mut program = start(data.path());
        let id = program.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        assert!(program.child.wait().unwrap().success(), "SIG{signal}");
        assert_eq!(entries(data.path()), 0);
    }
}

#[test]
fn roles_are_told_with_or_without_an_external_id() {
    let data = tempfile::tempdir().unwrap();
    let (open, closed) = ("arn:aws:iam::210987654321:role/open", "arn:aws:iam::210987654321:role/closed");
    let closed_to_others = format!("{closed}#secret");
    let program = start_with(data.path(), &["--role", open, "--role", &closed_to_others]);
    for (role, external_id, status) in [(open, "", 200), (closed, "", 403), (closed, "&ExternalId=secret", 200)] {
        let body = format!("Action=AssumeRole&Version=2011-06-15&RoleArn={role}&RoleSessionName=run{external_id}");
        let scope = "123456789012/20260101/eu-west-1/sts/aws4_request";
        let request = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: AWS4-HMAC-SHA256 Credential={scope}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = TcpStream::connect(&program.address).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{role}{external_id}: {answer}");
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_ecr-local")).args(["--role", "replication"]).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not the ARN of a role"));
}
