//! The registry in etcd: several processes share it, and each may die.
//!
//! ```text
//!  writer: batch ─▶ Stage ─▶ one transaction, a part per instance on the ground of its revision ─▶ etcd
//!                     ▲                                                                          │ watch
//!                     └──── conflict: decide again            Registry::apply ◀── follower ◀─────┘
//!                                                                 └─▶ acknowledged, watchers wake
//! ```
//!
//! etcd sequences: a change has the revision of its transaction, and is applied and acknowledged when the watch brings it,
//! whoever made it. Each process is a member for as long as it keeps a lease; instances carry none, for etcd would evict all
//! of them at once. Renewals stay in the process that hears them (`meshwright_registry::Owners`). With etcd away reading goes
//! on, writing fails, and nobody is evicted.
//! Keys and sessions go the same way (`keys.rs`).
//! Read next: `layout.rs` (what is where), `follower.rs` (session and watch), `writer.rs`, `batch.rs`,
//! `transaction.rs`, `claims.rs`.

mod batch;
mod claims;
mod follower;
mod keys;
mod layout;
mod transaction;
mod writer;

use std::sync::{Arc, mpsc as thread_channel};
use std::thread;
use std::time::{Duration, Instant};

use meshwright_etcd::{Client, Endpoint, Login, TlsConfig};
use meshwright_registry::{KeyLimits, Keys, Limits, Registry};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tracing::{error, warn};

use crate::StoreError;
use crate::keyspace::State;
use crate::shared::{Ownership, Shared};
use crate::writer::Job;
use follower::Follower;
pub(crate) use keys::KeyPath;
use layout::Layout;
use writer::Writer;

/// A member that is not heard of for so long is gone.
const MEMBER_TTL: Duration = Duration::from_secs(5);
/// No single call takes longer; a member of etcd that does not answer in this time is left for another.
const CALL_PATIENCE: Duration = Duration::from_secs(2);

/// Where the registry is in etcd, and how to get there.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// Members of the cluster; one is used at a time, the others when it fails.
    pub endpoints: Vec<Endpoint>,
    /// TLS; without it everything travels in clear text.
    pub tls: Option<TlsConfig>,
    /// User of etcd.
    pub login: Option<Login>,
    /// What every key begins with. Processes with the same one share a registry. Default `/meshwright/`.
    pub prefix: String,
}

impl EtcdSettings {
    /// Default of `prefix`.
    pub const PREFIX: &str = "/meshwright/";
}

/// The connection that is in use.
#[derive(Clone)]
enum Link {
    /// None since then, because of that.
    Away(Instant, String),
    /// This one.
    Here(Client),
}

/// Starts everything on a thread of its own and waits, no longer than `patience`, until etcd was read once.
pub(crate) fn start(
    settings: EtcdSettings,
    limits: Limits,
    patience: Duration,
) -> (Arc<Shared>, UnboundedSender<Job>, KeyPath) {
    let me = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let ownership = Ownership::new(&me, MEMBER_TTL);
    let shared = Arc::new(Shared::new(Registry::new(limits), "etcd", Some(ownership)));
    shared.store_answered(None);
    let (jobs, waiting) = mpsc::unbounded_channel();
    let (first, synced) = thread_channel::sync_channel(1);
    let all = Arc::clone(&shared);
    let link = watch::Sender::new(Link::Away(Instant::now(), "etcd was not reached so far".to_owned()));
    let state = Arc::new(State::new(Keys::new(KeyLimits::default())));
    let keys = KeyPath::new(state, link.subscribe(), Layout::new(&settings.prefix));
    let path = keys.clone();
    let work = move || run(&all, settings, (link, path), waiting, first);
    if let Err(error) = thread::Builder::new().name("registry-etcd".to_owned()).spawn(work) {
        error!(%error, "the thread that speaks to etcd cannot be started");
    }
    if synced.recv_timeout(patience).is_err() {
        warn!(
            reason = shared.trouble().unwrap_or_default(),
            "etcd was not reached so far; the registry is empty until it is, and this process is not ready"
        );
    }
    (shared, jobs, keys)
}

/// Works until every [`crate::Catalog`] is gone.
fn run(
    shared: &Arc<Shared>,
    settings: EtcdSettings,
    (link, keys): (watch::Sender<Link>, KeyPath),
    jobs: UnboundedReceiver<Job>,
    synced: thread_channel::SyncSender<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return shared.store_answered(Some(&StoreError(error.to_string()))),
    };
    let Some(ownership) = shared.ownership() else { return };
    let layout = Layout::new(&settings.prefix);
    let followed = link.subscribe();
    let me = ownership.owners().me().to_string();
    let writer = Writer::new(shared, link.subscribe(), layout.clone(), &me);
    let mut follower = Follower::new(shared, keys.state(), settings, link);
    runtime.block_on(async {
        tokio::select! {
            () = writer.run(jobs) => {}
            () = claims::run(ownership, followed, &layout, &me) => {}
            () = follower.run(&me, synced) => {}
        }
    });
}
