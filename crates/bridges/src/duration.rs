//! Durations as people write them in JSON: `30s`, `1m30s`, `500ms`, or a number of seconds.

use std::time::Duration;

/// Reads `text`: numbers with the units `ms`, `s`, `m` and `h`, largest first as a rule, or a bare number of seconds.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|next: char| !next.is_ascii_digit() && next != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|next: char| next.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => number / 1e9,
            "us" | "µs" => number / 1e6,
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

/// Writes `time` in the largest unit that shows it whole.
pub(crate) fn write(time: Duration) -> String {
    let milliseconds = time.as_millis();
    match milliseconds {
        0 => "0s".to_owned(),
        _ if !milliseconds.is_multiple_of(1000) => format!("{milliseconds}ms"),
        _ if !milliseconds.is_multiple_of(60_000) => format!("{}s", milliseconds / 1000),
        _ if !milliseconds.is_multiple_of(3_600_000) => format!("{}m", milliseconds / 60_000),
        _ => format!("{}h", milliseconds / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_people_do() {
        for (text, milliseconds) in
            [("30s", 30_000), ("1m30s", 90_000), ("500ms", 500), ("2h", 7_200_000), ("1.5", 1500)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "s", "10x", "-1s", "1s2", "1e400", "1..2s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        for text in ["30s", "90s", "500ms", "2h", "5m", "0s"] {
            assert_eq!(write(parse(text).unwrap()), text);
        }
    }
}
