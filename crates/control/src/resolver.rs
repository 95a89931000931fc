//! Looking names up, as an asynchronous shell around hickory. When, and what follows, is decided in `resolution.rs`.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use crate::resolution::Lookup;

/// Looks names up with the system's settings, or at one given server.
///
/// The system's settings (`/etc/resolv.conf`, `/etc/hosts`) are read when they are first needed; as long as they cannot be
/// read, every lookup fails with the reason and the next one tries again. IPv6 addresses are asked for only where a name has
/// no IPv4 address.
pub(crate) struct Resolver {
    name_server: Option<SocketAddr>,
    resolver: Option<TokioResolver>,
}

impl Resolver {
    pub(crate) fn new(name_server: Option<SocketAddr>) -> Self {
        Self { name_server, resolver: None }
    }

    /// Reads the system's settings again before the next lookup.
    pub(crate) fn reset(&mut self) {
        self.resolver = None;
    }

    /// A lookup to run, or the reason why none can be made now.
    pub(crate) fn lookup(&mut self, name: String) -> Result<impl Future<Output = Lookup> + Send + use<>, Lookup> {
        let resolver = match &self.resolver {
            Some(resolver) => resolver.clone(),
            None => self.resolver.insert(build(self.name_server)?).clone(),
        };
        Ok(async move { look_up(&resolver, &name).await })
    }
}

fn build(name_server: Option<SocketAddr>) -> Result<TokioResolver, Lookup> {
    let builder = match name_server {
        Some(address) => {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            let config = ResolverConfig::from_name_servers(vec![server]);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        }
        None => TokioResolver::builder_tokio()
            .map_err(|error| Lookup::Failure(format!("the system's resolver settings cannot be used: {error}")))?,
    };
    let mut builder = builder;
    let options: &mut ResolverOpts = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    // Our plan keeps every answer for its time to live; a second cache would only make answers older.
    options.cache_size = 0;
    builder.build().map_err(|error| Lookup::Failure(format!("the resolver cannot be started: {error}")))
}

async fn look_up(resolver: &TokioResolver, name: &str) -> Lookup {
    match resolver.lookup_ip(name).await {
        Ok(answer) => {
            let addresses: Vec<IpAddr> = answer.iter().collect();
            if addresses.is_empty() {
                return Lookup::Failure("the answer holds no address".to_owned());
            }
            Lookup::Answer { addresses, ttl: answer.valid_until().saturating_duration_since(Instant::now()) }
        }
        Err(error) => Lookup::Failure(error.to_string()),
    }
}
