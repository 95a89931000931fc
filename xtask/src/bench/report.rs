//! Figures as text: the tables of the terminal, and docs/benchmarks.md with its method and its targets.
//!
//! Every number printed here comes from a measurement of this run. It does not measure. Read next: `session.rs`.

use std::fmt::Write as _;

use anyhow::Result;

use super::figures::{Figures, IdleFigures, LoadFigures, Sample};
use super::peer::{Peer, Programs};
use super::scenario::Scenario;
use super::session::Plan;
use super::statistics::{extremes, median, paired_ratio};
use super::target::{Verdict, targets};

/// What the page opens with: how it is written, and the method.
const METHOD: &str = include_str!("words/method.md");
/// What the figures are explained by.
const NOTES: &str = include_str!("words/notes.md");

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
            Figures::Load(all) => load_table(&mut text, *scenario, all),
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
        text.push_str("### Targets\n\n| target | limit | measured | upper bound | |\n|---|---|---|---|---|\n");
        for target in targets {
            let verdict = match target.verdict() {
                Verdict::Reached => "reached",
                Verdict::NotShown => "**not shown**",
                Verdict::Missed => "**missed**",
            };
            let unit = target.unit;
            let number = |value: f64| format!("{value:.2}{unit}");
            let bound = target.bound.map_or("–".to_owned(), number);
            let (limit, measured) = (number(target.limit), number(target.measured));
            let _ = writeln!(text, "| {} | {limit} | {measured} | {bound} | {verdict} |", target.what);
        }
    }
    align(text.trim_end()) + "\n"
}

fn load_table(text: &mut String, scenario: Scenario, all: &[LoadFigures]) {
    let instructions = all.iter().any(|figures| figures.counters.instructions.is_some());
    text.push_str(
        "| proxy | CPU µs/request | lowest to highest | ours is | requests/s | core busy | p50 µs | p99 µs |",
    );
    text.push_str(if instructions { " instructions/request |" } else { "" });
    text.push_str(" system calls/request | RSS MiB | PSS MiB | failed |\n");
    text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    text.push_str(if instructions { "--:|\n" } else { "\n" });
    let ours = all.iter().find(|figures| figures.peer == Peer::Ours).map(LoadFigures::cpu);
    for figures in all {
        let cpu = figures.cpu();
        let (low, high) = extremes(cpu.iter().copied());
        let middle = |pick: fn(&Sample) -> f64| median(figures.samples.iter().map(pick).collect());
        let ratio = match &ours {
            Some(ours) if figures.peer != Peer::Ours => format!("{:.2} ×", paired_ratio(ours, &cpu).median),
            _ => String::new(),
        };
        let _ = write!(
            text,
            "| {} | {:.2} | {low:.2} to {high:.2} | {ratio} | {:.0} | {:.0} % | {:.0} | {:.0} |",
            figures.peer.name(),
            middle(|sample| sample.cpu_us),
            middle(|sample| sample.rate),
            middle(|sample| sample.busy) * 100.0,
            middle(|sample| sample.p50_us),
            middle(|sample| sample.p99_us),
        );
        let counted = |count: Option<f64>, digits| count.map_or("–".to_owned(), |count| format!("{count:.digits$}"));
        if instructions {
            let _ = write!(text, " {} |", counted(figures.counters.instructions, 0));
        }
        let _ = writeln!(
            text,
            " {} | {:.1} | {:.1} | {} |",
            counted(figures.counters.system_calls, 2),
            mib(figures.memory.rss_kib),
            mib(figures.memory.pss_kib),
            figures.counts.failed,
        );
    }
    let lines: String = all.iter().map(|figures| counts_line(scenario, figures)).collect();
    text.push('\n');
    if scenario == Scenario::Tcp64k {
        per_mib_line(text, scenario, all);
    }
    if !lines.is_empty() {
        text.push_str(&lines);
        text.push('\n');
    }
}

/// What carrying bytes costs, by the mebibyte of answers.
fn per_mib_line(text: &mut String, scenario: Scenario, all: &[LoadFigures]) {
    let requests = 1024.0 * 1024.0 / scenario.request().1 as f64;
    let cost = |figures: &LoadFigures| {
        let rate = median(figures.samples.iter().map(|sample| sample.rate).collect());
        let (micros, speed) = (median(figures.cpu()) * requests, rate / requests);
        format!("{} {micros:.0} µs at {speed:.0} MiB/s", figures.peer.name())
    };
    let costs: Vec<String> = all.iter().map(cost).collect();
    let _ = writeln!(text, "- CPU per MiB of answers: {}.", costs.join(", "));
}

/// What was counted by whom: for us always, for the others when something is to be said.
fn counts_line(scenario: Scenario, figures: &LoadFigures) -> String {
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
    if scenario.closes() && scenario.wire().tls {
        parts.push(format!("handshakes {}, resumed {}", counts.handshakes, counts.resumed));
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
    text.push_str("| proxy | held | RSS before MiB | RSS with MiB | KiB each |\n|---|--:|--:|--:|--:|\n");
    for figures in all {
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {:.2} |",
            figures.peer.name(),
            figures.held,
            mib(figures.before.rss_kib),
            mib(figures.with.rss_kib),
            figures.kib_each(),
        );
    }
    text.push('\n');
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// docs/benchmarks.md.
pub(crate) fn document(facts: &Facts, peers: &[Peer], results: &[(Scenario, Figures)]) -> String {
    let mut text = String::from(METHOD);
    text.push_str("\n## This run\n\n| | |\n|---|---|\n");
    for (name, value) in &facts.machine {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    for (peer, version) in &facts.versions {
        let _ = writeln!(text, "| {} | {version} |", peer.name());
    }
    let Plan { rounds, window } = facts.plan;
    let window = window.as_secs_f64();
    let _ = writeln!(
        text,
        "| Amount | {rounds} interleaved rounds of {window} s, {} where no target is set; medians |",
        rounds.div_ceil(3)
    );
    text.push_str("\n## Figures\n\n");
    text.push_str(&tables(results));
    text.push_str("\n## What is switched on\n\n");
    for peer in peers {
        let [always, mesh, logs, wire] = peer.features();
        let _ = writeln!(text, "- **{}**: {always}. In `mesh`: {mesh}. In `log`: {logs}.", peer.name());
        let _ = writeln!(text, "  With TLS, HTTP/2 and TCP: {wire}.");
    }
    let _ = write!(text, "\n{NOTES}");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Memory;

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
            samples: vec![sample(cpu_us); 15],
            memory: Memory::default(),
            counts: Default::default(),
            counters: Default::default(),
        };
        let load = vec![figures(Peer::Ours, 9.0), figures(Peer::Haproxy, 10.0), figures(Peer::Envoy, 100.0)];
        let text = tables(&[(Scenario::Small64, Figures::Load(load))]);
        let line = |needle: &str| text.lines().find(|line| line.contains(needle)).unwrap_or_default().to_owned();
        assert!(line("share of HAProxy").contains("**missed**"), "{text}");
        assert!(line("share of Envoy").contains("reached"), "{text}");
    }
}
