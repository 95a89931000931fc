//! `cargo xtask corpus`: the hostile inputs of the test kit, sent to meshwright and to other proxies, and the comparison.
//!
//! Every proxy has the plain configuration of the benchmarks in front of a recording origin of its own. Each input is sent
//! once and whole; what came back and what reached the origin is graded alike for all. It does not know what the inputs
//! are. Read next: `corpus/report.rs`.

mod report;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use meshwright_testkit::corpus::{Split, answers, floods, http2, pour, requests};
use meshwright_testkit::{Grade, Judge, Recorder, Tally};

use crate::bench::child::Child;
use crate::bench::http::free_address;
use crate::bench::peer::{Peer, Programs, Wiring};
use crate::bench::scenario::{Version, Wire};
use crate::tree;

/// How long a proxy that says nothing is listened to.
const SILENCE: Duration = Duration::from_millis(600);

/// How long a connection of HTTP/2 is watched: Envoy ends one without a word, after a second.
const LATE_CLOSE: Duration = Duration::from_millis(1300);

/// How long a proxy that said that it closes is waited for; some take a second, and it makes no difference to a grade.
const CLOSING: Duration = Duration::from_millis(20);

/// Frames of a flood after which the connection must have ended.
const MOST_FRAMES: usize = 1000;

/// How long a proxy may take until it accepts.
const START: Duration = Duration::from_secs(10);

/// Arguments of `cargo xtask corpus`.
#[derive(Debug, clap::Args)]
pub(crate) struct CorpusArguments {
    /// Other proxies to send the corpus to; they are installed when they are missing
    #[arg(long, value_enum, value_delimiter = ',')]
    against: Vec<Peer>,
    /// Write the comparison into docs/security.md
    #[arg(long)]
    write: bool,
}

/// What a proxy made of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// As it must.
    Right,
    /// What is right was refused, changed or left without an answer.
    Other,
    /// What is to be refused was served, and a flood taken without end; a broken answer was passed on as a whole one.
    Served,
    /// Bytes that no proxy may write reached the origin: control bytes, two framings, fields that are none, trailers that
    /// steer a message.
    Forbidden,
    /// The origin saw a request that the proxy did not see: it was inside another message.
    Smuggled,
    /// It did not run any more.
    Ended,
}

/// One input's row, name and fate.
pub(crate) struct Outcome {
    /// Row of the corpus.
    pub(crate) row: &'static str,
    /// Name within the row.
    pub(crate) name: String,
    /// What became of it.
    pub(crate) fate: Fate,
}

/// A proxy and the fate of every input, in the order of the corpus.
pub(crate) struct Record {
    /// The proxy.
    pub(crate) peer: Peer,
    /// What it says its version is.
    pub(crate) version: String,
    /// One for each input.
    pub(crate) outcomes: Vec<Outcome>,
}

