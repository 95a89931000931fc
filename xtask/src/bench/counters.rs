//! System calls and instructions of a proxy, counted by the kernel while the load runs (`perf stat`).
//!
//! The tracepoint `raw_syscalls:sys_enter` counts without stopping the process, unlike a debugger; instructions need a
//! performance counter, which many virtual machines do not have. It does not know which proxy is counted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::peer::words;
use crate::install::{self, Requirement};
use crate::tree;

const SYSTEM_CALLS: &str = "raw_syscalls:sys_enter";
const INSTRUCTIONS: &str = "instructions";

/// What was counted, for each request; nothing where the machine does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counters {
    /// System calls of the proxy.
    pub(crate) system_calls: Option<f64>,
    /// Instructions, of the proxy and of the kernel for it.
    pub(crate) instructions: Option<f64>,
}

/// The program that counts.
#[derive(Debug)]
pub(crate) struct Perf(PathBuf);

impl Perf {
    /// Finds it or installs it; without it the figures are whole but for a column.
    pub(crate) fn prepare() -> Option<Perf> {
        if let Err(error) = install::ensure_programs(&[Requirement { program: "perf", package: "linux-perf" }]) {
            eprintln!("warning: system calls are not counted: {error:#}");
        }
        tree::find_program("perf").map(Perf)
    }

    /// The command line that runs `load` and counts for these processes meanwhile.
    pub(crate) fn around(&self, load: &[String], processes: &[u32], into: &Path) -> Vec<String> {
        let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
        let events = format!("{SYSTEM_CALLS},{INSTRUCTIONS}");
        let into = into.to_string_lossy();
        let own = ["stat", "-x", ",", "-o", &into, "-e", &events, "-p", &processes.join(","), "--"];
        [words(&self.0, &own), load.to_vec()].concat()
    }
}

/// Reads what was counted during `requests` requests.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn read(path: &Path, requests: f64) -> Result<Counters> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let each = |event| count(&text, event).map(|count| count / requests);
    Ok(Counters { system_calls: each(SYSTEM_CALLS), instructions: each(INSTRUCTIONS) })
}

/// The count of an event in comma-separated lines: count, unit, event, and more.
fn count(text: &str, event: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.split(',').nth(2) == Some(event))?;
    line.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_the_machine_does_not_count_is_no_count() {
        let text = "# started on a day\n\n144,,raw_syscalls:sys_enter,1750000,100.00,,\n<not supported>,,instructions,0,100.00,,\n";
        assert_eq!(count(text, SYSTEM_CALLS), Some(144.0));
        assert_eq!(count(text, INSTRUCTIONS), None);
        assert_eq!(count("", SYSTEM_CALLS), None);
    }
}
