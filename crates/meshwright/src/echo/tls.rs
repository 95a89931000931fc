//! The TLS side of the backend: a certificate from files, or one of its own that nobody has to trust.
//!
//! ALPN offers `h2` and `http/1.1`; TLS 1.2 and 1.3; session tickets as rustls makes them. It asks for no client certificate.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use tokio_rustls::TlsAcceptor;

/// What the handshake of a connection agreed on.
#[derive(Clone, Debug, Serialize)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Server name that the client asked for.
    pub sni: Option<String>,
    /// Application protocol.
    pub alpn: Option<String>,
}

impl TlsFacts {
    /// The facts of a connection after its handshake.
    pub fn of(connection: &rustls::ServerConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let alpn = connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        Self { version, sni: connection.server_name().map(ToOwned::to_owned), alpn }
    }
}

/// A certificate chain and its key, both PEM.
///
/// # Errors
/// A file cannot be read, has no such thing in it, or the two do not belong together.
pub fn of_files(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let unusable = |what: &str, path: &Path| format!("cannot use the {what} in {}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| unusable("certificate", certificate))?;
    if chain.is_empty() {
        anyhow::bail!("{}: there is no certificate in it", unusable("certificate", certificate));
    }
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| unusable("key", key))?;
    acceptor(chain, private).with_context(|| unusable("certificate", certificate))
}

/// A certificate for localhost, made now and forgotten at the end.
///
/// # Errors
/// There is no randomness to be had.
pub fn self_signed() -> anyhow::Result<TlsAcceptor> {
    let names = ["localhost", "127.0.0.1", "::1"].map(ToOwned::to_owned);
    let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    acceptor(vec![made.cert.into()], key).context("cannot use a certificate of our own")
}

fn acceptor(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}