/// Sends the corpus to everybody and prints the comparison.
///
/// # Errors
/// When a proxy cannot be built, installed or started, and when meshwright does not treat every input as it must.
pub(crate) fn run(arguments: &CorpusArguments) -> Result<ExitCode> {
    let mut peers = vec![Peer::Ours];
    peers.extend(&arguments.against);
    peers.sort_unstable();
    peers.dedup();
    let status = tree::cargo().args(["build", "--package", "meshwright"]).status().context("cannot run cargo build")?;
    if !status.success() {
        bail!("the build failed");
    }
    let target = tree::target_directory()?;
    let programs = Programs { ours: target.join("debug/meshwright"), ..Programs::prepare(&peers, &target)? };
    let work = target.join("corpus");
    let records: Vec<Record> = std::thread::scope(|scope| {
        let record_of = |peer: Peer| record(peer, &programs, &work.join(peer.name()));
        let running: Vec<_> = peers.iter().map(|&peer| scope.spawn(move || record_of(peer))).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a judge panicked"))).collect::<Result<_>>()
    })?;
    println!("{}\n{}", report::table(&records), report::details(&records));
    if arguments.write {
        let path = tree::root().join("docs/security.md");
        let document = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        std::fs::write(&path, report::into_document(&document, &records)?)?;
        println!("wrote {}", path.display());
    }
    let ours = records.iter().filter(|record| record.peer == Peer::Ours);
    let wrong = ours.flat_map(|record| &record.outcomes).filter(|outcome| outcome.fate != Fate::Right).count();
    if wrong > 0 {
        bail!("meshwright does not treat {wrong} inputs as it must");
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends everything to one proxy: what is HTTP/1 to one process of it, what is HTTP/2 to another.
fn record(peer: Peer, programs: &Programs, folder: &Path) -> Result<Record> {
    let mut outcomes = Vec::new();
    let mut trial = Trial::begin(peer, programs, &folder.join("http1"), Wire::PLAIN)?;
    for case in requests() {
        let fate = trial.fate(|judge| {
            let seen = judge.send(&case, Split::Whole);
            (case.grade(&seen), seen.recorded())
        });
        outcomes.push(Outcome { row: case.row, name: case.name.clone(), fate });
    }
    for (number, case) in answers().iter().enumerate() {
        let fate = trial.fate(|judge| (case.grade(&judge.ask(case, number, "0")), 1));
        outcomes.push(Outcome { row: case.row, name: case.name.to_owned(), fate });
    }
    drop(trial);
    let wire = Wire { client: Version::Http2, ..Wire::PLAIN };
    let mut trial = Trial::begin(peer, programs, &folder.join("http2"), wire)?;
    for case in http2() {
        let fate = trial.fate(|judge| (case.grade_at(judge.address, LATE_CLOSE), 0));
        outcomes.push(Outcome { row: case.row, name: case.name, fate });
    }
    for flood in floods() {
        let fate = trial.fate(|judge| {
            let ended = pour(judge.address, &flood.opening, flood.next, MOST_FRAMES).ended;
            (if ended { Grade::Right } else { Grade::Served }, 0)
        });
        outcomes.push(Outcome { row: flood.row, name: flood.name.to_owned(), fate });
    }
    println!("{}: {} inputs", peer.name(), outcomes.len());
    Ok(Record { peer, version: peer.version(programs)?, outcomes })
}

/// A proxy on trial.
struct Trial {
    judge: Judge,
    recorder: Recorder,
    child: Child,
}

impl Trial {
    /// Starts a proxy that speaks `wire`, in front of an origin of its own.
    fn begin(peer: Peer, programs: &Programs, folder: &Path, wire: Wire) -> Result<Trial> {
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let recorder = Recorder::start();
        let (listen, admin, spare) = (free_address()?, free_address()?, free_address()?);
        let origin = recorder.address();
        let wiring =
            Wiring { listen, admin, spare, origin, folder, hosts: 0, access_log: None, wire, certificate: None };
        let launch = peer.launch(programs, &wiring)?;
        let mut child = Child::spawn(peer.name(), &launch.words, None, &launch.output)?;
        wait_until_it_accepts(listen, &mut child).with_context(|| format!("{} does not start", peer.name()))?;
        Ok(Trial { judge: Judge { address: listen, silence: SILENCE, closing: CLOSING }, recorder, child })
    }

    /// What became of an input: by its grade, by how many answers of the origin came back, and by what reached the origin.
    fn fate(&mut self, send: impl FnOnce(&Judge) -> (Grade, usize)) -> Fate {
        if !matches!(self.child.ended(), Ok(None)) {
            return Fate::Ended;
        }
        let before = self.recorder.tally();
        let (grade, answers) = send(&self.judge);
        // What was forwarded may still be on its way.
        let after = self.settled(&before);
        // A request that is answered to the client was read by the proxy as one: served, perhaps wrongly, but not smuggled.
        let unseen = after.requests - before.requests > answers;
        if unseen && after.smuggled.len() > before.smuggled.len() {
            Fate::Smuggled
        } else if after.faults.len() > before.faults.len() {
            Fate::Forbidden
        } else {
            match grade {
                Grade::Right => Fate::Right,
                Grade::Other => Fate::Other,
                Grade::Served => Fate::Served,
            }
        }
    }

    fn settled(&self, before: &Tally) -> Tally {
        let mut last = self.recorder.tally();
        if last.bytes == before.bytes {
            return last;
        }
        loop {
            std::thread::sleep(Duration::from_millis(3));
            let next = self.recorder.tally();
            if next.bytes == last.bytes {
                return next;
            }
            last = next;
        }
    }
}

fn wait_until_it_accepts(address: SocketAddr, child: &mut Child) -> Result<()> {
    let end = Instant::now() + START;
    while TcpStream::connect(address).is_err() {
        if let Some(status) = child.ended()? {
            bail!("it ended with {status}");
        }
        if Instant::now() > end {
            bail!("nobody accepts on {address}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
