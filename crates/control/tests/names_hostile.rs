//! A name server that answers anything (row H13 of the corpus): what was resolved last stays until there is a good answer.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::*;
use meshwright_snapshot::Snapshot;
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// What the name server says to every query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// This last byte of an address, with this time to live.
    Address(u8, u32),
    /// No error and no answer.
    NoAnswer,
    /// As many addresses as a message over TCP has room for, and that they are 10,000.
    TenThousand,
    /// Two names that stand for each other.
    Loop,
    /// The truncation bit, and nothing over TCP either.
    Truncated,
    /// The beginning of an answer.
    Cut,
    /// There is no such name.
    NoName,
    /// An answer to another question than was asked.
    Foreign,
    /// Bytes.
    Noise,
    /// Nothing at all.
    Silence,
}

struct NameServer {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    async fn start() -> Self {
        let (tcp, udp) = bind().await;
        let address = tcp.local_addr().unwrap();
        let says = Arc::new(Mutex::new(Says::Address(1, 1)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (known, counter) = (Arc::clone(&says), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut buffer = [0u8; 1500];
            loop {
                let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let says = *known.lock().unwrap();
                let answer = match says {
                    Says::TenThousand => truncated(&buffer[..length]),
                    says => answer(&buffer[..length], says),
                };
                if !answer.is_empty() {
                    udp.send_to(&answer, client).await.unwrap();
                }
            }
        });
        let known = Arc::clone(&says);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = tcp.accept().await {
                let says = *known.lock().unwrap();
                let Ok(length) = client.read_u16().await else { continue };
                let mut query = vec![0; usize::from(length)];
                let answer = match client.read_exact(&mut query).await {
                    Ok(_) if says != Says::Truncated => answer(&query, says),
                    _ => continue,
                };
                let _ = client.write_u16(u16::try_from(answer.len()).unwrap()).await;
                let _ = client.write_all(&answer).await;
            }
        });
        Self { address, says, asked }
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

/// One port for both.
async fn bind() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (tcp, udp);
        }
    }
}

/// Where the question of a query ends.
fn question(query: &[u8]) -> &[u8] {
    let mut at = 12;
    while query[at] != 0 {
        at += 1 + usize::from(query[at]);
    }
    &query[12..at + 5]
}

fn head(query: &[u8], flags: [u8; 2], answers: u16) -> Vec<u8> {
    let mut head = query[..2].to_vec();
    head.extend(flags);
    head.extend([0, 1]);
    head.extend(answers.to_be_bytes());
    head.extend([0, 0, 0, 0]);
    head.extend(question(query));
    head
}

fn truncated(query: &[u8]) -> Vec<u8> {
    head(query, [0x83, 0x80], 0)
}

/// One record of the name that was asked for.
fn record(kind: u8, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12, 0, kind, 0, 1];
    record.extend(ttl.to_be_bytes());
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    record
}

/// The message (RFC 1035 4.1); empty is none.
fn answer(query: &[u8], says: Says) -> Vec<u8> {
    let is_a = question(query).ends_with(&[0, 1, 0, 1]);
    let fine = [0x81, 0x80];
    match says {
        Says::Address(last, ttl) if is_a => [head(query, fine, 1), record(1, ttl, &[10, 0, 0, last])].concat(),
        Says::Address(..) | Says::NoAnswer => head(query, fine, 0),
        Says::TenThousand => {
            let mut message = head(query, fine, 10_000);
            for number in 0..4000u16 {
                let [high, low] = number.to_be_bytes();
                message.extend(record(1, 1, &[10, 66, high, low]));
            }
            message
        }
        Says::Loop => {
            // The name stands for `x` before it, and that for the name.
            let mut message = head(query, fine, 2);
            let second = u16::try_from(message.len()).unwrap() + 12;
            message.extend(record(5, 1, &[1, b'x', 0xc0, 12]));
            message.extend([
                0xc0 | second.to_be_bytes()[0],
                second.to_be_bytes()[1],
                0,
                5,
                0,
                1,
                0,
                0,
                0,
                1,
                0,
                2,
                0xc0,
                12,
            ]);
            message
        }
        Says::Truncated => truncated(query),
        Says::Cut => head(query, fine, 1)[..14].to_vec(),
        Says::NoName => head(query, [0x81, 0x83], 0),
        Says::Foreign => {
            let mut message = [head(query, fine, 1), record(1, 1, &[10, 66, 66, 66])].concat();
            message[0] ^= 0xff;
            message[13] ^= 1;
            message
        }
        Says::Noise => [query[..2].to_vec(), vec![0xff; 40]].concat(),
        Says::Silence => Vec::new(),
    }
}

