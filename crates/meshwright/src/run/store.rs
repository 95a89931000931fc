//! How to get to the etcd that keeps the service registry: the files that the flags name, made into settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use meshwright_catalog::{EtcdSettings, Login, TlsConfig};
use meshwright_identity::{Alpn, ClientSpec, ClientTls, KeyPair, SystemRoots, Trust};
use meshwright_model::UpstreamProtocol;

use crate::args::{RegistryArgs, StoreUrl};

/// Settings for the etcd of `url`.
///
/// # Errors
/// A file cannot be read, or does not hold what it should.
pub(super) fn settings(args: &RegistryArgs, url: StoreUrl) -> Result<EtcdSettings> {
    let tls = if url.tls { Some(tls(args, &url)?) } else { None };
    let login = args.store_login.as_deref().map(login).transpose()?;
    Ok(EtcdSettings { endpoints: url.endpoints, tls, login, prefix: url.prefix })
}

fn read(path: &Option<PathBuf>, flag: &str) -> Result<Option<Vec<u8>>> {
    let Some(path) = path else { return Ok(None) };
    fs::read(path).map(Some).with_context(|| format!("{flag} {}", path.display()))
}

fn tls(args: &RegistryArgs, url: &StoreUrl) -> Result<TlsConfig> {
    let authorities = read(&args.store_ca, "--store-ca")?;
    let certificate = read(&args.store_certificate, "--store-certificate")?;
    let key = read(&args.store_key, "--store-key")?;
    let system = SystemRoots::new(&rustls_native_certs::load_native_certs().certs);
    let pair = certificate.as_deref().zip(key.as_deref()).map(|(certificate, key)| KeyPair { certificate, key });
    let server_name = url.endpoints.first().map(|endpoint| endpoint.host.as_str()).unwrap_or_default();
    let spec = ClientSpec {
        pair,
        trust: authorities.as_deref().map_or(Trust::System(&system), Trust::Authorities),
        revoked: None,
        // Each member is verified by the name or address that it is spoken to with.
        subject_alt_names: &[],
        server_name,
        protocol: UpstreamProtocol::Http2,
        now: Some(SystemTime::now()),
    };
    let tls = ClientTls::new(&spec).context("--store-ca, --store-certificate, --store-key")?;
    Ok(tls.config_for(Alpn::Http2).clone())
}

/// `USER:PASSWORD`; the password may contain colons.
fn login(path: &Path) -> Result<Login> {
    let text = fs::read_to_string(path).with_context(|| format!("--store-login {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    match line.split_once(':') {
        Some((user, password)) if !user.is_empty() => {
            Ok(Login { user: user.to_owned(), password: password.to_owned() })
        }
        _ => bail!("--store-login {}: its first line is not USER:PASSWORD", path.display()),
    }
}
