//! Certificates in files: read beside the configuration, watched, taken over when they change, refused when they are bad.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use common::{Running, eventually, settings};
use meshwright_control::{Control, Settings};
use meshwright_snapshot::{Snapshot, TlsAction};

/// Writes a new certificate for `host` into a directory, under Kubernetes' names.
fn certificate(directory: &Path, host: &str) {
    fs::create_dir_all(directory).unwrap();
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
    fs::write(directory.join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(directory.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
}

fn gateway(tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  servers:\n  - port: {{number: \
         443, name: https, protocol: HTTPS}}\n    hosts: ['*']\n    tls: {{{tls}}}\n"
    )
}

const FILES: &str = "mode: SIMPLE, serverCertificate: certs/tls.crt, privateKey: certs/tls.key";

/// DNS names of the certificate that the snapshot shows.
fn names(snapshot: &Snapshot) -> Vec<String> {
    match snapshot.listeners.iter().find_map(|listener| listener.tls.as_ref()).map(|tls| &tls.chains[0].action) {
        Some(TlsAction::Terminate { config, .. }) => config.names.clone(),
        _ => Vec::new(),
    }
}

fn running(settings: Settings) -> Running {
    Running::start(Settings { watch: true, ..settings })
}

#[tokio::test]
async fn files_start_beside_the_configuration_and_a_new_certificate_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    certificate(&directory.path().join("certs"), "one.example.com");
    let file = directory.path().join("gateway.yaml");
    fs::write(&file, gateway(FILES)).unwrap();
    let running = running(settings(&[file]));
    assert_eq!(names(&running.handle.snapshot()), ["one.example.com"]);
    let before = running.handle.snapshot().generation;
    certificate(&directory.path().join("certs"), "two.example.com");
    eventually("the new certificate is in use", || names(&running.handle.snapshot()) == ["two.example.com"]).await;
    assert!(running.handle.snapshot().generation > before);
    running.stop().await;
}

#[tokio::test]
async fn a_swapped_link_is_a_new_certificate_as_kubernetes_mounts_it() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    certificate(&certs.join("..one"), "one.example.com");
    certificate(&certs.join("..two"), "two.example.com");
    symlink("..one", certs.join("..data")).unwrap();
    symlink("..data/tls.crt", certs.join("tls.crt")).unwrap();
    symlink("..data/tls.key", certs.join("tls.key")).unwrap();
    let file = directory.path().join("gateway.yaml");
    fs::write(&file, gateway(FILES)).unwrap();
    let running = running(settings(&[file]));
    assert_eq!(names(&running.handle.snapshot()), ["one.example.com"]);
    symlink("..two", certs.join("..tmp")).unwrap();
    fs::rename(certs.join("..tmp"), certs.join("..data")).unwrap();
    eventually("the new certificate is in use", || names(&running.handle.snapshot()) == ["two.example.com"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_bad_certificate_is_refused_and_the_last_good_one_stays_until_a_good_one_comes() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    certificate(&certs, "one.example.com");
    let file = directory.path().join("gateway.yaml");
    fs::write(&file, gateway(FILES)).unwrap();
    let running = running(settings(&[file]));
    let generation = running.handle.snapshot().generation;
    fs::write(certs.join("tls.crt"), "no certificate").unwrap();
    eventually("the reload is refused", || !running.handle.status().last_reload_ok).await;
    let status = running.handle.status();
    let finding = &status.diagnostics[0];
    assert_eq!((finding.code, finding.path.as_str()), ("certificate", "spec.servers[0].tls.serverCertificate"));
    assert!(finding.message.contains("it holds no certificate"), "{}", finding.message);
    assert_eq!(running.handle.snapshot().generation, generation);
    assert_eq!(names(&running.handle.snapshot()), ["one.example.com"]);
    fs::remove_file(certs.join("tls.crt")).unwrap();
    let missing = || running.handle.status().diagnostics.iter().any(|finding| finding.code == "certificate-file");
    eventually("the missing file is named", missing).await;
    certificate(&certs, "two.example.com");
    eventually("the new certificate is in use", || names(&running.handle.snapshot()) == ["two.example.com"]).await;
    assert!(running.handle.status().last_reload_ok);
    running.stop().await;
}

#[tokio::test]
async fn credentials_are_found_in_their_directory_in_either_form() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    certificate(&store.join("edge"), "inside.example.com");
    let file = directory.path().join("gateway.yaml");
    fs::write(&file, gateway("mode: SIMPLE, credentialName: edge")).unwrap();
    let with = |store: &Path| Settings { credentials: Some(store.to_owned()), ..settings(std::slice::from_ref(&file)) };
    let running = running(with(&store));
    assert_eq!(names(&running.handle.snapshot()), ["inside.example.com"]);
    certificate(&store.join("edge"), "renewed.example.com");
    eventually("the renewed one is in use", || names(&running.handle.snapshot()) == ["renewed.example.com"]).await;
    running.stop().await;

    let flat = directory.path().join("flat");
    certificate(&flat, "beside.example.com");
    fs::rename(flat.join("tls.crt"), flat.join("edge.crt")).unwrap();
    fs::rename(flat.join("tls.key"), flat.join("edge.key")).unwrap();
    let running = Running::start(with(&flat));
    assert_eq!(names(&running.handle.snapshot()), ["beside.example.com"]);
    running.stop().await;
}

#[test]
fn what_is_not_there_refuses_the_start_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    let refused = |tls: &str| {
        fs::write(&file, gateway(tls)).unwrap();
        let recorder = Arc::new(common::Recorder::default());
        Control::start(settings(std::slice::from_ref(&file)), recorder).err().unwrap().remove(0)
    };
    let missing = refused(FILES);
    assert!(missing.message.ends_with("certs/tls.crt cannot be read: it does not exist"), "{}", missing.message);
    assert_eq!(missing.origin.unwrap().line, 8);
    let credential = refused("mode: SIMPLE, credentialName: ../edge");
    assert_eq!(credential.code, "IST0101");
}
