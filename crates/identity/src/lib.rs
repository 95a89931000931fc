//! Who a peer is: certificates to rustls configurations, and the checks of names.
//!
//! [`ServerTls`] is what a port shows to its clients and asks of them, [`ClientTls`] what is shown to a service and asked of
//! it. Both are made of PEM bytes; what is wrong with them is a [`Problem`] that says which part, and what to do.
//! The crate knows neither files, nor configuration documents, nor sockets, and reads no clock: the time that validity is
//! judged by is an argument. (rustls reads the clock itself when it verifies a peer.) Private keys go into rustls and
//! nowhere else. Read next: `server.rs` and `client.rs`, then `verify.rs`. Who uses it: `meshwright-snapshot`.

mod certificate;
mod client;
mod fingerprint;
mod pem;
mod problem;
mod provider;
mod server;
mod verify;

pub use certificate::{CertificateFacts, names_of};
pub use client::{Alpn, ClientSpec, ClientTls, SystemRoots, Trust};
pub use problem::{Flaw, Part, Problem};
pub use rustls_pki_types::CertificateDer;
pub use server::{ClientCheck, KeyPair, ServerSpec, ServerTls};
