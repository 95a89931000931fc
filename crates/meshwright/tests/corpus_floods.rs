//! Floods of HTTP/2, rows C2 to C8: each ends within a thousand frames, costs next to no memory, and nobody else notices.
//!
//! While a flood runs, another client asks a thousand times a second, and not one of its requests may fail.

mod corpus;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use meshwright_testkit::corpus::{floods as floods_of_corpus, pour};
use meshwright_testkit::frames::{self, FrameClient, code, field, headers, indexed_field, kind, request, reset};
use meshwright_testkit::{Meshwright, RawClient, eventually, pass};

use corpus::Setting;

/// Frames after which the connection must be closed.
const MOST_FRAMES: usize = 1000;
/// What a flood may make the process grow by.
const GROWTH: u64 = 1024 * 1024;

/// Connections of the other client, and the time between two requests of each: a thousand requests a second in all.
const ASKING: usize = 4;
const PACE: Duration = Duration::from_millis(4);

/// Somebody who asks all the time.
struct Neighbour {
    begun: Instant,
    stop: Arc<AtomicBool>,
    running: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Neighbour {
    fn of(process: &Meshwright) -> Self {
        let (address, stop, begun) = (process.gateway(), Arc::new(AtomicBool::new(false)), Instant::now());
        let of_thread = stop.clone();
        let ask = move || asks(address, begun, &of_thread);
        Self { begun, stop, running: (0..ASKING).map(|_| thread::spawn(ask.clone())).collect() }
    }

    /// Ends it; none of its requests may have failed. How many there were, and how many in a second.
    #[track_caller]
    fn stays_content(self) -> (usize, f64) {
        self.stop.store(true, Ordering::SeqCst);
        let (mut asked, mut failures) = (0, Vec::new());
        for one in self.running {
            let (of_one, failed) = one.join().expect("it ends");
            asked += of_one;
            failures.extend(failed);
        }
        assert!(failures.is_empty(), "{} of {asked} requests: {:?}", failures.len(), failures.first());
        (asked, asked as f64 / self.begun.elapsed().as_secs_f64())
    }
}

/// Asks at an even pace over one connection, and makes up for what came late.
fn asks(address: SocketAddr, begun: Instant, stop: &AtomicBool) -> (usize, Vec<String>) {
    let mut client = RawClient::connect(address);
    let (mut asked, mut failures) = (0, Vec::new());
    while !stop.load(Ordering::SeqCst) || asked == 0 {
        asked += 1;
        match client.try_request("GET", "x", "/neighbour", &[], b"") {
            Ok(answer) if answer.status == 200 => {}
            other => {
                failures.push(format!("{other:?}"));
                client = RawClient::connect(address);
            }
        }
        pass((PACE * asked as u32).saturating_sub(begun.elapsed()));
    }
    (asked, failures)
}

/// A process that has served HTTP/2 and HTTP/1 already.
fn warm() -> (Setting, u64) {
    let setting = Setting::new();
    for _ in 0..3 {
        let mut client = FrameClient::open(setting.process.gateway(), None, &[]);
        client.send(headers(1, request("GET", "/p", &[]), true));
        assert!(client.read_until(meshwright_testkit::PATIENCE, |all| all.iter().any(frames::Http2Frame::is_last)));
    }
    let rss = setting.process.rss_bytes();
    (setting, rss)
}

/// Sends frames until the connection ends, which must be soon and with one of these codes. How many frames it took.
#[track_caller]
fn flood(setting: &Setting, opening: &[u8], next: impl FnMut(u32) -> Vec<Vec<u8>>, codes: &[u32]) -> usize {
    let flooded = pour(setting.process.gateway(), opening, next, MOST_FRAMES);
    assert!(flooded.ended && flooded.frames <= MOST_FRAMES, "{flooded:?}");
    assert!(flooded.code.is_some_and(|code| codes.contains(&code)), "{flooded:?}");
    flooded.frames
}

/// As [`flood`], for one of the corpus; nobody else notices.
#[track_caller]
fn corpus_flood(name: &str) {
    let of_name = floods_of_corpus().into_iter().find(|flood| flood.name == name).expect("there is such a flood");
    floods(&of_name.opening, of_name.next, of_name.codes);
}

/// As [`flood`], with a neighbour, and with a look at the memory.
#[track_caller]
fn floods(opening: &[u8], next: impl FnMut(u32) -> Vec<Vec<u8>>, codes: &[u32]) {
    let (setting, rss) = warm();
    let neighbour = Neighbour::of(&setting.process);
    let cpu = setting.process.cpu_time();
    let sent = flood(&setting, opening, next, codes);
    let cpu = setting.process.cpu_time() - cpu;
    let growth = setting.process.rss_bytes().saturating_sub(rss);
    let (asked, rate) = neighbour.stays_content();
    println!("{sent} frames, {growth} bytes more, {cpu:?} with {asked} requests of another client, {rate:.0} a second");
    assert!(growth <= GROWTH, "{growth} bytes more");
    setting.stays_unharmed();
}

const CALM: &[u32] = &[code::ENHANCE_YOUR_CALM];

fn stream(number: u32) -> u32 {
    2 * number + 1
}

fn get(stream: u32) -> Vec<u8> {
    headers(stream, request("GET", "/p", &[]), true)
}

#[test]
fn row_c2_cve_2023_44487_rapid_reset() {
    let (setting, _) = warm();
    let before = setting.recorder.tally().requests;
    let sent = flood(&setting, &[], |number| vec![get(stream(number)), reset(stream(number), 8)], CALM);
    assert!(sent <= 400, "{sent} frames are two hundred pairs");
    let came = setting.recorder.tally().requests - before;
    assert!(came <= 200, "{came} requests reached the origin");
    setting.stays_unharmed();
    corpus_flood("rapid reset");
}

#[test]
fn row_c3_cve_2025_8671_made_you_reset_by_a_window_update_of_nothing() {
    corpus_flood("made-you-reset by a WINDOW_UPDATE of nothing");
}

#[test]
fn row_c3_cve_2025_8671_made_you_reset_by_a_window_beyond_all() {
    corpus_flood("made-you-reset by a window beyond all");
}

#[test]
fn row_c3_cve_2025_8671_made_you_reset_by_priority_on_itself() {
    corpus_flood("made-you-reset by PRIORITY on itself");
}

#[test]
fn row_c3_cve_2025_8671_made_you_reset_by_headers_behind_the_end() {
    corpus_flood("made-you-reset by HEADERS behind the end");
}

#[test]
fn row_c3_cve_2025_8671_made_you_reset_by_data_behind_the_end() {
    corpus_flood("made-you-reset by DATA behind the end");
}

#[test]
fn row_c3_made_you_reset_by_malformed_requests() {
    corpus_flood("made-you-reset by malformed requests");
}

#[test]
fn row_c3_requests_that_only_we_refuse() {
    let heads = [
        request("GET", "/%00", &[]),
        request("GET", "/p", &[("host", "y")]),
        request("GET", "/p", &[("content_length", "5")]),
        request("GET", &format!("/{}", "a".repeat(9000)), &[]),
    ];
    floods(&[], |number| vec![headers(stream(number), &heads[number as usize % heads.len()], true)], CALM);
    let (setting, _) = warm();
    let before = setting.recorder.tally().bytes;
    flood(&setting, &[], |number| vec![headers(stream(number), &heads[0], true)], CALM);
    assert_eq!(setting.recorder.tally().bytes, before, "nothing of it reaches the origin");
    assert!(setting.process.metrics().sum("meshwright_refusals_total", &[("reason", "glitches")]) >= 1.0);
}

#[test]
fn row_c4_cve_2024_27316_continuation_without_end() {
    corpus_flood("CONTINUATION without end");
}

#[test]
fn row_c4_cve_2019_9518_empty_continuation_without_end() {
    corpus_flood("empty CONTINUATION without end");
}

#[test]
fn row_c7_cve_2019_9512_ping() {
    corpus_flood("PING");
}

#[test]
fn row_c7_cve_2019_9515_settings() {
    corpus_flood("SETTINGS");
}

#[test]
fn row_c7_cve_2019_9513_priority() {
    corpus_flood("PRIORITY");
}

#[test]
fn row_c7_updates_of_priority() {
    corpus_flood("PRIORITY_UPDATE");
}

#[test]
fn row_c7_window_update_of_the_connection() {
    corpus_flood("WINDOW_UPDATE of the connection");
}

#[test]
fn row_c7_unknown_frames() {
    corpus_flood("unknown frames");
}

#[test]
fn row_c7_goaway() {
    corpus_flood("GOAWAY");
}

#[test]
fn row_c8_empty_data() {
    corpus_flood("empty DATA");
}

#[test]
fn row_c8_rustsec_2026_0258_data_of_one_byte() {
    corpus_flood("DATA of one byte");
}

#[test]
fn row_c8_data_that_is_padding() {
    corpus_flood("DATA that is padding");
}

/// Blocks that grow to many times their size, on as many streams as there may be, for a client that takes no answer.
fn bomb(block: impl Fn(u32) -> Vec<u8>) {
    let (setting, rss) = warm();
    let neighbour = Neighbour::of(&setting.process);
    let mut client = FrameClient::open(setting.process.gateway(), None, &[(4, 0)]);
    let mut sent = 0;
    for number in 0..100 {
        let block = block(number);
        sent += block.len();
        if !client.send(headers(stream(number), block, true)) {
            break;
        }
    }
    client.read_until(Duration::from_secs(1), |all| all.iter().any(|one| one.kind == kind::GOAWAY));
    let growth = setting.process.rss_bytes().saturating_sub(rss);
    println!("{sent} bytes, {growth} bytes more");
    assert!(growth <= GROWTH, "{growth} bytes more for {sent}");
    neighbour.stays_content();
    drop(client);
    setting.stays_unharmed();
}

#[test]
fn row_c5_cve_2026_47774_references_under_a_window_of_nothing() {
    bomb(|number| {
        let mut block = request("GET", "/p", &[]);
        if number == 0 {
            block.extend(indexed_field("x", vec![b'y'; 3900]));
        }
        block.extend([0xbe; 3000]);
        block
    });
}

#[test]
fn row_c5_cve_2026_47774_references_to_a_field_of_one_byte_under_a_window_of_nothing() {
    bomb(|number| {
        let mut block = request("GET", "/p", &[]);
        if number == 0 {
            block.extend(indexed_field("a", ""));
        }
        block.extend([0xbe; 3000]);
        block
    });
}

#[test]
fn row_c5_cve_2026_47774_as_many_references_as_the_limit_lets_through() {
    bomb(|number| {
        let mut block = request("GET", "/p", &[]);
        if number == 0 {
            block.extend(indexed_field("a", ""));
        }
        block.extend([0xbe; 950]);
        block
    });
}

#[test]
fn row_c5_cve_2026_49975_cookie_crumbs_under_a_window_of_nothing() {
    bomb(|_| [request("GET", "/p", &[]), field("cookie", "a").repeat(300)].concat());
}

#[test]
fn row_c5_streams_that_nobody_takes_cost_little() {
    const CONNECTIONS: usize = 20;
    let (setting, rss) = warm();
    let block = [request("GET", "/p", &[]), field("a", "b").repeat(80)].concat();
    let mut clients: Vec<FrameClient> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = FrameClient::open(setting.process.gateway(), None, &[(4, 0)]);
            let all: Vec<u8> = (0..100).flat_map(|number| headers(stream(number), &block, true)).collect();
            assert!(client.send(all));
            client
        })
        .collect();
    for client in &mut clients {
        let answered = client.read_until(meshwright_testkit::PATIENCE, |all| {
            all.iter().filter(|one| one.kind == kind::HEADERS).count() >= 100
        });
        assert!(answered, "every stream is answered, and none of it is taken");
    }
    let growth = setting.process.rss_bytes().saturating_sub(rss);
    let per_stream = growth / (100 * CONNECTIONS as u64);
    println!("{per_stream} bytes for a stream of {} bytes", block.len());
    // Without optimisation the tasks are larger.
    let most = if cfg!(debug_assertions) { 10 * 1024 } else { 6 * 1024 };
    assert!(per_stream <= most, "{per_stream} bytes for a stream that is stalled");
    drop(clients);
    eventually("it is given back", || setting.process.get("x", "/p").status == 200);
    setting.stays_unharmed();
}
