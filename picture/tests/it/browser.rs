//! A page in a browser: what is seen of it, and what it does that it should not.

use std::{fs, process::Stdio, time::Duration};

use serde::Deserialize;
use tokio::{process::Command, time::timeout};

/// A laptop's width, for which the page is made.
const WIDTH: u32 = 1280;

/// Opening a page takes a second, but the machine may have other things to do.
const PATIENCE: Duration = Duration::from_mins(2);

/// Looks at the page from outside of it: it runs no script itself.
const FRAME: &str = include_str!("browser.html");

/// What is seen of a page on a screen as wide as a laptop's.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    pub(crate) width: u32,
    pub(crate) text: String,
    pub(crate) outcome: String,
    pub(crate) slowest: Option<String>,
    /// The table's cells; of bytes, the exact number.
    pub(crate) targets: Vec<Vec<String>>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) attempts: Vec<Vec<String>>,
    /// What does not fit into its box, and what is outside of its lane.
    cut: Vec<String>,
    out: Vec<String>,
    /// What was asked of the network, and what could ask for more.
    loaded: Vec<String>,
    foreign: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) height: f64,
    pub(crate) bars: Vec<Bar>,
    pub(crate) caption: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Bar {
    pub(crate) kind: String,
    pub(crate) label: String,
    pub(crate) title: String,
    pub(crate) width: f64,
}

/// Opens a page in Chromium, and holds it to what every page must be. `None` where there is no Chromium.
pub(crate) async fn open(page: &str) -> Option<Seen> {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("page.html"), page).unwrap();
    let frame = home.path().join("frame.html");
    fs::write(&frame, FRAME).unwrap();
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    // Nothing answers there: what the page loads, it loads in vain.
    chromium.args(["--proxy-server=http://127.0.0.1:9", "--enable-logging=stderr", "--allow-file-access-from-files"]);
    chromium.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
    chromium.arg(format!("--window-size={WIDTH},1000")).arg("--dump-dom").arg(frame);
    chromium.stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(PATIENCE, chromium.output()).await.unwrap() {
        Ok(output) => output,
        Err(problem) => {
            assert!(std::env::var_os("CI").is_none(), "Chromium is not installed: {problem}");
            // Said aloud, because a test that did not run must not look like one that passed.
            eprintln!("SKIPPED: Chromium is not installed");
            return None;
        }
    };
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let seen = dom.split_once("<pre>SEEN").and_then(|(_, rest)| rest.split_once("END</pre>"));
    let (seen, _) = seen.unwrap_or_else(|| panic!("{dom}\n{log}"));
    let seen: Seen = serde_json::from_str(&decoded(seen)).unwrap();

    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert_eq!(console, [""; 0], "the console is silent");
    assert!(seen.width <= WIDTH, "{} pixels", seen.width);
    assert_eq!((&seen.cut[..], &seen.out[..]), (&[][..], &[][..]), "everything is in its place");
    assert_eq!((&seen.loaded[..], &seen.foreign[..]), (&[][..], &[][..]), "the page needs nothing else");
    for lane in &seen.lanes {
        assert!(lane.height >= 20.0, "{lane:?}");
        for bar in &lane.bars {
            let is_seen = bar.kind == "wait" || bar.width >= 3.0;
            assert!(is_seen && !bar.title.is_empty(), "{bar:?}");
            // Not by its colour alone.
            assert_eq!(bar.kind == "failed" && !bar.label.is_empty(), bar.label.starts_with('✕'), "{bar:?}");
        }
    }
    Some(seen)
}

/// Undoes `encodeURIComponent`.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
