//! Flags of the service registry in `run`: where it is kept, and who may use it.
//!
//! It opens nothing; the place of the default directory is decided here.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use meshwright_catalog::{Endpoint, EtcdSettings};

use super::value::{self, LocalListener};

/// Flags of the service registry.
#[derive(Clone, Debug, Args)]
pub struct RegistryArgs {
    /// Directory that keeps the service registry, or `none` for memory [default: the state directory, once something registers]
    #[arg(long, value_name = "DIR", env = "MESHWRIGHT_DATA")]
    data: Option<PathBuf>,

    /// Keep the service registry in etcd, where several processes share it: etcd://HOST:PORT[,HOST:PORT...][/PREFIX], etcds:// with TLS
    #[arg(long, value_name = "URL", value_parser = store_url, env = "MESHWRIGHT_STORE")]
    pub store: Option<StoreUrl>,

    /// Authorities that sign the certificates of etcd's members, PEM [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "store", env = "MESHWRIGHT_STORE_CA")]
    pub store_ca: Option<PathBuf>,

    /// Own certificate for etcd, PEM, with its key in --store-key
    #[arg(long, value_name = "FILE", requires = "store_key", env = "MESHWRIGHT_STORE_CERTIFICATE")]
    pub store_certificate: Option<PathBuf>,

    /// Key of --store-certificate, PEM
    #[arg(long, value_name = "FILE", requires = "store_certificate", env = "MESHWRIGHT_STORE_KEY")]
    pub store_key: Option<PathBuf>,

    /// File with USER:PASSWORD for etcd in its first line
    #[arg(long, value_name = "FILE", requires = "store", env = "MESHWRIGHT_STORE_LOGIN")]
    pub store_login: Option<PathBuf>,

    /// File with a token in each line that clients of the registry have to show; may be limited by namespace=N, service=S, read-only
    #[arg(long = "registry-tokens", value_name = "FILE", env = "MESHWRIGHT_REGISTRY_TOKENS")]
    pub tokens: Option<PathBuf>,

    /// Address of the API that Consul's clients speak, usually 127.0.0.1:8500 [default: off]
    #[arg(long = "consul", id = "consul_address", value_name = "ADDR", value_parser = value::local_listener, env = "MESHWRIGHT_CONSUL")]
    consul: Option<LocalListener>,

    /// Address of the DNS server, usually 127.0.0.1:8600; UDP and TCP [default: off]
    #[arg(long = "dns", id = "dns_address", value_name = "ADDR", value_parser = value::local_listener, env = "MESHWRIGHT_DNS")]
    dns: Option<LocalListener>,

    /// DNS server that is asked for names outside of `mesh.` and `consul.`; without it they are refused
    #[arg(long, value_name = "ADDR", requires = "dns_address", value_parser = value::endpoint, env = "MESHWRIGHT_DNS_FORWARD")]
    pub dns_forward: Option<SocketAddr>,
}

/// `--store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    /// Members of the cluster, at least one.
    pub endpoints: Vec<Endpoint>,
    /// Whether they are spoken to with TLS.
    pub tls: bool,
    /// What every key begins with; ends with a slash.
    pub prefix: String,
}

fn store_url(text: &str) -> Result<StoreUrl, String> {
    let form = "it must be etcd://HOST:PORT[,HOST:PORT...][/PREFIX], or etcds:// with TLS, such as etcd://10.0.0.1:2379,10.0.0.2:2379";
    let (tls, rest) = match text.split_once("://") {
        Some(("etcd", rest)) => (false, rest),
        Some(("etcds", rest)) => (true, rest),
        Some((other, _)) => return Err(format!("there is no store {other:?}: {form}")),
        None => return Err(form.to_owned()),
    };
    if rest.contains('@') {
        return Err("user and password do not belong here, where every user of this machine can read them; give a file with USER:PASSWORD by --store-login".to_owned());
    }
    let (members, path) = rest.split_once('/').unwrap_or((rest, ""));
    let endpoints =
        members.split(',').map(|member| member.parse::<Endpoint>().map_err(|error| format!("{error}; {form}")));
    let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/');
    if !path.bytes().all(letter) {
        return Err(format!("the prefix {path:?} must be of letters, digits, `.`, `-`, `_` and `/`"));
    }
    let path = path.trim_matches('/');
    let prefix = if path.is_empty() { EtcdSettings::PREFIX.to_owned() } else { format!("/{path}/") };
    Ok(StoreUrl { endpoints, tls, prefix })
}

