//! What the demo shows.

use std::borrow::Cow;
use std::env;
use std::fmt::Display;
use std::io::{IsTerminal as _, Stdout, Write as _, stderr, stdout};
use std::time::{Duration, Instant};

use indicatif::HumanBytes;

/// Standard output: lines, and on a terminal bars.
#[derive(Debug)]
pub(crate) struct Screen {
    out: Stdout,
    /// Whether somebody is watching it.
    pub(crate) is_live: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let is_dumb = env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Self { out: stdout(), is_live: stdout().is_terminal() && env::var_os("CI").is_none() && !is_dumb }
    }

    pub(crate) fn line(&self, text: impl Display) {
        // A reader that went away is no reason to leave the stack half done.
        let _ = writeln!(self.out.lock(), "{text}");
    }

    /// A step of the demo that is over: what it was, what came of it, how long it took.
    pub(crate) fn step(&self, name: &str, what: impl Display, since: Instant) {
        self.line(format!("  {name:<9} {:<66} {:>7}", what.to_string(), seconds(since.elapsed())));
    }

    pub(crate) fn problem(&self, text: &str) {
        let _ = self.out.lock().flush();
        let _ = writeln!(stderr(), "\nfailed: {text}");
    }

    /// Columns as wide as what is in them; all but the first two to the right.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([head[column].len()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let show = |cells: Vec<Cow<'_, str>>| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            self.line(format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end());
        };
        show(head.iter().map(|cell| Cow::from(*cell)).collect());
        for row in rows {
            show(row.iter().map(Cow::from).collect());
        }
    }
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

pub(crate) fn milliseconds(count: u64) -> String {
    seconds(Duration::from_millis(count))
}

pub(crate) fn bytes(count: u64) -> String {
    if count == 0 { "0 B".to_owned() } else { HumanBytes(count).to_string() }
}

/// A count and its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
