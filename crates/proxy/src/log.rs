//! The access log: lines are gathered per worker and written by a thread of their own.
//!
//! A sink that does not keep up must not slow requests down: lines that find no place are dropped and counted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use meshwright_telemetry::{AccessLogEncoder, AccessLogFormat, Counter, RequestRecord, WorkerMetrics};

/// A batch is handed to the writer when it has reached this size; smaller ones follow by the worker's tick.
const BATCH: usize = 32 * 1024;
/// Batches that may wait for the writer.
const QUEUE: usize = 256;
/// How long the end waits for the sink.
const LONGEST_FLUSH: Duration = Duration::from_secs(2);
/// Pause between two attempts to reach a writer whose queue is full.
const FLUSH_PAUSE: Duration = Duration::from_millis(10);

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

enum Message {
    Lines(Vec<u8>),
    Flush(SyncSender<()>),
}

/// An open access log, shared by the workers.
#[derive(Clone)]
pub struct AccessLog {
    format: AccessLogFormat,
    sender: SyncSender<Message>,
}

impl AccessLog {
    /// Opens the sink and starts its writer thread, which ends with the last clone of this log.
    pub fn open(format: AccessLogFormat, target: &AccessLogTarget) -> io::Result<Self> {
        let sink = match target {
            AccessLogTarget::Stdout => Sink::Stdout,
            AccessLogTarget::File(path) => Sink::File { path: path.clone(), file: append_to(path)? },
        };
        let (sender, receiver) = sync_channel(QUEUE);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || write_all(sink, &receiver))?;
        Ok(Self { format, sender })
    }

    /// Waits until everything handed over so far is written, at most two seconds: a sink that nobody empties must not keep
    /// the process from ending.
    pub fn flush(&self) {
        let end = Instant::now() + LONGEST_FLUSH;
        let (done, finished) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(refused)) = self.sender.try_send(message) {
            if Instant::now() >= end {
                break;
            }
            message = refused;
            thread::park_timeout(FLUSH_PAUSE);
        }
        if finished.recv_timeout(end.saturating_duration_since(Instant::now())).is_err() {
            tracing::warn!("the access log takes nothing; its last lines are lost");
        }
    }

    pub(crate) fn batch(&self) -> Batch {
        Batch { encoder: AccessLogEncoder::new(self.format), lines: Vec::new(), count: 0, sender: self.sender.clone() }
    }
}

/// What the writer thread writes to.
enum Sink {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Sink {
    /// Writes a batch. A file that was renamed or removed since the last batch, as log rotation does it, is opened anew at
    /// its path; where that is impossible the old one goes on.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Self::File { path, file } => {
                if !is_at(file, path)
                    && let Ok(reopened) = append_to(path)
                {
                    *file = reopened;
                }
                file.write_all(lines)
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Whether `path` still leads to the open `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn write_all(mut sink: Sink, receiver: &Receiver<Message>) {
    let mut reported = false;
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Lines(lines) => {
                if let Err(error) = sink.write(&lines)
                    && !reported
                {
                    reported = true;
                    tracing::error!(%error, "the access log cannot be written; lines are lost");
                }
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// Lines of one worker that wait to be handed over.
pub(crate) struct Batch {
    encoder: AccessLogEncoder,
    lines: Vec<u8>,
    count: u64,
    sender: SyncSender<Message>,
}

impl Batch {
    pub(crate) fn write(&mut self, record: &RequestRecord<'_>, metrics: &WorkerMetrics) {
        self.encoder.encode(record, &mut self.lines);
        self.count += 1;
        if self.lines.len() >= BATCH {
            self.hand_over(metrics);
        }
    }

    /// Hands the gathered lines to the writer, or drops and counts them when it does not keep up.
    pub(crate) fn hand_over(&mut self, metrics: &WorkerMetrics) {
        if self.lines.is_empty() {
            return;
        }
        let capacity = self.lines.len();
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(capacity));
        if self.sender.try_send(Message::Lines(lines)).is_err() {
            metrics.add(Counter::AccessLogLinesDropped, self.count);
        }
        self.count = 0;
    }
}
