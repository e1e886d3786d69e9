//! The results as Markdown.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::results::{Contender, Judged, Measured, Results};

/// What stands before and after a table in a document.
pub(crate) type Marks = (&'static str, &'static str);

/// Those of the workloads.
pub(crate) const BENCH: Marks = ("<!-- bench:begin -->", "<!-- bench:end -->");

/// Those of the audits.
pub(crate) const AUDIT: Marks = ("<!-- audit:begin -->", "<!-- audit:end -->");

/// The tables, and where their figures come from.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = format!("Machine: {}.", results.machine);
    for (peer, version) in &results.peers {
        let _ = write!(text, " {peer}: {version}.");
    }
    text.push_str("\n\n| Workload | Network | Aim | Found | |\n|---|---|---|---|---|\n");
    for workload in &results.workloads {
        for judged in &workload.aims {
            let _ = writeln!(
                text,
                "| {} | {} | {}: {} | {} | {} |",
                title(workload),
                network(workload),
                judged.contender,
                judged.aim,
                judged.found,
                met(judged)
            );
        }
    }
    text.push_str(
        "\n| Workload | Who | Median | Runs | Of the limit | By a peer's time | Calls | Layer bytes | Wire bytes | Peak memory | \
         Processor time | MB per core and second | Machine busy | Invocations |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for workload in &results.workloads {
        for contender in &workload.contenders {
            row(&mut text, workload, contender);
        }
    }
    text.push_str("\n| Workload | Measured | Commit | Runs |\n|---|---|---|---|\n");
    for workload in &results.workloads {
        let date = workload.at.strftime("%Y-%m-%d");
        for contender in &workload.contenders {
            let runs: Vec<String> = contender.seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
            let name = &contender.name;
            let _ = writeln!(
                text,
                "| {}: {name} | {date} | {} | {} s |",
                workload.name,
                workload.revision,
                runs.join(", ")
            );
        }
    }
    text
}

fn row(text: &mut String, workload: &Measured, contender: &Contender) {
    let dash = || "–".to_owned();
    let ratios: Vec<String> = contender.ratio.iter().map(|(peer, ratio)| format!("{ratio:.2} x {peer}")).collect();
    let processor = contender.user_seconds + contender.system_seconds;
    let _ = writeln!(
        text,
        "| {} | {} | {:.2} s | {} | {} | {} | {} | {} | {} | {} | {:.1} + {:.1} s | {} | {:.0} % | {} |",
        title(workload),
        contender.name,
        contender.median_seconds,
        contender.seconds.len(),
        contender.limit_seconds.map_or_else(dash, |limit| {
            format!("{:.0} % of {limit:.2} s", 100.0 * limit / contender.median_seconds)
        }),
        if contender.ours && !ratios.is_empty() { ratios.join(", ") } else { dash() },
        contender.calls.values().sum::<u64>(),
        match workload.layer_bytes_missing {
            0 => bytes(contender.layer_bytes),
            missing => {
                let times = crate::figures::ratio(contender.layer_bytes, missing);
                format!("{}, {times:.2} x", bytes(contender.layer_bytes))
            }
        },
        bytes(contender.wire_bytes),
        bytes(contender.peak_memory),
        contender.user_seconds,
        contender.system_seconds,
        // Of a few bytes it would say nothing.
        if contender.layer_bytes > 256 * 1024 * 1024 && processor > 0.0 {
            format!("{:.0}", crate::figures::ratio(contender.layer_bytes, 1_000_000) / processor)
        } else {
            dash()
        },
        contender.machine_busy * 100.0,
        contender.invocations.map_or_else(dash, |invocations| invocations.to_string()),
    );
}

fn title(workload: &Measured) -> String {
    format!("{}: {}", workload.name, workload.title)
}

fn network(workload: &Measured) -> String {
    match workload.bits_per_second {
        Some(rate) => format!("{} ms, {} Mbit/s", workload.round_trip_ms, rate / 1_000_000),
        None => "loopback".to_owned(),
    }
}

fn bytes(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    if bytes >= 10 * MIB { format!("{} MiB", bytes / MIB) } else { format!("{} KiB", bytes / 1024) }
}

/// The table of audits.
pub(crate) fn of_audits(results: &Results) -> String {
    let mut text = format!("Machine: {}.\n\n", results.machine);
    text.push_str(
        "| Images | Repositories | Targets | Differ | Time | Images a second | Calls to ECR | Least | For 1,000 images and registry | \
         Writes to S3 | Peak memory | Processor time | Machine busy |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for audit in &results.audits {
        let registries = (audit.images * (audit.targets + 1)) as u64;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.2} s | {:.0} | {} | {} | {:.1} | {} | {} | {:.1} + {:.1} s | {:.0} % |",
            audit.images,
            audit.repositories,
            audit.targets,
            audit.differences,
            audit.seconds,
            audit.images_per_second(),
            audit.calls(),
            audit.least_calls,
            crate::figures::ratio(audit.calls() * 1000, registries),
            audit.writes,
            bytes(audit.peak_memory),
            audit.user_seconds,
            audit.system_seconds,
            audit.machine_busy * 100.0,
        );
    }
    text.push_str("\n| Aim | Found | |\n|---|---|---|\n");
    for judged in crate::audit::judge(&results.audits) {
        let _ = writeln!(text, "| {} | {} | {} |", judged.aim, judged.found, met(&judged));
    }
    if let Some(audit) = results.audits.last() {
        let _ = writeln!(text, "\nMeasured {}, commit {}.", audit.at.strftime("%Y-%m-%d"), audit.revision);
    }
    text
}

fn met(judged: &Judged) -> &'static str {
    if judged.met { "met" } else { "**missed**" }
}

/// Writes a table between its marks in a document.
pub(crate) fn write(document: &Path, table: &str, marks: Marks) -> Result<(), Error> {
    let text = fs::read_to_string(document).map_err(Error::io(format!("read {}", document.display())))?;
    let (begin, end) = marks;
    let text = replace(&text, table, marks)
        .ok_or_else(|| Error::Failed(format!("{} has no {begin} and {end}", document.display())))?;
    fs::write(document, text).map_err(Error::io(format!("write {}", document.display())))
}

fn replace(text: &str, table: &str, (begin, end): Marks) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{}\n{end}{after}", table.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_last_one() {
        let once = replace("# A\n<!-- bench:begin -->\n<!-- bench:end -->\nB\n", "| 1 |\n", BENCH).unwrap();
        assert_eq!(once, "# A\n<!-- bench:begin -->\n| 1 |\n<!-- bench:end -->\nB\n");
        assert_eq!(replace(&once, "| 1 |\n", BENCH).unwrap(), once);
        assert_eq!(replace("nothing", "| 1 |", BENCH), None);
    }
}
