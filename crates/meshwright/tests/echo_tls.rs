//! `meshwright echo` over HTTP/2 and TLS, asked by curl.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use meshwright_testkit::{Authority, Leaf};
use serde_json::{Value, json};
use support::{Backend, curl, meshwright};

fn seen(arguments: &[&str]) -> Value {
    serde_json::from_str(&curl(arguments)).unwrap()
}

#[test]
fn http2_by_prior_knowledge_shares_the_port_with_http1() {
    let backend = Backend::start(&[]);
    let url = format!("http://{}/users?full=1", backend.address);
    let second = seen(&["--http2-prior-knowledge", "-d", "hello", "-H", "X-A: 1", &url]);
    assert_eq!(
        (&second["protocol"], &second["method"], &second["path"]),
        (&json!("HTTP/2"), &json!("POST"), &json!("/users"))
    );
    assert_eq!(second["authority"], json!(backend.address.to_string()));
    assert_eq!(
        (&second["query"], &second["body_bytes"], &second["headers"]["x-a"]),
        (&json!("full=1"), &json!(5), &json!("1"))
    );
    let first = seen(&["--http1.1", &url]);
    assert_eq!((&first["protocol"], &first["authority"]), (&json!("HTTP/1.1"), &Value::Null));
    assert_eq!(seen(&["--http1.0", &url])["protocol"], "HTTP/1.0");
}

#[test]
fn one_http2_connection_carries_many_requests_at_once() {
    let backend = Backend::start(&["--tls", "--delay", "20ms"]);
    let url = format!("https://{}/?number=[1-20]", backend.address);
    let said = curl(&["-k", "--parallel", "-o", "/dev/null", "-w", "%{http_version} %{http_code}\n", &url]);
    assert_eq!(said.lines().filter(|line| *line == "2 200").count(), 20, "{said}");
    let next = seen(&["-k", &format!("https://{}/", backend.address)]);
    assert_eq!((&next["connection"], &next["request"]), (&json!(2), &json!(21)));
}

#[test]
fn knobs_work_over_http2_too() {
    let backend = Backend::start(&["--status", "503"]);
    let get = |query: &str| {
        let url = format!("http://{}/{query}", backend.address);
        curl(&["--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", &url])
    };
    assert_eq!(get("?size=3MiB"), format!("503 {}", 3 << 20));
    assert_eq!(get("?status=204"), "204 0");
    assert!(get("?delay=1").starts_with("400 "));
}

#[test]
fn a_certificate_of_its_own_serves_both_protocols_by_alpn() {
    let backend = Backend::start(&["--tls"]);
    let port = backend.address.port();
    let url = format!("https://localhost:{port}/");
    let second = seen(&["-k", &url]);
    assert_eq!(second["protocol"], "HTTP/2");
    assert_eq!(second["tls"], json!({ "version": "TLSv1.3", "sni": "localhost", "alpn": "h2" }));
    let first = seen(&["-k", "--http1.1", "--tls-max", "1.2", &url]);
    assert_eq!(first["protocol"], "HTTP/1.1");
    assert_eq!(first["tls"], json!({ "version": "TLSv1.2", "sni": "localhost", "alpn": "http/1.1" }));
    let bare = seen(&["-k", "--no-alpn", &format!("https://127.0.0.1:{port}/")]);
    assert_eq!(bare["tls"], json!({ "version": "TLSv1.3", "sni": null, "alpn": null }));
}

#[test]
fn plain_requests_have_no_tls_facts() {
    let backend = Backend::start(&[]);
    assert_eq!(backend.get("/").json()["tls"], Value::Null);
}

#[test]
fn a_certificate_from_files_is_trusted_by_those_who_trust_its_authority() {
    let directory = tempfile::tempdir().unwrap();
    let root = Authority::new("root");
    let issued = root.intermediate("intermediate").server(&["echo.example.com"]);
    let (chain, key) = issued.write(directory.path(), "server");
    let roots = root.write(directory.path(), "root.pem");
    let files = ["--tls-certificate", chain.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let backend = Backend::start(&files);
    let url = format!("https://echo.example.com:{}/", backend.address.port());
    let resolve = format!("echo.example.com:{}:127.0.0.1", backend.address.port());
    let answer = seen(&["--cacert", roots.to_str().unwrap(), "--resolve", &resolve, &url]);
    assert_eq!((&answer["protocol"], &answer["tls"]["sni"]), (&json!("HTTP/2"), &json!("echo.example.com")));
}

#[test]
fn certificates_that_cannot_be_used_are_errors_that_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("root");
    let (chain, key) = authority.server(&["a"]).write(directory.path(), "a");
    let (_, other) = authority.issue(&Leaf::server(&["b"])).write(directory.path(), "b");
    let start = |certificate: &str, key: &str| {
        let flags = ["echo", "--listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key];
        support::output(&mut meshwright(&flags))
    };
    let (chain, key, other) = (chain.to_str().unwrap(), key.to_str().unwrap(), other.to_str().unwrap());
    for (certificate, key, named) in
        [(chain, other, chain), ("/missing.pem", key, "/missing.pem"), (key, key, key), (chain, chain, chain)]
    {
        let (code, _, error) = start(certificate, key);
        assert_eq!(code, 1, "{error}");
        assert!(error.contains(&format!("in {named}")), "{error}");
    }
    let (code, _, error) = support::output(&mut meshwright(&["echo", "--tls-certificate", chain]));
    assert_eq!(code, 2);
    assert!(error.contains("--tls-key"), "{error}");
}
