//! A check: what tells whether an instance works. Who carries it out, and when, is not known here.

use std::time::Duration;

use crate::{Invalid, Status};

/// Longest output of a check that is kept, in bytes.
const MAX_OUTPUT: usize = 4096;

/// One check of an instance, with what it said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name among the checks of its instance.
    pub id: String,
    /// Name for people; may be empty.
    pub name: String,
    /// What is done.
    pub probe: Probe,
    /// Time from one probe to the next.
    pub interval: Duration,
    /// Longest time that a probe may take; at most [`Check::LONGEST_TIMEOUT`].
    pub timeout: Duration,
    /// Successes in a row that make it passing. At least 1.
    pub rise: u32,
    /// Failures in a row that make it critical. At least 1.
    pub fall: u32,
    /// What it said last: passing, warning, critical, or starting before the first result.
    pub status: Status,
    /// Why, for people; at most 4 KiB.
    pub output: String,
    /// Removes the instance once the check was critical for so long; `None` is never.
    pub deregister_after: Option<Duration>,
}

/// How a check finds out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The instance says it itself, and becomes critical when it says nothing for so long.
    Ttl(Duration),
    /// Somebody says it; what was said last stays, and nobody carries anything out.
    Word,
    /// `GET` answers with a status of 200 to 299; 429 is a warning.
    Http {
        /// Where, `host:port`; `None` is the instance itself.
        authority: Option<String>,
        /// Path and query.
        path: String,
    },
    /// A connection can be made.
    Tcp {
        /// Where, `host:port`; `None` is the instance itself.
        authority: Option<String>,
    },
    /// The gRPC health service answers SERVING.
    Grpc {
        /// Where, `host:port`; `None` is the instance itself.
        authority: Option<String>,
        /// Service asked for; empty is the server as a whole.
        service: String,
    },
}

impl Check {
    /// Longest timeout: there is room for a limited number of probes at one time.
    pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

    /// A check before its first result: an interval of 10 s, a timeout of 5 s, one success or failure decides.
    pub fn new(id: &str, probe: Probe) -> Self {
        Self {
            id: id.to_owned(),
            name: String::new(),
            probe,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            rise: 1,
            fall: 1,
            status: Status::Starting,
            output: String::new(),
            deregister_after: None,
        }
    }

    /// The check with another result. Output that is too long is cut.
    pub fn with_result(&self, status: Status, output: &str) -> Self {
        let mut end = output.len().min(MAX_OUTPUT);
        while !output.is_char_boundary(end) {
            end -= 1;
        }
        Self { status, output: output[..end].to_owned(), ..self.clone() }
    }

    /// Whether both ask the same question, whatever the answers were.
    pub fn same_question(&self, other: &Self) -> bool {
        self.id == other.id && self.probe == other.probe
    }

    /// Where it asks and what, as far as it says so.
    fn target(&self) -> (&str, &str) {
        let (authority, what) = match &self.probe {
            Probe::Ttl(_) | Probe::Word => (None, ""),
            Probe::Http { authority, path } => (authority.as_deref(), path.as_str()),
            Probe::Tcp { authority } => (authority.as_deref(), ""),
            Probe::Grpc { authority, service } => (authority.as_deref(), service.as_str()),
        };
        (authority.unwrap_or_default(), what)
    }

    /// Whether its texts are of a length and of characters that can be sent and shown.
    pub(crate) fn validate_texts(&self) -> Result<(), Invalid> {
        let (authority, what) = self.target();
        if authority.len() > 261 || !authority.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@') {
            return Err(Invalid::new("check target", authority, "host:port"));
        }
        if what.len() > 2048 || what.chars().any(char::is_control) {
            return Err(Invalid::new("check target", what, "at most 2048 bytes without control characters"));
        }
        if self.name.len() > 256 || self.name.chars().any(char::is_control) {
            return Err(Invalid::new("check name", &self.name, "at most 256 bytes without control characters"));
        }
        if self.output.len() > MAX_OUTPUT {
            return Err(Invalid::new("check output", &self.id, "at most 4 KiB"));
        }
        Ok(())
    }

    /// Bytes that it takes, roughly, without its output, which has a limit of its own: no word of a check makes an instance
    /// too large.
    pub(crate) fn size(&self) -> usize {
        let (authority, what) = self.target();
        self.id.len() + self.name.len() + authority.len() + what.len()
    }
}