fn ips(running: &Running) -> Vec<String> {
    running.addresses("outbound|80||db.test").iter().map(|address| address.ip().to_string()).collect()
}

#[tokio::test]
async fn row_h13_whatever_a_name_server_says_the_last_good_addresses_stay_until_a_good_answer() {
    let all = [
        Says::NoAnswer,
        Says::TenThousand,
        Says::Loop,
        Says::Truncated,
        Says::Cut,
        Says::NoName,
        Says::Foreign,
        Says::Noise,
        Says::Silence,
    ];
    // Each against a server and a control plane of its own, all at one time.
    let one = |says: Says| async move {
        let server = NameServer::start().await;
        let (_root, running) = asks(&server).await;
        server.say(says);
        let before = server.asked.load(Ordering::SeqCst);
        eventually(&format!("{says:?} is asked for"), || server.asked.load(Ordering::SeqCst) > before).await;
        if matches!(says, Says::NoAnswer | Says::Loop | Says::NoName) {
            // The others are no answers, and are waited for until the time of the lookup is over.
            eventually(&format!("{says:?} is a failure"), || running.handle.status().names[0].error.is_some()).await;
        }
        assert_eq!(ips(&running), ["10.0.0.1"], "{says:?}");
        server.say(Says::Address(2, 1));
        eventually(&format!("after {says:?} it recovers"), || ips(&running) == ["10.0.0.2"]).await;
        let known = |snapshot: &Arc<Snapshot>| {
            let cluster = snapshot.cluster("outbound|80||db.test").unwrap();
            cluster.addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        let mut history: Vec<Vec<String>> = running.recorder.snapshots.lock().unwrap().iter().map(known).collect();
        history.dedup();
        assert_eq!(history.last().unwrap(), &["10.0.0.2"], "{says:?}");
        let before = history.iter().rev().skip(1).take_while(|addresses| !addresses.is_empty());
        assert_eq!(before.collect::<Vec<_>>(), [&["10.0.0.1"]], "{says:?}: nothing came between");
        running.stop().await;
    };
    futures_of(all.map(one)).await;
}

/// A control plane that has had its first address from this server, and the folder of its file.
async fn asks(server: &NameServer) -> (TempDir, Running) {
    let root = tempdir().unwrap();
    let path = root.path().join("mesh.yaml");
    fs::write(&path, named_service("db.test", "db.names.test", "DNS")).unwrap();
    let mut settings = settings(&[path]);
    settings.name_server = Some(server.address);
    let running = Running::start(settings);
    eventually("the address is there", || ips(&running) == ["10.0.0.1"]).await;
    (root, running)
}

/// Waits for all of them.
async fn futures_of<const N: usize>(all: [impl Future<Output = ()> + 'static; N]) {
    let set = tokio::task::LocalSet::new();
    set.run_until(async {
        let mut tasks = tokio::task::JoinSet::new();
        for one in all {
            tasks.spawn_local(one);
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn row_h13_times_to_live_of_nothing_and_of_an_age_are_times_that_a_name_is_asked_for_again() {
    for ttl in [0, 1 << 31, u32::MAX] {
        let server = NameServer::start().await;
        server.say(Says::Address(1, ttl));
        let (_root, running) = asks(&server).await;
        let status = running.handle.status();
        assert_eq!((status.names[0].failures, status.names[0].addresses.len()), (0, 1), "{ttl}");
        if ttl == 0 {
            server.say(Says::Address(2, 0));
            eventually("it is asked for again", || ips(&running) == ["10.0.0.2"]).await;
        }
        running.stop().await;
    }
}
