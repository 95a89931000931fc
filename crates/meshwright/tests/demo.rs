//! `meshwright demo`: every line that it tells people to try works as printed.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::meshwright;

#[test]
fn every_line_to_try_works_as_printed_and_an_interrupt_ends_it_cleanly() {
    let mut demo = meshwright(&["demo", "--rate", "50"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut to_try = Vec::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        if line.starts_with("  curl ") || line.starts_with("  meshwright ") {
            to_try.push(line.trim().to_owned());
        }
        if line.starts_with("A load of 50 requests per second") {
            break;
        }
    }
    let outcomes: Vec<_> = to_try.iter().map(|line| (line, try_line(line))).collect();
    let id = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let last = lines.map_while(Result::ok).last().unwrap_or_default();
    let status = demo.wait().unwrap();

    assert!(to_try.len() >= 10, "{to_try:?}");
    for (line, outcome) in outcomes {
        let expected = if line.contains("/nowhere") { "404" } else { "200" };
        assert_eq!(outcome, expected, "{line}");
    }
    assert_eq!(status.code(), Some(0));
    // How many requests the load sent, and to whom, is a matter of timing: one of the lines above drains an endpoint.
    let counts = last.strip_prefix("ended; since the last line: ").and_then(|counts| counts.split_once(" requests, "));
    let (requests, outcome) = counts.unwrap_or_else(|| panic!("{last}"));
    assert!(requests.parse::<u64>().is_ok_and(|requests| requests > 0), "{last}");
    assert!(outcome.starts_with("0 failed: ") && (outcome.contains("users-") || outcome.contains("posts-")), "{last}");
}

/// Runs one line as a shell does. The status of the answer, 200 for a command that succeeds.
fn try_line(line: &str) -> String {
    let directory = std::path::Path::new(env!("CARGO_BIN_EXE_meshwright")).parent().unwrap();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
    let is_curl = line.starts_with("curl ");
    let script = if is_curl { format!("{line} -sS -m 20 -o /dev/null -w '%{{http_code}}'") } else { line.to_owned() };
    let output = Command::new("sh").args(["-c", &script]).env("PATH", path).output().unwrap();
    match (is_curl, output.status.success()) {
        (true, _) => String::from_utf8(output.stdout).unwrap(),
        (false, true) => "200".to_owned(),
        (false, false) => String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
