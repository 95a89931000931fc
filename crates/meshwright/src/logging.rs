//! The process log: compact lines on standard error, with a level that can be changed while running.
//!
//! Knows nothing of what is logged. Access logs are something else: they are written by the workers.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Changes the level of the running process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
    /// What was asked for last; held only while it is read or replaced.
    current: Arc<Mutex<String>>,
}

impl LogLevel {
    /// The present directives, as they were given.
    pub fn current(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the level and answers the new directives.
    ///
    /// # Errors
    /// A sentence, when `directives` is not understood; the level stays as it was.
    pub fn set(&self, directives: &str) -> Result<String, String> {
        let filter = check(directives)?;
        self.handle.reload(filter).map_err(|error| format!("the log is gone: {error}"))?;
        directives.clone_into(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(directives.to_owned())
    }
}

/// Starts the log of this process at `directives`.
///
/// # Errors
/// A sentence, when `directives` is not understood or a log was started before.
pub fn start(directives: &str) -> Result<LogLevel, String> {
    let (filter, handle) = reload::Layer::new(check(directives)?);
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().compact().with_writer(std::io::stderr).with_ansi(color);
    Registry::default().with(filter).with(lines).try_init().map_err(|error| error.to_string())?;
    Ok(LogLevel { handle, current: Arc::new(Mutex::new(directives.to_owned())) })
}

/// Reads log directives: a level, or levels per module, separated by commas.
///
/// # Errors
/// A sentence: what is wrong, what is allowed, an example.
pub fn check(directives: &str) -> Result<EnvFilter, String> {
    let allowed = "allowed are off, error, warn, info, debug and trace, alone or as MODULE=LEVEL, separated by commas; \
                   for example info,meshwright_control=debug";
    for directive in directives.split(',') {
        let (module, level) = match directive.split_once('=') {
            Some((module, level)) => (module, level),
            None => ("", directive),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
        let named = directive.contains('=');
        if !LEVELS.contains(&level) || named && (module.is_empty() || !module.bytes().all(plain)) {
            return Err(format!("`{directive}` is not a log level; {allowed}"));
        }
    }
    EnvFilter::try_new(directives).map_err(|error| format!("{error}; {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_taken_alone_and_per_module() {
        for fine in ["info", "off", "info,meshwright_control=debug", "warn,meshwright_proxy::forward=trace"] {
            assert!(check(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_with_the_allowed_ones() {
        for bad in ["", "verbose", "meshwright", "=debug", "a=b", "info,,debug", "[span]=info", "info, debug"] {
            assert!(check(bad).unwrap_err().contains("allowed are off"), "{bad}");
        }
    }
}
