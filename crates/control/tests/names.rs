//! DNS names of endpoints, against a name server of our own.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use meshwright_control::{Command, Control};
use meshwright_snapshot::Snapshot;
use tempfile::tempdir;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Addresses and time to live by name.
type Records = HashMap<String, (Vec<Ipv4Addr>, u32)>;

/// Answers A queries over UDP from a table that a test may change; everything else does not exist.
struct NameServer {
    address: SocketAddr,
    records: Arc<Mutex<Records>>,
    queries: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let records: Arc<Mutex<Records>> = Arc::default();
        let queries = Arc::new(AtomicUsize::new(0));
        let (known, counter) = (Arc::clone(&records), Arc::clone(&queries));
        let task = tokio::spawn(async move {
            let mut buffer = [0u8; 1500];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = answer(&buffer[..length], &known.lock().unwrap());
                socket.send_to(&answer, client).await.unwrap();
            }
        });
        Self { address, records, queries, task }
    }

    fn set(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.records.lock().unwrap().insert(name.to_owned(), (addresses, ttl));
    }

    fn remove(&self, name: &str) {
        self.records.lock().unwrap().remove(name);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The response to one query of one question (RFC 1035 4.1).
fn answer(query: &[u8], records: &Records) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).to_lowercase());
        at += 1 + length;
    }
    let question = &query[12..at + 5];
    let is_a = query[at + 1..at + 3] == [0, 1];
    let found = records.get(&labels.join("."));
    let none = (Vec::new(), 0);
    let (addresses, ttl) = found.filter(|_| is_a).unwrap_or(&none);
    let code = if found.is_some() { 0 } else { 3 };
    let mut response = query[..2].to_vec();
    response.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    response.extend(question);
    for address in addresses {
        response.extend([0xc0, 12, 0, 1, 0, 1]);
        response.extend(ttl.to_be_bytes());
        response.extend([0, 4]);
        response.extend(address.octets());
    }
    response
}

fn start(server: &NameServer, text: &str) -> (tempfile::TempDir, Running) {
    let root = tempdir().unwrap();
    let path = root.path().join("mesh.yaml");
    fs::write(&path, text).unwrap();
    let mut settings = settings(&[path]);
    settings.name_server = Some(server.address);
    (root, Running::start(settings))
}

fn ips(running: &Running, host: &str) -> Vec<String> {
    running.addresses(&format!("outbound|80||{host}")).iter().map(|address| address.ip().to_string()).collect()
}

#[tokio::test]
async fn a_name_is_resolved_at_the_start_and_again_when_its_time_is_over() {
    let server = NameServer::start().await;
    server.set("db.names.test", &["10.0.0.1", "10.0.0.2"], 1);
    let (_root, running) = start(&server, &named_service("db.test", "db.names.test", "DNS"));
    eventually("both addresses are there", || ips(&running, "db.test") == ["10.0.0.1", "10.0.0.2"]).await;
    assert_eq!(running.handle.status().generation, 1, "endpoints are no new configuration");
    assert!(running.handle.status().number > 1);
    server.set("db.names.test", &["10.0.0.3"], 1);
    eventually("the new address replaces them", || ips(&running, "db.test") == ["10.0.0.3"]).await;
    let status = running.handle.status();
    assert_eq!(status.names.len(), 1);
    assert_eq!((status.names[0].name.as_str(), status.names[0].failures), ("db.names.test", 0));
    running.stop().await;
}

#[tokio::test]
async fn round_robin_takes_only_the_first_address() {
    let server = NameServer::start().await;
    server.set("db.names.test", &["10.0.0.2", "10.0.0.1"], 300);
    let (_root, running) = start(&server, &named_service("db.test", "db.names.test", "DNS_ROUND_ROBIN"));
    eventually("one address is there", || !ips(&running, "db.test").is_empty()).await;
    assert_eq!(ips(&running, "db.test"), ["10.0.0.2"]);
    running.stop().await;
}

