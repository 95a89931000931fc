//! What came of a simulation, as a table and bars for a terminal. Decides nothing. Read next: `mod.rs`.

use std::io::{self, Write};
use std::time::Duration;

use super::engine::{Disruption, Outcome};
use super::spec::{Backends, Load, NamedPolicy};

/// Width of the longest bar.
const BAR: usize = 40;
/// Backends that are shown one by one.
const SHOWN: usize = 20;

pub(super) fn heading(backends: &Backends, load: &Load, seed: u64, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "backends {backends}\nload     {load}\nseed     {seed}\n")
}

pub(super) fn table(results: &[(&NamedPolicy, Outcome)], out: &mut dyn Write) -> io::Result<()> {
    let name = width(results);
    writeln!(
        out,
        "{:name$} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9}  p99",
        "policy", "requests", "errors", "p50", "p90", "p99", "p99.9"
    )?;
    let longest = results.iter().map(|(_, outcome)| outcome.quantiles()[2]).max().unwrap_or_default();
    for (policy, outcome) in results {
        let [p50, p90, p99, p999] = outcome.quantiles().map(millis);
        let errors = outcome.errors as f64 * 100.0 / outcome.requests.max(1) as f64;
        let share = outcome.quantiles()[2].as_secs_f64() / longest.as_secs_f64().max(f64::MIN_POSITIVE);
        let (word, requests, bar) = (&policy.name, outcome.requests, bar(share));
        writeln!(out, "{word:name$} {requests:>9} {errors:>7.2}% {p50:>9} {p90:>9} {p99:>9} {p999:>9}  {bar}")?;
    }
    Ok(())
}

/// The share of each backend under each policy: one by one when there are few, else the extremes.
pub(super) fn shares(results: &[(&NamedPolicy, Outcome)], backends: &Backends, out: &mut dyn Write) -> io::Result<()> {
    let name = width(results);
    for (policy, outcome) in results {
        let total = outcome.requests.max(1) as f64;
        let parts: Vec<f64> = outcome.by_backend.iter().map(|count| *count as f64 / total).collect();
        let most = parts.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        if parts.len() > SHOWN {
            let least = parts.iter().copied().fold(f64::MAX, f64::min);
            let (word, fair) = (&policy.name, 100.0 / backends.list.len() as f64);
            let (least, most) = (least * 100.0, most * 100.0);
            writeln!(
                out,
                "\n{word:name$} load of a backend: {least:.2} % to {most:.2} %, where {fair:.2} % would be even"
            )?;
            continue;
        }
        writeln!(out, "\n{} load by backend", policy.name)?;
        for (number, part) in parts.iter().enumerate() {
            writeln!(out, "{number:>4} {:>6.2} %  {}", part * 100.0, bar(part / most))?;
        }
    }
    Ok(())
}

pub(super) fn disruptions(results: &[(&NamedPolicy, Disruption)], out: &mut dyn Write) -> io::Result<()> {
    for (policy, disruption) in results {
        writeln!(
            out,
            "\n{}: when one backend leaves, {:.2} % of the keys move where {:.2} % must ({:.2} times as many)",
            policy.name,
            disruption.moved * 100.0,
            disruption.ideal * 100.0,
            disruption.moved / disruption.ideal.max(f64::MIN_POSITIVE),
        )?;
    }
    Ok(())
}

fn width(results: &[(&NamedPolicy, Outcome)]) -> usize {
    results.iter().map(|(policy, _)| policy.name.len()).max().unwrap_or(0).max("policy".len())
}

fn millis(time: Duration) -> String {
    format!("{:.2}ms", time.as_secs_f64() * 1e3)
}

fn bar(part: f64) -> String {
    // At most the width; a float becomes the nearest whole number that there is.
    "#".repeat((part.clamp(0.0, 1.0) * BAR as f64).round() as usize)
}
