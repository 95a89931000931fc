//! How a process starts, and what it says when it cannot.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use meshwright_testkit::{Config, GATEWAY, Launch, Origin, RawClient, Signal, binary, gateway_to};

#[test]
fn proxy_balances_without_a_file_and_answers_soon() {
    let origins = [Origin::named("a"), Origin::named("b")];
    let start = Instant::now();
    let process = Launch::proxy(binary!(), &origins.each_ref().map(Origin::address))
        .args(&["--lb", "round-robin", "--workers", "1"])
        .start();
    let mut client = process.connect();
    assert_eq!(client.get("anything.example:1234", "/x?y").status, 200);
    // The aim is 100 ms; other tests run beside this one.
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    for _ in 0..19 {
        assert_eq!(client.get("anything.example", "/x?y").status, 200);
    }
    assert_eq!(origins.each_ref().map(Origin::count), [10, 10]);
    assert_eq!(origins[0].last().target, "/x?y");
    process.metric_becomes("istio_requests_total", &[("response_code", "200")], 20.0);
}

#[test]
fn bad_configuration_ends_with_65_and_every_finding_with_its_place() {
    let config = Config::new(&[
        &gateway_to("svc"),
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc}\nspec: {hosst: svc}\n",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [a], http: [{timeout: soon}]}\n",
    ]);
    let (code, _, error) = Launch::run(binary!()).file(config.path()).output();
    assert_eq!(code, 65);
    for expected in ["mesh.yaml:", "hosst", "host", "soon", "timeout"] {
        assert!(error.contains(expected), "{expected} is missing in\n{error}");
    }
    assert!(!error.lines().any(|line| line == "ready"));
}

#[test]
fn a_gateway_port_that_is_taken_is_said_with_its_place_and_advice() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = Config::new(&[GATEWAY]);
    let launch = Launch::run_at(binary!(), port).file(config.path());
    let (code, _, error) = launch.output();
    assert_eq!(code, 65, "{error}");
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--map-port"), "{error}");
    assert!(error.contains("mesh.yaml:"), "{error}");
}

#[test]
fn an_admin_address_that_was_asked_for_and_is_taken_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = Config::new(&[GATEWAY]);
    let file = config.path().to_str().unwrap();
    let arguments = ["run", "-f", file, "--map-port", "80=0", "--mesh", "127.0.0.1:0", "--admin", &address];
    let (code, _, error) = Launch::command(binary!()).args(&arguments).output();
    assert_eq!(code, 1, "{error}");
    assert!(error.contains(&address) && error.contains("--admin"), "{error}");
}

#[test]
fn default_ports_that_are_taken_move_and_are_printed() {
    let config = Config::new(&[GATEWAY]);
    let start = || {
        Launch::command(binary!())
            .args(&["run", "--bind", "127.0.0.1", "--map-port", "80=0"])
            .file(config.path())
            .start()
    };
    let (first, second) = (start(), start());
    assert_ne!(first.admin(), second.admin());
    assert_ne!(first.mesh(), second.mesh());
    for process in [&first, &second] {
        assert!(process.admin().ip().is_loopback() && process.mesh().ip().is_loopback());
        assert_eq!(process.admin_get("/ready").status, 200);
        assert_eq!(RawClient::connect(process.mesh()).get("nobody", "/").status, 502);
    }
}

#[test]
fn the_admin_api_and_the_mesh_listener_can_be_switched_off() {
    let origin = Origin::named("ok");
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::command(binary!())
        .args(&["run", "--bind", "127.0.0.1", "--map-port", "80=0", "--admin", "off", "--mesh", "off"])
        .file(config.path())
        .service_at("svc", origin.address())
        .start();
    assert_eq!(process.get("x", "/").text(), "ok");
    let said = process.stderr();
    assert!(!said.contains("admin http://") && !said.contains(" mesh http://"), "{said}");
}

#[test]
fn configuration_comes_from_standard_input_too() {
    let origin = Origin::named("ok");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(gateway_to("svc").as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let process = Launch::run(binary!()).args(&["-f", "-"]).service_at("svc", origin.address()).input(file).start();
    assert_eq!(process.get("x", "/").text(), "ok");
    assert!(process.admin_get("/config_dump").text().contains("<stdin>:"));
    process.signal(Signal::HUP);
    process.metric_becomes("meshwright_config_reload_failures_total", &[], 0.0);
    assert_eq!(process.get("x", "/").text(), "ok", "what was read once stays");
}

#[test]
fn settings_come_from_the_environment_and_the_command_line_wins() {
    let origin = Origin::named("ok");
    let config = Config::new(&[&gateway_to("svc")]);
    let process = Launch::run(binary!())
        .file(config.path())
        .environment("MESHWRIGHT_SERVICE", &format!("svc={}", origin.address()))
        .environment("MESHWRIGHT_ACCESS_LOG", "json")
        .environment("MESHWRIGHT_LOG", "nonsense that is never looked at")
        .args(&["--log", "warn"])
        .start();
    assert_eq!(process.get("x", "/").text(), "ok");
    meshwright_testkit::eventually("the line is written", || process.stdout().len() == 1);
    assert!(process.stdout()[0].starts_with('{'));
    assert_eq!(process.admin_get("/logging").text().trim(), "warn");
}

#[test]
fn a_service_flag_replaces_other_sources_and_that_is_logged() {
    let (flag, entry) = (Origin::named("flag"), Origin::named("entry"));
    let yaml = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: svc}}
spec:
  hosts: [svc.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]
",
        entry.address().port()
    );
    let config = Config::new(&[&gateway_to("svc.example"), &yaml]);
    let process = Launch::run(binary!()).file(config.path()).start();
    assert_eq!(process.get("x", "/").text(), "entry");
    let process = Launch::run(binary!()).file(config.path()).service_at("svc.example", flag.address()).start();
    assert_eq!(process.get("x", "/").text(), "flag");
    assert!(process.stderr().contains("svc.example") && process.stderr().contains("--service"), "{}", process.stderr());
}
