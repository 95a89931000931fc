//! A ClientHello as far as it has come: whether it is complete, and which server it asks for.
//!
//! No socket: bytes go in, a verdict comes out, however they were split. That is what a fuzz target needs, see
//! `fuzz/src/client_hello.rs`. Read next: `tls`, which has the socket.

use std::io;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};

/// A ClientHello that is not complete within so many bytes is refused: one handshake message of rustls at its longest, and the
/// headers of its records were every byte one.
pub const LONGEST_HELLO: usize = 6 * 0xffff;

/// Reads a ClientHello from bytes that arrive over time.
#[derive(Default)]
pub struct HelloScan {
    acceptor: Acceptor,
    fed: usize,
}

/// Why bytes are no ClientHello, and what the client is to be told.
#[derive(Debug)]
pub struct HelloError {
    /// For the log.
    pub cause: io::Error,
    /// The alert of TLS that says it to the client, if one does.
    pub alert: Option<AcceptedAlert>,
}

impl HelloError {
    fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>, alert: Option<AcceptedAlert>) -> Self {
        Self { cause: io::Error::new(io::ErrorKind::InvalidData, cause), alert }
    }
}

impl HelloScan {
    /// Looks at everything that was `received` so far, from the first byte on; `None` when more has to come. What was looked at
    /// before is not looked at again. After a verdict there is no other.
    ///
    /// # Errors
    /// It is no ClientHello, or one that does not end within [`LONGEST_HELLO`] bytes.
    pub fn read(&mut self, received: &[u8]) -> Result<Option<Accepted>, HelloError> {
        while self.fed < received.len() {
            // rustls takes a few KiB at a time, and has to be asked before it takes more.
            let taken = self.acceptor.read_tls(&mut &received[self.fed..]);
            self.fed += taken.map_err(|cause| HelloError { cause, alert: None })?;
            match self.acceptor.accept() {
                Ok(Some(accepted)) => return Ok(Some(accepted)),
                Ok(None) => {}
                Err((error, alert)) => return Err(HelloError::new(error, Some(alert))),
            }
        }
        if received.len() >= LONGEST_HELLO {
            return Err(HelloError::new("the ClientHello is too long", None));
        }
        Ok(None)
    }
}

/// The name that the client wants to reach (SNI), in lower case.
pub fn server_name(hello: &Accepted) -> Option<String> {
    hello.client_hello().server_name().map(str::to_ascii_lowercase)
}
