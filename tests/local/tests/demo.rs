//! `make demo`, as a person sees it: what it prints, what it writes, how it ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/demo");

fn demo(image: &str, targets: &str) -> Output {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.env("IMAGE", image).env("TARGETS", targets).env_remove("KEEP").env_remove("RECONCILE").output().unwrap()
}

/// Holds a run that should have succeeded to what it printed and wrote; the report.
fn succeeded(output: &Output, targets: &[&str]) -> Value {
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(printed.matches("  same digest  ").count(), targets.len(), "{printed}");

    let read = |name| serde_json::from_slice::<Value>(&fs::read(Path::new(DIRECTORY).join(name)).unwrap()).unwrap();
    let history = read("history.json");
    let events = history["events"].as_array().unwrap();
    assert_eq!(events.last().unwrap()["type"], "ExecutionSucceeded");

    let picture = fs::read_to_string(Path::new(DIRECTORY).join("run.html")).unwrap();
    assert!(picture.contains(": succeeded</title>") && printed.contains("target/demo/run.html"), "{printed}");
    for target in targets {
        assert!(picture.contains(&format!("<b>{target}</b>")), "no lane for {target}");
    }

    let report = read("report.json");
    assert!(printed.contains(report["image"]["digest"].as_str().unwrap()), "{printed}");
    let mut reported = Vec::new();
    for target in report["targets"].as_array().unwrap() {
        assert_eq!(target["status"], "REPLICATED");
        reported.push(target["region"].as_str().unwrap());
    }
    reported.sort_unstable();
    assert_eq!(reported, targets);
    report
}

#[test]
fn it_ends_with_the_image_in_three_regions() {
    let report = succeeded(&demo("", ""), &["ap-southeast-2", "eu-west-1", "us-west-2"]);
    assert_eq!(report["image"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(report["image"]["manifests"], 3, "an index of two platforms");
}

/// A demo that stays up, until this ends.
struct Kept(Child);

impl Kept {
    /// As Ctrl-C does.
    fn interrupt(&mut self) -> Option<i32> {
        Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.interrupt();
    }
}

#[test]
fn it_stays_up_when_it_is_told_to_and_says_how_to_use_it() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "skopeo is not installed");
        return;
    }
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.env("KEEP", "1").env("TARGETS", "eu-west-1").env_remove("IMAGE").env_remove("RECONCILE");
    let mut demo = Kept(demo.stdout(Stdio::piped()).spawn().unwrap());
    let mut output = BufReader::new(demo.0.stdout.take().unwrap());
    let mut printed = String::new();
    while !printed.contains("/_admin/faults") {
        assert_ne!(output.read_line(&mut printed).unwrap(), 0, "{printed}");
    }
    let commands: Vec<&str> = printed.split("\n\n").filter(|block| block.starts_with("  skopeo copy ")).collect();
    let [push, pull] = &commands[..] else { panic!("{printed}") };
    let run = |command: &str| {
        let directory = Path::new(DIRECTORY).join("../..");
        Command::new("sh").args(["-c", command]).current_dir(directory).output().unwrap()
    };
    let pushed = run(push);
    assert!(pushed.status.success(), "{pushed:?}");
    let since = Instant::now();
    let mut pulled = run(pull);
    while !pulled.status.success() {
        assert!(since.elapsed() < Duration::from_mins(2), "{pulled:?}");
        sleep(Duration::from_millis(200));
        pulled = run(pull);
    }
    assert_eq!(demo.interrupt(), Some(130));
}

#[test]
fn it_finds_and_repairs_what_was_there_before() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    let demo = demo.env("RECONCILE", "1").env("TARGETS", "eu-west-1").env_remove("KEEP").output().unwrap();
    let printed = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{printed}\n{}", String::from_utf8_lossy(&demo.stderr));
    let steps = ["\n  audit ", "\n  plan ", "\n  repair ", "\n  audit "];
    let mut from = 0;
    for step in steps {
        from += printed[from..].find(step).unwrap_or_else(|| panic!("no {step:?} in its place: {printed}")) + 1;
    }
    assert!(printed.contains(" 12 of 12 images replicated, 0 failed"), "{printed}");
    let plans = printed.lines().filter(|line| line.contains(" would cross, ") && line.ends_with(" a GB"));
    assert_eq!(plans.count(), 1, "a plan's figures are told once: {printed}");
    let report = fs::read(Path::new(DIRECTORY).join("reconcile-report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!((&report["complete"], &report["items"]), (&Value::Bool(true), &Value::from(0)));
}

#[test]
fn it_takes_an_image_that_another_tool_made() {
    let home = tempfile::tempdir().unwrap();
    let layout = home.path().join("layout");
    let layout = layout.to_str().unwrap();
    let image = format!("{layout}:licences");
    let umoci = |arguments: &[&str]| Command::new("umoci").args(arguments).output();
    if umoci(&["--version"]).is_err() {
        // Said aloud, because a test that did not run must not look like one that passed.
        eprintln!("SKIPPED: umoci is not installed");
        return;
    }
    for arguments in [
        &["init", "--layout", layout][..],
        &["new", "--image", &image],
        &["insert", "--rootless", "--image", &image, "/usr/share/common-licenses", "/licences"],
        &["insert", "--rootless", "--image", &image, "/usr/bin/umoci", "/usr/bin/umoci"],
    ] {
        let output = umoci(arguments).unwrap();
        assert!(output.status.success(), "umoci {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let report = succeeded(&demo(&image, "eu-west-3,sa-east-1"), &["eu-west-3", "sa-east-1"]);
    assert_eq!(report["image"]["manifests"], 1);
    assert_eq!(report["image"]["blobs"], 3, "a config, and a layer for each insertion");
}

#[test]
fn it_says_what_is_wrong_with_its_settings() {
    for (image, targets, problem) in [
        ("", "mars", "TARGETS: malformed region `mars`"),
        ("", "eu-central-1", "TARGETS: eu-central-1 is the source"),
        ("no/such/image", "", "no/such/image"),
    ] {
        let output = demo(image, targets);
        assert_eq!(output.status.code(), Some(1));
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(printed.contains(problem), "{printed}");
    }
}