/// Where the registry is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPlace {
    /// In etcd.
    Store(StoreUrl),
    /// In memory.
    Memory,
    /// In a directory that somebody asked for.
    Explicit(PathBuf),
    /// In the state directory of this user.
    Default(PathBuf),
}

impl RegistryArgs {
    /// What flags say that are fine one by one and contradict each other.
    ///
    /// # Errors
    /// A sentence that names both.
    pub(super) fn check(&self) -> Result<(), String> {
        let Some(store) = &self.store else { return Ok(()) };
        if self.data.as_ref().is_some_and(|data| data.as_os_str() != "none") {
            return Err("--store keeps the registry in etcd and --data in a directory; give one of them".to_owned());
        }
        if !store.tls && (self.store_ca.is_some() || self.store_certificate.is_some()) {
            return Err(
                "--store-ca and --store-certificate are for TLS, so --store must begin with etcds://".to_owned()
            );
        }
        Ok(())
    }

    /// Where Consul's clients find the registry.
    pub fn consul(&self) -> Option<SocketAddr> {
        at(self.consul)
    }

    /// Where the DNS server listens.
    pub fn dns(&self) -> Option<SocketAddr> {
        at(self.dns)
    }

    /// Where the registry is kept.
    pub fn place(&self) -> DataPlace {
        if let Some(store) = &self.store {
            return DataPlace::Store(store.clone());
        }
        match &self.data {
            Some(data) if data.as_os_str() == "none" => DataPlace::Memory,
            Some(data) => DataPlace::Explicit(data.clone()),
            None => state_directory().map_or(DataPlace::Memory, DataPlace::Default),
        }
    }
}

fn at(listener: Option<LocalListener>) -> Option<SocketAddr> {
    match listener {
        Some(LocalListener::At(address)) => Some(address),
        Some(LocalListener::Off) | None => None,
    }
}

/// `$XDG_STATE_HOME/meshwright`, `/var/lib/meshwright` for root, `~/.local/state/meshwright`; none without a home.
fn state_directory() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = path("XDG_STATE_HOME") {
        return Some(state.join("meshwright"));
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/meshwright"));
    }
    path("HOME").map(|home| home.join(".local/state/meshwright"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_names_members_and_a_prefix_and_no_password() {
        let url = store_url("etcd://10.0.0.1:2379,etcd-2").unwrap();
        let members: Vec<String> = url.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!((members, url.tls), (vec!["10.0.0.1:2379".to_owned(), "etcd-2:2379".to_owned()], false));
        assert_eq!(url.prefix, "/meshwright/");
        let url = store_url("etcds://[::1]:1/shop/eu/").unwrap();
        assert_eq!((url.tls, url.prefix.as_str()), (true, "/shop/eu/"));
        for (bad, why) in [
            ("10.0.0.1:2379", "it must be etcd://"),
            ("redis://10.0.0.1", "there is no store \"redis\""),
            ("etcd://root:secret@10.0.0.1", "--store-login"),
            ("etcd://", "is no member of etcd"),
            ("etcd://a,,b", "is no member of etcd"),
            ("etcd://a/b c", "the prefix"),
        ] {
            let sentence = store_url(bad).unwrap_err();
            assert!(sentence.contains(why), "{bad}: {sentence}");
        }
    }
}
