//! TLS of the gateway as sslyze sees it, graded by Mozilla's recommendations. `cargo xtask tools` installs it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::process::Stdio;
use std::time::Duration;

use meshwright_testkit::{Authority, Config, Launch, Leaf, Meshwright, Origin, binary, https_gateway_to};
use support::installed_command;

const NAME: &str = "edge.example.com";
/// The longest life of a certificate that Mozilla recommends.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// A gateway for HTTPS with these further fields of `tls`.
fn gateway(tls: &str) -> (Config, Origin, Meshwright) {
    let origin = Origin::echoes();
    let config = Config::new(&[&https_gateway_to("svc", tls)]);
    let leaf = Leaf::server(&[NAME]).lifetime(LIFETIME);
    let root = Authority::new("ours");
    root.write(config.directory(), "root.pem");
    root.intermediate("of ours").issue(&leaf).write(config.directory(), "edge");
    let process = Launch::run(binary!())
        .file(config.path())
        .service_at("svc", origin.address())
        .args(&["--no-watch", "--map-port", "443=0"])
        .start();
    (config, origin, process)
}

/// Lets sslyze grade the gateway by a configuration of Mozilla; what it found.
#[track_caller]
fn graded(config: &Config, process: &Meshwright, configuration: &str) -> String {
    let roots = config.directory().join("root.pem");
    let output = installed_command("python/bin/sslyze")
        .args(["--sni", NAME, &format!("--mozilla_config={configuration}"), "--certinfo_ca_file"])
        .arg(roots)
        .arg(process.listener(443).unwrap().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("COMPLIANCE AGAINST TLS CONFIGURATION"), "{said}");
    said
}

/// The verdict at its end.
fn verdict(said: &str) -> &str {
    said.split_once("COMPLIANCE AGAINST TLS CONFIGURATION").unwrap().1
}

#[test]
fn the_defaults_are_mozillas_intermediate_configuration() {
    let (config, _origin, process) = gateway("");
    let said = graded(&config, &process, "intermediate");
    assert!(verdict(&said).contains(": OK - Compliant."), "{said}");
    for part in
        ["Not vulnerable to Heartbleed", "Not vulnerable, RSA cipher suites not supported", "Compression disabled"]
    {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    // Clients that speak nothing newer than version 1.2 are served, which is not modern.
    let said = graded(&config, &process, "modern");
    assert!(verdict(&said).contains("FAILED - Not compliant."), "{said}");
}

#[test]
fn from_version_1_3_on_it_is_mozillas_modern_configuration() {
    let (config, _origin, process) = gateway(", minProtocolVersion: TLSV1_3");
    let said = graded(&config, &process, "modern");
    assert!(verdict(&said).contains(": OK - Compliant."), "{said}");
}
