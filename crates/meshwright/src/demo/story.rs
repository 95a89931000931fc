//! What the demo says: addresses, lines to try, what to look for.

use std::fmt::Write;
use std::net::SocketAddr;

use super::{FAILING, OUTAGE, OUTAGE_EVERY, Started};

/// Addresses of the parts that listen.
pub struct Addresses {
    /// Gateway.
    pub gateway: SocketAddr,
    /// Mesh listener.
    pub mesh: SocketAddr,
    /// Admin API.
    pub admin: SocketAddr,
}

/// The text that is printed when everything listens. Every line that begins with `  curl` works as printed.
pub fn tell(addresses: &Addresses, backends: &[Started], rate: u32) -> String {
    let Addresses { gateway, mesh, admin } = addresses;
    let mut text = String::from("A small mesh runs in this process; Ctrl-C ends it.\n\n");
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    line(format!("  gateway  http://{gateway}"));
    line(format!("  mesh     http://{mesh}"));
    line(format!("  admin    http://{admin}"));
    for Started { instance, address } in backends {
        line(format!("  backend  http://{address}  {} ({} of {})", instance.name, instance.version, instance.service));
    }
    line("\nTry:".to_owned());
    line(format!("  curl http://{gateway}/users/7"));
    line(format!("  curl -H 'version: v2' http://{gateway}/users/7"));
    line(format!("  curl -d 'hello' 'http://{gateway}/posts/1?full=1'"));
    line(format!("  curl -i http://{gateway}/nowhere"));
    line(format!("  curl -H 'Host: user-service' http://{mesh}/users/7"));
    line(format!("  curl http://{admin}/clusters"));
    line(format!("  curl http://{admin}/metrics"));
    line(format!("  curl http://{admin}/config_dump"));
    line(format!("  meshwright endpoints list --admin http://{admin}"));
    if let Some(backend) = backends.first() {
        let (service, address) = (backend.instance.service, backend.address);
        line(format!("  meshwright endpoints drain {service} {address} --admin http://{admin}"));
    }
    line("\nLook for:".to_owned());
    line("  split      one request in ten for /users goes to v2; with the header `version: v2` all do".to_owned());
    line(format!(
        "  ejection   {FAILING} fails for {} s in every {} s; after three failures in a row it is taken out for 8 s",
        OUTAGE.as_secs(),
        OUTAGE_EVERY.as_secs(),
    ));
    line("  retries    clients do not notice: what failed is sent to another instance".to_owned());
    line("  metrics    istio_requests_total, by destination_version and response_code".to_owned());
    match rate {
        0 => line("\nNo load: send your own requests.".to_owned()),
        _ => line(format!("\nA load of {rate} requests per second runs; who answered is printed every 10 s.")),
    }
    text
}
