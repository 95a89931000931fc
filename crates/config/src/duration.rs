//! Durations as Istio writes them: `1h`, `1m30s`, `1.5s`, `250ms`.
//!
//! Exact integer arithmetic in nanoseconds; knows no fields.

use std::time::Duration;

/// Why a text is no duration that Istio takes. The texts are Istio's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DurationError {
    /// Not of the form at all.
    Invalid,
    /// A number without a unit.
    NoUnit,
    /// Below a millisecond, or negative.
    TooShort,
    /// Not a whole number of milliseconds.
    TooFine,
}

/// Reads a duration of at least 1 ms in whole milliseconds; zero is returned as zero and is the caller's to judge.
///
/// The grammar is Go's: one or more of a decimal number with a unit out of `h`, `m`, `s`, `ms`, `us`, `ns`.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return Err(DurationError::Invalid);
    }
    if rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && rest.parse::<f64>().is_ok() {
        return if rest == "0" { Ok(Duration::ZERO) } else { Err(DurationError::NoUnit) };
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DurationError::Invalid)?;
        let (number, after) = rest.split_at(end);
        let (unit, remaining) = unit(after).ok_or(DurationError::Invalid)?;
        let part = scaled(number, unit).ok_or(DurationError::Invalid)?;
        total = total.checked_add(part).ok_or(DurationError::Invalid)?;
        rest = remaining;
    }
    if total == 0 {
        return Ok(Duration::ZERO);
    }
    if negative || total < 1_000_000 {
        return Err(DurationError::TooShort);
    }
    if !total.is_multiple_of(1_000_000) {
        return Err(DurationError::TooFine);
    }
    match u64::try_from(total / 1_000_000) {
        Ok(millis) if millis <= MAX_MILLIS => Ok(Duration::from_millis(millis)),
        _ => Err(DurationError::Invalid),
    }
}

/// Go's largest duration, about 292 years; what is longer Istio cannot read either.
const MAX_MILLIS: u64 = 9_223_372_036_854;

fn unit(text: &str) -> Option<(u128, &str)> {
    const UNITS: [(&str, u128); 8] = [
        ("ms", 1_000_000),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("\u{3bc}s", 1_000),
        ("ns", 1),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
    ];
    UNITS.iter().find_map(|(name, size)| text.strip_prefix(name).map(|rest| (*size, rest)))
}

/// `number` (digits with at most one point) times `unit`, rounded down to nanoseconds.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 18 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(15)];
    let mut nanos = whole.checked_mul(unit)?;
    if !fraction.is_empty() {
        let digits: u128 = fraction.parse().ok()?;
        let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        nanos = nanos.checked_add(digits.checked_mul(unit)? / scale)?;
    }
    Some(nanos)
}

/// A duration as one would write it: `1h`, `90s`, `250ms`.
pub(crate) fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_istio_are_read() {
        for (text, millis) in
            [("1h", 3_600_000), ("1m", 60_000), ("1s", 1_000), ("1ms", 1), ("1.5s", 1_500), ("1h2m3s4ms", 3_723_004)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse("2000us"), Ok(Duration::from_millis(2)));
    }

    #[test]
    fn what_istio_refuses_is_refused_for_its_reason() {
        for (text, error) in [
            ("5", DurationError::NoUnit),
            ("", DurationError::Invalid),
            ("s", DurationError::Invalid),
            ("1x", DurationError::Invalid),
            ("1..5s", DurationError::Invalid),
            ("1 s", DurationError::Invalid),
            ("-1s", DurationError::TooShort),
            ("500us", DurationError::TooShort),
            ("1.0005s", DurationError::TooFine),
            ("99999999999999999h", DurationError::Invalid),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_itself() {
        for millis in [0, 1, 999, 1_000, 61_000, 120_000, 7_200_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&show(duration)), Ok(duration));
        }
    }
}
