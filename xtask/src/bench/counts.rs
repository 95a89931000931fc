//! What several parties say about the number of requests of a scenario; all of them should agree.
//!
//! It asks our metrics and reads access logs. It does not know what a request costs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::http;

/// Records and log lines may trail behind the last answer by at most this.
const PATIENCE: Duration = Duration::from_secs(3);

/// The counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Answers that the clients had, right in status and length.
    pub(crate) clients: u64,
    /// Requests that the origin answered.
    pub(crate) origin: u64,
    /// Sum of `istio_requests_total`; ours only.
    pub(crate) metrics: Option<u64>,
    /// Lines of the access log; ours only, and only with logs.
    pub(crate) log_lines: Option<u64>,
    /// Requests that failed, by the clients' account.
    pub(crate) failed: u64,
    /// Connections that the proxy closed between two requests.
    pub(crate) closed_idle: u64,
    /// The kinds of failure.
    pub(crate) failures: String,
    /// TLS handshakes.
    pub(crate) handshakes: u64,
    /// Those of them that resumed a session.
    pub(crate) resumed: u64,
}

/// Asks until the answer reaches `expected` or stops to be worth waiting for; gives the last answer.
pub(crate) fn settled(expected: u64, mut ask: impl FnMut() -> Result<u64>) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask()?;
        if answer >= expected || Instant::now() > deadline {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn metric_sum(admin: SocketAddr) -> Result<u64> {
    let (status, text) = http::get(admin, &admin.to_string(), "/metrics")?;
    if status != 200 {
        bail!("/metrics answered {status}");
    }
    Ok(sum_of("istio_requests_total", &text))
}

/// The sum over all series of a counter in Prometheus text.
fn sum_of(name: &str, text: &str) -> u64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<u64>().ok()
    });
    values.sum()
}

pub(crate) fn count_lines(path: &Path) -> Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut buffer = vec![0; 1 << 20];
    let mut lines = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(lines);
        }
        lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
}

/// Empties a log between rounds; the proxies append, so they go on at its new end.
pub(crate) fn empty(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => file.set_len(0).with_context(|| format!("cannot empty {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_series_and_not_over_its_neighbours() {
        let text = "# TYPE istio_requests_total counter\nistio_requests_total{code=\"200\",path=\"} 9\"} 40\n\
                    istio_requests_total{code=\"503\"} 2\nistio_requests_total_more 7\nistio_requests_total 1\n";
        assert_eq!(sum_of("istio_requests_total", text), 43);
    }

    #[test]
    fn a_count_that_never_arrives_is_given_back_as_it_is() {
        assert_eq!(settled(1, || Ok(5)).unwrap(), 5);
    }
}
