//! The corpus of HTTP/2: rows C and D as far as they are frames of one connection, whole and byte by byte, in clear text and
//! over TLS. In row C1 every rule of RFC 9113 and RFC 7541 that a client can break has its case, named by its section.
//!
//! Floods are in `corpus_floods.rs`.

mod corpus;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use meshwright_testkit::corpus::{FrameCase, FrameMust, http2};
use meshwright_testkit::{Authority, Config, Launch, Recorder, TlsClient, binary};

use corpus::{Setting, no_failures};

/// Connections that send at the same time.
const CONNECTIONS: usize = 8;
/// Inputs of up to so many bytes are sent byte by byte as well.
const SHORT: usize = 400;

/// Judges all cases whole, and the short ones byte by byte.
fn failures_of(cases: &[&FrameCase], address: SocketAddr, tls: Option<&TlsClient>) -> Vec<String> {
    // A byte as a TLS record of its own costs a hundred times as much and shows nothing new.
    let short = cases.iter().filter(|case| tls.is_none() && case.bytes.len() <= SHORT).map(|case| (*case, true));
    let inputs: Vec<(&FrameCase, bool)> = cases.iter().map(|case| (*case, false)).chain(short).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                while let Some((case, bytewise)) = inputs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(reason) = case.try_at(address, tls, *bytewise) {
                        let failure = format!("{} ({}), bytewise {bytewise}: {reason}", case.row, case.name);
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[track_caller]
fn judge_row(row: &str) {
    let cases = http2();
    let cases: Vec<&FrameCase> = cases.iter().filter(|case| case.row == row).collect();
    assert!(!cases.is_empty(), "there are such cases");
    let setting = Setting::new();
    let (refused, others): (Vec<&FrameCase>, Vec<&FrameCase>) =
        cases.into_iter().partition(|case| matches!(case.must, FrameMust::Refused(_)));
    let before = setting.recorder.tally().requests;
    no_failures(&failures_of(&refused, setting.process.gateway(), None));
    assert_eq!(setting.recorder.tally().requests, before, "nothing that is refused reaches the origin as a request");
    no_failures(&failures_of(&others, setting.process.gateway(), None));
    setting.stays_unharmed();
}

#[test]
fn all_rows_are_judged_alike_over_tls() {
    let recorder = Recorder::start();
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("corpus");
    let (certificate, key) = authority.server(&["x"]).write(folder.path(), "x");
    let gateway = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: front}}\nspec:\n  servers:\n  - port: {{number: 443, name: https, \
         protocol: HTTPS}}\n    hosts: ['*']\n    tls: {{mode: SIMPLE, serverCertificate: {}, privateKey: {}}}\n",
        certificate.display(),
        key.display()
    );
    let routes = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: all}\nspec:\n  hosts: ['*']\n  gateways: [front]\n  \
                  http: [{route: [{destination: {host: svc}}]}]\n";
    let config = Config::new(&[&gateway, routes]);
    let process = Launch::command(binary!())
        .args(&["run", "--bind", "127.0.0.1", "--map-port", "443=0", "--mesh", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .file(config.path())
        .service_at("svc", recorder.address())
        .args(&["--no-watch", "--workers", "1", "--log", "error"])
        .start();
    let tls = TlsClient::trusting(&authority, "x").alpn(&["h2"]);
    let cases = http2();
    let cases: Vec<&FrameCase> = cases.iter().collect();
    no_failures(&failures_of(&cases, process.gateway(), Some(&tls)));
    let tally = recorder.tally();
    assert!(tally.smuggled.is_empty() && tally.faults.is_empty(), "{tally:?}");
}

#[test]
fn every_rule_has_its_case_and_every_row_its_test() {
    let cases = http2();
    let rules = cases.iter().filter(|case| case.row == "C1").count();
    println!("{} cases, {rules} of them rules of the RFCs", cases.len());
    assert!(rules >= 120, "{rules}");
    for case in &cases {
        assert!(include_str!("corpus_http2.rs").contains(&format!("(\"{}\")", case.row)), "row {}", case.row);
    }
}

#[test]
fn row_c1_the_rules_of_rfc_9113_and_rfc_7541() {
    judge_row("C1");
}

#[test]
fn row_c4_header_blocks_without_end() {
    judge_row("C4");
}

#[test]
fn row_c5_header_compression() {
    judge_row("C5");
}

#[test]
fn row_c8_windows() {
    judge_row("C8");
}

#[test]
fn row_c9_settings() {
    judge_row("C9");
}

#[test]
fn row_c10_stream_numbers() {
    judge_row("C10");
}

#[test]
fn row_c11_frames_behind_the_end_of_a_stream() {
    judge_row("C11");
}

#[test]
fn row_c12_trailers() {
    judge_row("C12");
}

#[test]
fn row_c13_lengths_that_are_not_those_of_data() {
    judge_row("C13");
}

#[test]
fn row_c14_fields_that_http2_forbids() {
    judge_row("C14");
}

#[test]
fn row_c15_pseudo_fields() {
    judge_row("C15");
}

#[test]
fn row_c16_what_is_no_http2() {
    judge_row("C16");
}

#[test]
fn row_d1_bytes_that_would_be_another_request_in_http1() {
    judge_row("D1");
}

#[test]
fn row_d2_host_and_authority() {
    judge_row("D2");
}

#[test]
fn row_d3_framing_in_http1() {
    judge_row("D3");
}

#[test]
fn row_d4_names_values_and_cookies_in_http1() {
    judge_row("D4");
}

#[test]
fn row_d5_cve_2026_33555_ends_without_data() {
    judge_row("D5");
}

#[test]
fn row_d6_extended_connect() {
    judge_row("D6");
}
