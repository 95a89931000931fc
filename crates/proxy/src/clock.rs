//! Time as the data plane needs it: one reading per step of a request, wall time and HTTP dates derived from it.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the wall clock is read again, so that a clock that was set is followed.
const RESYNC: Duration = Duration::from_secs(1);

/// The clock of one worker.
pub(crate) struct Clock {
    latest: Cell<Instant>,
    read_at: Cell<Instant>,
    wall: Cell<SystemTime>,
    date: RefCell<(u64, [u8; 29])>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            latest: Cell::new(Instant::now()),
            read_at: Cell::new(Instant::now()),
            wall: Cell::new(SystemTime::now()),
            date: RefCell::new((u64::MAX, [b' '; 29])),
        }
    }

    /// Reads the monotonic clock.
    pub(crate) fn read(&self) -> Instant {
        let now = Instant::now();
        self.latest.set(now);
        now
    }

    /// Takes over a reading that was made elsewhere.
    pub(crate) fn note(&self, now: Instant) {
        self.latest.set(now);
    }

    /// What [`Clock::read`] gave last, or what was noted since.
    pub(crate) fn latest(&self) -> Instant {
        self.latest.get()
    }

    /// Wall time of a reading of the monotonic clock.
    pub(crate) fn wall(&self, now: Instant) -> SystemTime {
        let passed = now.saturating_duration_since(self.read_at.get());
        if passed > RESYNC {
            self.read_at.set(now);
            self.wall.set(SystemTime::now());
            return self.wall.get();
        }
        self.wall.get() + passed
    }

    /// Calls `with` with the `Date` header value of `now` (RFC 9110, section 5.6.7).
    pub(crate) fn http_date<R>(&self, now: Instant, with: impl FnOnce(&[u8]) -> R) -> R {
        let second = self.wall(now).duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut cached = self.date.borrow_mut();
        if cached.0 != second {
            *cached = (second, format_date(second));
        }
        with(&cached.1)
    }
}

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `Sun, 06 Nov 1994 08:49:37 GMT`. The date of a day number is Howard Hinnant's `civil_from_days`.
fn format_date(unix_seconds: u64) -> [u8; 29] {
    let days = unix_seconds / 86_400;
    let of_day = unix_seconds % 86_400;
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);

    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    out[0..3].copy_from_slice(DAYS[(days % 7) as usize]);
    put_two(&mut out[5..7], day);
    out[8..11].copy_from_slice(MONTHS[(month - 1) as usize]);
    put_two(&mut out[12..14], year / 100);
    put_two(&mut out[14..16], year % 100);
    put_two(&mut out[17..19], of_day / 3600);
    put_two(&mut out[20..22], of_day / 60 % 60);
    put_two(&mut out[23..25], of_day % 60);
    out
}

fn put_two(into: &mut [u8], number: u64) {
    into[0] = b'0' + (number / 10 % 10) as u8;
    into[1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_rfc_9110_has_them() {
        assert_eq!(&format_date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&format_date(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&format_date(951_782_399), b"Mon, 28 Feb 2000 23:59:59 GMT");
        assert_eq!(&format_date(951_782_400), b"Tue, 29 Feb 2000 00:00:00 GMT");
    }
}
