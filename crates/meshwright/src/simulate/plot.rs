//! What a circuit breaker did, as a list of its changes, counts, and a plot for a terminal. Decides nothing. Read next:
//! `breaker.rs`.

use std::io::{self, Write};
use std::time::Duration;

use meshwright_traffic::{BreakerState, BreakerView};

use super::breaker::{Change, Fate, History};
use super::script::{NamedBreaker, Script};

/// Columns of the plot.
const WIDTH: usize = 72;
/// Rows of the plot.
const HEIGHT: usize = 8;
/// Changes that are listed one by one.
const SHOWN: usize = 40;

pub(super) fn breaker(named: &NamedBreaker, script: &Script, history: &History, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{}", named.name)?;
    for change in history.changes.iter().take(SHOWN) {
        writeln!(out, "{}", line(change))?;
    }
    if history.changes.len() > SHOWN {
        writeln!(out, "           and {} further changes", history.changes.len() - SHOWN)?;
    }
    counts(history, out)?;
    plot(script.length(), history, out)?;
    at_the_end(&history.end, out)
}

fn line(change: &Change) -> String {
    let open = change.change.open_time.map(|time| format!(", open for {time:.1?}")).unwrap_or_default();
    let observed = if change.change.enforced { "" } else { " (observed)" };
    format!("{:>9.2}s  {}{open}{observed}", change.at.as_secs_f64(), change.change)
}

fn counts(history: &History, out: &mut dyn Write) -> io::Result<()> {
    let slow = history.calls.iter().filter(|call| call.slow).count();
    let of = |fate| history.count(fate);
    writeln!(
        out,
        "  calls {}: {} succeeded, {} failed, {} refused; {slow} slow; opened {} times",
        history.calls.len(),
        of(Fate::Succeeded),
        of(Fate::Failed),
        of(Fate::Refused),
        history.end.openings,
    )
}

fn at_the_end(end: &BreakerView, out: &mut dyn Write) -> io::Result<()> {
    let counts = end.counts;
    writeln!(
        out,
        "  at the end {}; in its window {} requests, {} failed, {} slow; in a row {} failures, {} successes",
        end.state,
        counts.requests,
        counts.total_failures,
        counts.slow_calls,
        counts.consecutive_failures,
        counts.consecutive_successes,
    )
}

/// Calls by the time of their ends, stacked: what succeeded below, then what failed, then what was refused; under it the state.
fn plot(length: Duration, history: &History, out: &mut dyn Write) -> io::Result<()> {
    let column = |at: Duration| {
        // Below the width.
        ((at.as_secs_f64() / length.as_secs_f64().max(f64::MIN_POSITIVE) * WIDTH as f64) as usize).min(WIDTH - 1)
    };
    let mut columns = vec![[0usize; 3]; WIDTH];
    for call in &history.calls {
        columns[column(call.at)][call.fate as usize] += 1;
    }
    let most = columns.iter().map(|counts| counts.iter().sum()).max().unwrap_or(0usize).max(1);
    for row in (0..HEIGHT).rev() {
        let cells: String = columns.iter().map(|counts| cell(counts, most, row)).collect();
        let label = if row == HEIGHT - 1 { most.to_string() } else { String::new() };
        writeln!(out, "{label:>9} |{}", cells.trim_end())?;
    }
    let middle = |number: usize| length.mul_f64((number as f64 + 0.5) / WIDTH as f64);
    let states: String = (0..WIDTH).map(|number| mark(history.state(middle(number)))).collect();
    writeln!(out, "    state |{states}")?;
    let end = format!("{:.0}s", length.as_secs_f64());
    writeln!(out, "           0s{end:>width$}", width = WIDTH - 2)?;
    writeln!(out, "           s succeeded, f failed, r refused; - closed, O open, h half-open")
}

/// What is drawn in a row of a column.
fn cell(counts: &[usize; 3], most: usize, row: usize) -> char {
    let level = (row as f64 + 0.5) / HEIGHT as f64 * most as f64;
    let mut sum = 0;
    for (count, mark) in counts.iter().zip(['s', 'f', 'r']) {
        sum += count;
        if sum as f64 > level {
            return mark;
        }
    }
    ' '
}

fn mark(state: BreakerState) -> char {
    match state {
        BreakerState::Closed => '-',
        BreakerState::Open => 'O',
        BreakerState::HalfOpen => 'h',
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::run;
    use super::*;

    #[test]
    fn the_state_over_time_is_shown_with_reasons_counts_and_a_plot() {
        let named = "consecutiveFailures: 3, timeout: 5s".parse().unwrap();
        let script: Script = "10s,10s;fail=100%,20s".parse().unwrap();
        let history = run(&named, &script, "every 100ms".parse().unwrap(), 1);
        let mut page = Vec::new();
        breaker(&named, &script, &history, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("closed to open: 3 failures in a row, open for 5.0s"), "{page}");
        assert!(page.contains("4 failed") && page.contains("opened 2 times"), "{page}");
        assert!(page.contains(&format!("state |{}O", "-".repeat(18))), "{page}");
        assert!(page.contains("at the end closed"), "{page}");
    }
}
