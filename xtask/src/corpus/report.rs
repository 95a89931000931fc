//! The comparison as Markdown: one row of the corpus a line, one proxy a column, and the inputs that got through by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use meshwright_testkit::corpus::{HTTP2_ROWS, ROWS};

use super::{Fate, Record};

const BEGIN: &str = "<!-- generated: corpus -->";
const END: &str = "<!-- end -->";

/// Fates that let something through, and their words in the table.
const THROUGH: [(Fate, &str); 4] = [
    (Fate::Smuggled, "smuggled"),
    (Fate::Forbidden, "forbidden bytes"),
    (Fate::Served, "served"),
    (Fate::Ended, "ended"),
];

fn count(record: &Record, row: Option<&str>, fate: Option<Fate>) -> usize {
    let of_row = record.outcomes.iter().filter(|outcome| row.is_none_or(|row| outcome.row == row));
    of_row.filter(|outcome| fate.is_none_or(|fate| outcome.fate == fate)).count()
}

fn cell(record: &Record, row: Option<&str>) -> String {
    let mut cell = count(record, row, Some(Fate::Right)).to_string();
    for (fate, word) in THROUGH {
        let count = count(record, row, Some(fate));
        if count > 0 {
            let _ = write!(cell, ", **{count} {word}**");
        }
    }
    let other = count(record, row, Some(Fate::Other));
    if other > 0 {
        let _ = write!(cell, ", {other} otherwise");
    }
    cell
}

/// The table.
pub(super) fn table(records: &[Record]) -> String {
    let mut text = String::from("| Row | Inputs |");
    for record in records {
        let _ = write!(text, " {} |", record.peer.name());
    }
    let _ = write!(text, "\n|---|---|{}\n", "---|".repeat(records.len()));
    let Some(first) = records.first() else { return text };
    for (row, title) in ROWS.into_iter().chain(HTTP2_ROWS) {
        let _ = write!(text, "| {row} {title} | {} |", count(first, Some(row), None));
        for record in records {
            let _ = write!(text, " {} |", cell(record, Some(row)));
        }
        text.push('\n');
    }
    let _ = write!(text, "| **All** | {} |", count(first, None, None));
    for record in records {
        let _ = write!(text, " {} |", cell(record, None));
    }
    text.push('\n');
    text
}

/// What got through, by proxy and row.
pub(super) fn details(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        for (fate, word) in THROUGH.into_iter().chain([(Fate::Other, "otherwise")]) {
            let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for outcome in record.outcomes.iter().filter(|outcome| outcome.fate == fate) {
                rows.entry(outcome.row).or_default().push(&outcome.name);
            }
            for (row, names) in rows {
                let _ = writeln!(text, "{}, {word}, {row}: {}", record.peer.name(), names.join("; "));
            }
        }
    }
    text
}

/// The document with the table in its place.
///
/// # Errors
/// When the document has no place for it.
pub(super) fn into_document(document: &str, records: &[Record]) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    let versions: Vec<String> =
        records.iter().map(|record| format!("{} ({})", record.peer.name(), record.version)).collect();
    Ok(format!("{before}{BEGIN}\n\nCompared: {}.\n\n{}\n{END}{after}", versions.join(", "), table(records)))
}
