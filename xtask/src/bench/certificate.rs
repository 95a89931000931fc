//! The one certificate that every proxy shows: self-signed, ECDSA with P-256, made anew for each run.
//!
//! It does not know who shows it or who trusts it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The certificate's files, PEM.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The certificate; clients trust it as it is.
    pub(crate) chain: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants it.
    pub(crate) both: PathBuf,
}

impl Certificate {
    /// Makes it and writes its files into `folder`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn make(folder: &Path, name: &str) -> Result<Certificate> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).context("cannot make a certificate")?;
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |file: &str, text: &str| {
            let path = folder.join(file);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        Ok(Certificate {
            chain: write("certificate.pem", &chain)?,
            key: write("key.pem", &key)?,
            both: write("both.pem", &format!("{chain}{key}"))?,
        })
    }
}