#[tokio::test]
async fn a_name_that_fails_keeps_its_addresses_and_the_failure_is_said() {
    let server = NameServer::start().await;
    server.set("db.names.test", &["10.0.0.1"], 1);
    let (_root, running) = start(&server, &named_service("db.test", "db.names.test", "DNS"));
    eventually("the address is there", || ips(&running, "db.test") == ["10.0.0.1"]).await;
    server.remove("db.names.test");
    eventually("the failure is said", || running.handle.status().names[0].error.is_some()).await;
    assert_eq!(ips(&running, "db.test"), ["10.0.0.1"]);
    let detail = running.handle.status().detail();
    assert!(detail.iter().any(|line| line.contains("db.names.test cannot be resolved")), "{detail:?}");
    server.set("db.names.test", &["10.0.0.2"], 1);
    eventually("it recovers", || ips(&running, "db.test") == ["10.0.0.2"]).await;
    assert!(running.handle.status().names[0].error.is_none());
    running.stop().await;
}

#[tokio::test]
async fn a_reload_keeps_the_addresses_of_names_that_stay() {
    let server = NameServer::start().await;
    server.set("db.names.test", &["10.0.0.1"], 300);
    server.set("web.names.test", &["10.0.0.9"], 300);
    let first = named_service("db.test", "db.names.test", "DNS");
    let (root, running) = start(&server, &first);
    eventually("the address is there", || ips(&running, "db.test") == ["10.0.0.1"]).await;
    let asked = server.queries.load(Ordering::SeqCst);
    let cluster = running.handle.snapshot().cluster("outbound|80||db.test").cloned().unwrap();
    let second = format!("{}{first}", named_service("web.test", "web.names.test", "DNS"));
    fs::write(root.path().join("mesh.yaml"), second).unwrap();
    running.commands.send(Command::Reload).await.unwrap();
    eventually("the new name is resolved", || ips(&running, "web.test") == ["10.0.0.9"]).await;
    let kept = running.handle.snapshot().cluster("outbound|80||db.test").cloned().unwrap();
    assert!(Arc::ptr_eq(&cluster, &kept), "it was there all the time");
    let known = |snapshot: &Arc<Snapshot>| !snapshot.cluster("outbound|80||db.test").unwrap().addresses.is_empty();
    let history: Vec<bool> = running.recorder.snapshots.lock().unwrap().iter().map(known).collect();
    assert!(history.is_sorted(), "never without it again: {history:?}");
    assert!(server.queries.load(Ordering::SeqCst) > asked, "the new name was asked for");
    running.stop().await;
}

#[tokio::test]
async fn one_name_serves_several_services() {
    let server = NameServer::start().await;
    server.set("db.names.test", &["10.0.0.1"], 300);
    let text = format!(
        "{}{}",
        named_service("one.test", "db.names.test", "DNS"),
        named_service("two.test", "db.names.test", "DNS")
    );
    let (_root, running) = start(&server, &text);
    eventually("both have it", || {
        ips(&running, "one.test") == ["10.0.0.1"] && ips(&running, "two.test") == ["10.0.0.1"]
    })
    .await;
    assert_eq!(running.handle.status().endpoint_updates, 1, "one answer is one publication");
    running.stop().await;
}

#[tokio::test]
async fn endpoints_are_there_before_anything_runs_when_their_names_are_waited_for() {
    let server = NameServer::start().await;
    server.set("db.names.test", &["10.0.0.1"], 300);
    let root = tempdir().unwrap();
    let path = root.path().join("mesh.yaml");
    fs::write(&path, named_service("db.test", "db.names.test", "DNS")).unwrap();
    let mut settings = settings(&[path]);
    settings.name_server = Some(server.address);
    let (mut control, _) = Control::start(settings, Arc::new(Recorder::default())).unwrap();
    assert!(control.handle().snapshot().cluster("outbound|80||db.test").unwrap().addresses.is_empty());
    assert!(control.first_answers(Duration::from_secs(20)).await);
    assert_eq!(control.handle().snapshot().cluster("outbound|80||db.test").unwrap().addresses.len(), 1);
}

#[tokio::test]
async fn nobody_waits_for_a_silent_name_server_longer_than_his_patience() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let root = tempdir().unwrap();
    let path = root.path().join("mesh.yaml");
    fs::write(&path, named_service("db.test", "db.names.test", "DNS")).unwrap();
    let mut settings = settings(&[path]);
    settings.name_server = Some(silent.local_addr().unwrap());
    let (mut control, _) = Control::start(settings, Arc::new(Recorder::default())).unwrap();
    assert!(!control.first_answers(Duration::from_millis(50)).await);
}
