//! What the kernel says about processes: CPU time by the scheduler's clock, resident memory, the process tree.
//!
//! `/proc/PID/task/TID/schedstat` counts nanoseconds on a core (unlike the ticks of `/proc/PID/stat`);
//! `/proc/PID/smaps_rollup` sums the mappings' resident pages, and shares out pages that several processes map (Pss).
//! It does not know which proxy the numbers belong to.

use std::fs;

use anyhow::{Context as _, Result};

/// Resident memory in KiB, summed over processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident set: every resident page of every process, shared ones counted in each.
    pub(crate) rss_kib: u64,
    /// Proportional set: a page that n mappings share counts one n-th in each.
    pub(crate) pss_kib: u64,
}

/// CPU time of all threads of these processes since their start, in nanoseconds.
///
/// # Errors
/// When a process is gone.
pub(crate) fn cpu_nanos(processes: &[u32]) -> Result<u64> {
    let mut total = 0;
    for process in processes {
        let folder = format!("/proc/{process}/task");
        for thread in fs::read_dir(&folder).with_context(|| format!("process {process} is gone"))? {
            // A thread may end between the listing and the reading; what it used is then lost to this measurement.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            total += first_number(&text).with_context(|| format!("unexpected schedstat of {process}: {text}"))?;
        }
    }
    Ok(total)
}

/// Resident memory of these processes.
///
/// # Errors
/// When a process is gone or the kernel has no `smaps_rollup`.
pub(crate) fn memory(processes: &[u32]) -> Result<Memory> {
    let mut total = Memory::default();
    for process in processes {
        let path = format!("/proc/{process}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let one = parse_rollup(&text).with_context(|| format!("unexpected text in {path}"))?;
        total.rss_kib += one.rss_kib;
        total.pss_kib += one.pss_kib;
    }
    Ok(total)
}

fn parse_rollup(text: &str) -> Option<Memory> {
    let field = |name: &str| text.lines().find_map(|line| first_number(line.strip_prefix(name)?));
    Some(Memory { rss_kib: field("Rss:")?, pss_kib: field("Pss:")? })
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// A process and all its descendants, itself first.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn tree_of(process: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        if let Some(parent) = parent_of(&stat) {
            parents.push((id, parent));
        }
    }
    let mut tree = vec![process];
    let mut next = 0;
    while next < tree.len() {
        let current = tree[next];
        tree.extend(parents.iter().filter(|(_, parent)| *parent == current).map(|(id, _)| *id));
        next += 1;
    }
    Ok(tree)
}

/// The parent's id in a line of `/proc/PID/stat`: the second field behind the program's name, which stands in parentheses
/// and may itself contain blanks and parentheses.
fn parent_of(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_a_hostile_program_name() {
        assert_eq!(parent_of("77 (a) S 1 (b)) R 42 77 77 0"), Some(42));
        assert_eq!(parent_of("no parentheses"), None);
    }

    #[test]
    fn a_rollup_gives_resident_and_proportional_size() {
        let text = "55d0-7ffd ---p 0000 00:00 0 [rollup]\nRss:   1204 kB\nPss:    377 kB\nPss_Dirty: 80 kB\n";
        assert_eq!(parse_rollup(text), Some(Memory { rss_kib: 1204, pss_kib: 377 }));
        assert_eq!(parse_rollup("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = [std::process::id()];
        assert!(cpu_nanos(&own).unwrap() > 0);
        assert!(memory(&own).unwrap().rss_kib > 0);
        assert!(tree_of(std::process::id()).unwrap().starts_with(&own));
    }
}
