//! The session with etcd: connects, reads everything or goes on from where the watch was, keeps the membership, and applies
//! what the watch brings. When any part of it breaks, all of it begins again with the next member of the cluster.
//!
//! A watch that is behind etcd's compaction reads everything anew. A store that is another one than before, or that lost
//! what it had, is not believed: what is known stays until somebody starts the process again.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, mpsc::SyncSender};
use std::time::{Duration, Instant};

use meshwright_etcd::{
    Client, Error, KeyValue, RangeRequest, RequestOp, ResponseHeader, TxnRequest, Watch, WatchCreateRequest,
    WatchResponse,
};
use meshwright_registry::{
    Change, Entry, Event, InstanceKey, KeyChange, Keys, Pair, Reason, Registry, Session as KeySession,
};
use tokio::sync::watch;
use tracing::{info, warn};

use super::layout::{Layout, Place, reason};
use super::{CALL_PATIENCE, EtcdSettings, Link, MEMBER_TTL};
use crate::StoreError;
use crate::keyspace::{State, record as key_record};
use crate::record;
use crate::shared::Shared;

/// Reading everything is begun so often when etcd compacts meanwhile.
const MOST_LOADS: usize = 3;
/// Pause between two signs of life.
const BEAT: Duration = Duration::from_millis(1500);
/// Pause before the next member is tried, doubled each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

pub(super) struct Follower {
    shared: Arc<Shared>,
    keys: Arc<State>,
    settings: EtcdSettings,
    layout: Layout,
    link: watch::Sender<Link>,
    /// The cluster, and the revision up to which everything is applied; nothing was read yet without.
    at: Option<(u64, i64)>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Failed(#[from] Error),
    #[error(
        "etcd lost what it had (it is at revision {found}, and was at {known}), or it is another cluster; what was known \
             stays. Start the process again to use what is there"
    )]
    Foreign { found: i64, known: i64 },
    #[error("the membership lease ended")]
    Lapsed,
    #[error("etcd ended the watch: {0}")]
    Canceled(String),
    #[error("etcd compacts faster than everything can be read")]
    Compacting,
}

/// Everything that was read.
#[derive(Default)]
struct Loaded {
    entries: Vec<Entry>,
    owners: Vec<(InstanceKey, String, u64)>,
    members: HashSet<String>,
    pairs: Vec<Pair>,
    sessions: Vec<KeySession>,
}

impl Follower {
    pub(super) fn new(
        shared: &Arc<Shared>,
        keys: &Arc<State>,
        settings: EtcdSettings,
        link: watch::Sender<Link>,
    ) -> Self {
        let layout = Layout::new(&settings.prefix);
        Self { shared: Arc::clone(shared), keys: Arc::clone(keys), settings, layout, link, at: None }
    }

    /// Works until it is dropped; says once on `synced` that everything was read.
    pub(super) async fn run(&mut self, me: &str, synced: SyncSender<()>) {
        let mut pause = PAUSES.0;
        let mut turn = fastrand::usize(..self.settings.endpoints.len().max(1));
        loop {
            let ended = self.session(turn, me, &synced).await;
            let reason = ended.to_string();
            if self.link.send_if_modified(|link| away(link, &reason)) {
                pause = PAUSES.0;
            }
            self.shared.store_answered(Some(&StoreError(reason)));
            turn += 1;
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// One session with the member whose turn it is; why it ended.
    async fn session(&mut self, turn: usize, me: &str, synced: &SyncSender<()>) -> Ended {
        match self.try_session(turn, me, synced).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn try_session(
        &mut self,
        turn: usize,
        me: &str,
        synced: &SyncSender<()>,
    ) -> Result<std::convert::Infallible, Ended> {
        let settings = &self.settings;
        let endpoint = settings.endpoints[turn % settings.endpoints.len()].clone();
        let (tls, login) = (settings.tls.as_ref(), settings.login.as_ref());
        let client = Client::connect(&endpoint, tls, login, CALL_PATIENCE).await?;
        match self.at {
            None => self.load(&client).await?,
            Some(at) => self.recognise(&client, at).await?,
        }
        let lease = client.grant_lease(MEMBER_TTL).await?;
        self.join(&client, lease, me).await?;
        let mut watch = self.watch(&client).await?;
        info!(%endpoint, members = self.shared.ownership().map(|all| all.owners().members()), "the registry follows etcd");
        self.link.send_replace(Link::Here(client.clone()));
        self.shared.store_answered(None);
        self.shared.set_synced();
        let _ = synced.try_send(());
        let beat = async {
            loop {
                tokio::time::sleep(BEAT).await;
                match client.keep_lease(lease).await {
                    Ok(true) => {}
                    Ok(false) => return Ended::Lapsed,
                    Err(error) => return Ended::Failed(error),
                }
            }
        };
        let mut beat = std::pin::pin!(beat);
        loop {
            tokio::select! {
                ended = &mut beat => return Err(ended),
                response = watch.next() => {
                    let response = response?;
                    if response.compact_revision > 0 {
                        warn!(compacted = response.compact_revision, "etcd compacted what was missed; reading everything");
                        self.load(&client).await?;
                        watch = self.watch(&client).await?;
                        continue;
                    }
                    if response.canceled {
                        return Err(Ended::Canceled(response.cancel_reason));
                    }
                    self.take_in(response);
                }
            }
        }
    }

    /// Whether this is the store that is known, with everything it had.
    async fn recognise(&self, client: &Client, (cluster, known): (u64, i64)) -> Result<(), Ended> {
        let (key, range_end) = self.layout.range();
        let request = RangeRequest { key, range_end, limit: 1, revision: 0, serializable: false, keys_only: true };
        let header = client.range(&request).await?.header.unwrap_or_default();
        match header.cluster_id == cluster && header.revision >= known {
            true => Ok(()),
            false => Err(Ended::Foreign { found: header.revision, known }),
        }
    }

    async fn join(&self, client: &Client, lease: i64, me: &str) -> Result<(), Ended> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let value = serde_json::json!({ "host": host, "process": std::process::id() }).to_string();
        let put = RequestOp::put_with_lease(self.layout.member(me), value.into_bytes(), lease);
        client.transaction(&TxnRequest { compare: Vec::new(), success: vec![put] }).await?;
        Ok(())
    }

    async fn watch(&self, client: &Client) -> Result<Watch, Ended> {
        let (key, range_end) = self.layout.range();
        let start_revision = self.at.map_or(0, |(_, revision)| revision + 1);
        Ok(client.watch(WatchCreateRequest { key, range_end, start_revision }).await?)
    }

    /// Reads everything, as of one revision, and makes it the state.
    async fn load(&mut self, client: &Client) -> Result<(), Ended> {
        for _ in 0..MOST_LOADS {
            match self.read_everything(client).await {
                Ok((loaded, header)) => {
                    if let Some((cluster, known)) = self.at
                        && (header.cluster_id != cluster || header.revision < known)
                    {
                        return Err(Ended::Foreign { found: header.revision, known });
                    }
                    self.at = Some((header.cluster_id, header.revision));
                    self.replace(loaded, unsigned(header.revision));
                    return Ok(());
                }
                Err(error) if error.is_compacted() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Ended::Compacting)
    }

    async fn read_everything(&self, client: &Client) -> Result<(Loaded, ResponseHeader), Error> {
        let mut first: Option<ResponseHeader> = None;
        let mut loaded = Loaded::default();
        for (mut key, end, limit) in self.layout.parts() {
            loop {
                let revision = first.map_or(0, |header| header.revision);
                // The member that named the revision has it.
                let (range_end, serializable) = (end.clone(), first.is_some());
                let request = RangeRequest { key, range_end, limit, revision, serializable, keys_only: false };
                let page = client.range(&request).await?;
                first.get_or_insert(page.header.unwrap_or_default());
                // The next key behind the last one.
                key = page.kvs.last().map(|last| [&last.key[..], &[0]].concat()).unwrap_or_default();
                page.kvs.into_iter().for_each(|kv| self.sort_in(&mut loaded, kv));
                if !page.more || key.is_empty() {
                    break;
                }
            }
        }
        Ok((loaded, first.unwrap_or_default()))
    }

    fn sort_in(&self, loaded: &mut Loaded, kv: KeyValue) {
        match self.layout.place(&kv.key) {
            Some(Place::Instance(key)) => loaded.entries.extend(self.entry(key, &kv)),
            Some(Place::Owner(key)) => {
                let member = String::from_utf8_lossy(&kv.value).into_owned();
                loaded.owners.push((key, member, unsigned(kv.mod_revision)));
            }
            Some(Place::Member(member)) => drop(loaded.members.insert(member)),
            Some(Place::Key(key)) => loaded.pairs.extend(pair(&key, &kv)),
            Some(Place::Session(id)) => loaded.sessions.extend(session(&id, &kv)),
            Some(Place::Removal) | None => {}
        }
    }

    /// What was read is what is registered from now on. Cursors from before read everything, too.
    fn replace(&self, loaded: Loaded, revision: u64) {
        let Some(ownership) = self.shared.ownership() else { return };
        let Loaded { entries, owners, members, pairs, sessions } = loaded;
        let limits = self.keys.read(|keys| *keys.limits());
        self.keys.replace(Keys::restore(limits, pairs, sessions, revision));
        let mut keys: BTreeSet<InstanceKey> = entries.iter().map(|entry| entry.key.clone()).collect();
        let before = self.shared.change(|registry| {
            let new = Registry::restore(*registry.limits(), entries, revision);
            std::mem::replace(registry, new)
        });
        let before = before.services().flat_map(|(_, service)| service.instances());
        // Those that are gone are among the keys, so that their leases go, too; those that stay as they are, are not.
        let known: HashSet<InstanceKey> = before.map(|entry| entry.key.clone()).collect();
        keys.retain(|key| !known.contains(key));
        self.shared.read(|registry| {
            keys.extend(known.into_iter().filter(|key| registry.instance(key).is_none()));
        });
        {
            let mut all = ownership.owners();
            for (key, member, revision) in owners {
                if all.revision(&key) != revision && all.assign(&key, &member, revision, None) {
                    keys.insert(key);
                }
            }
            for member in all.others() {
                if !members.contains(&*member) {
                    keys.extend(all.leave(&member));
                }
            }
            for member in &members {
                keys.extend(all.join(member));
            }
        }
        self.shared.change_hands(keys.into_iter().collect());
        self.shared.announce();
    }

    /// Applies what the watch brought: whole revisions, in their order.
    fn take_in(&mut self, response: WatchResponse) {
        let (Some(ownership), Some((cluster, at))) = (self.shared.ownership(), self.at) else { return };
        let changes = response.events.into_iter().filter_map(|event| {
            let deleted = event.is_deletion();
            event.kv.map(|kv| (kv, deleted))
        });
        let changes: Vec<(KeyValue, bool)> = changes.collect();
        let Some((last, _)) = changes.last() else { return };
        let newest = at.max(last.mod_revision);
        let (mut events, mut hands) = (Vec::new(), Vec::new());
        for revision in changes.chunk_by(|(one, _), (other, _)| one.mod_revision == other.mod_revision) {
            self.sort_revision(revision, &mut events, &mut hands);
            self.take_in_keys(revision);
        }
        let applied: Vec<InstanceKey> = events.iter().map(|event: &Event| event.key.clone()).collect();
        if !events.is_empty() {
            self.shared.change(|registry| registry.apply_all(events));
        }
        let mut keys: Vec<InstanceKey> = {
            let mut owners = ownership.owners();
            let now = Instant::now();
            let change = |hand| match hand {
                // Whoever registers here again has its lease from this moment on.
                Hand::Owner(key, Some((member, revision))) => {
                    let changed = owners.assign(&key, &member, revision, Some(now));
                    if changed || *member == **owners.me() { vec![key] } else { Vec::new() }
                }
                Hand::Owner(key, None) => {
                    owners.forget(&key);
                    vec![key]
                }
                Hand::Joined(member) => owners.join(&member),
                Hand::Left(member) => {
                    info!(member, "a process that shares the registry is gone");
                    owners.leave(&member)
                }
            };
            hands.into_iter().flat_map(change).collect()
        };
        self.shared.read(|registry| {
            let leases = self.shared.leases();
            let unknown = |key: &InstanceKey| registry.instance(key).is_some() != leases.contains(key);
            keys.extend(applied.into_iter().filter(unknown));
        });
        self.at = Some((cluster, newest));
        self.shared.change_hands(keys);
        self.shared.announce();
    }

    /// The changes of one revision: of instances, and of who looks after them.
    fn sort_revision(&self, changes: &[(KeyValue, bool)], events: &mut Vec<Event>, hands: &mut Vec<Hand>) {
        let mut why = Reason::Deregistered;
        for (kv, deleted) in changes {
            let Some(place) = self.layout.place(&kv.key) else { continue };
            match place {
                Place::Key(_) | Place::Session(_) => {}
                Place::Removal => why = reason(&kv.value),
                Place::Member(member) if *deleted => hands.push(Hand::Left(member)),
                Place::Member(member) => hands.push(Hand::Joined(member)),
                Place::Owner(key) if *deleted => hands.push(Hand::Owner(key, None)),
                Place::Owner(key) => {
                    let member = String::from_utf8_lossy(&kv.value).into_owned();
                    hands.push(Hand::Owner(key, Some((member, unsigned(kv.mod_revision)))));
                }
                Place::Instance(key) => {
                    let change = match deleted {
                        false => self.entry(key.clone(), kv).map(|entry| Change::Put(Arc::new(entry))),
                        true => self.last(&key, events).map(|last| Change::Remove { last, reason: why }),
                    };
                    let revision = unsigned(kv.mod_revision);
                    events.extend(change.map(|change| Event { revision, key, change }));
                }
            }
        }
    }

    /// Applies what one revision changes of keys and sessions: those that end before what becomes of their keys.
    fn take_in_keys(&self, changes: &[(KeyValue, bool)]) {
        let change = |(kv, deleted): &(KeyValue, bool)| match (self.layout.place(&kv.key)?, *deleted) {
            (Place::Key(key), true) => Some(KeyChange::Delete(key.into())),
            (Place::Key(key), false) => pair(&key, kv).map(|pair| KeyChange::Put(Arc::new(pair))),
            (Place::Session(id), true) => Some(KeyChange::Close(id.into())),
            (Place::Session(id), false) => session(&id, kv).map(|session| KeyChange::Open(Arc::new(session))),
            _ => None,
        };
        let mut of_keys: Vec<KeyChange> = changes.iter().filter_map(change).collect();
        of_keys.sort_by_key(|change| !matches!(change, KeyChange::Close(_)));
        if let (Some((first, _)), false) = (changes.first(), of_keys.is_empty()) {
            self.keys.take_in(unsigned(first.mod_revision), &of_keys);
        }
    }

    /// The instance as it was last, with the events that are not applied yet.
    fn last(&self, key: &InstanceKey, events: &[Event]) -> Option<Arc<Entry>> {
        match events.iter().rev().find(|event| event.key == *key).map(|event| &event.change) {
            Some(Change::Put(entry)) => Some(Arc::clone(entry)),
            Some(Change::Remove { .. }) => None,
            None => self.shared.read(|registry| registry.instance(key).cloned()),
        }
    }

    /// The instance that a key holds; what is none is left out, and that is said.
    fn entry(&self, key: InstanceKey, kv: &KeyValue) -> Option<Entry> {
        let read = record::read(&kv.value).map_err(|error| error.to_string()).and_then(|entry| {
            let limits = self.shared.read(|registry| *registry.limits());
            entry.instance.validate(&limits).map_err(|error| error.to_string()).map(|()| entry.instance)
        });
        match read {
            Ok(instance) => {
                let key = self.shared.read(|registry| registry.known(key));
                let (created, modified) = (unsigned(kv.create_revision), unsigned(kv.mod_revision));
                Some(Entry { key, instance, created, modified })
            }
            Err(error) => {
                warn!(instance = %key, error, "what etcd has for it is no instance; left out");
                None
            }
        }
    }
}

/// What etcd has for a key of the clients; what is none is left out, and that is said.
fn pair(key: &str, kv: &KeyValue) -> Option<Pair> {
    let (created, modified) = (unsigned(kv.create_revision), unsigned(kv.mod_revision));
    match key_record::read_pair(key, &kv.value) {
        Ok(pair) => Some(Pair { created, modified, ..pair }),
        Err(error) => {
            warn!(key, %error, "what etcd has for this key is none; left out");
            None
        }
    }
}

/// What etcd has for a session, likewise.
fn session(id: &str, kv: &KeyValue) -> Option<KeySession> {
    let (created, modified) = (unsigned(kv.create_revision), unsigned(kv.mod_revision));
    match key_record::read_session(id, &kv.value) {
        Ok(session) => Some(KeySession { created, modified, ..session }),
        Err(error) => {
            warn!(session = id, %error, "what etcd has for this session is none; left out");
            None
        }
    }
}

/// A change of who looks after what.
enum Hand {
    Owner(InstanceKey, Option<(String, u64)>),
    Joined(String),
    Left(String),
}

/// The link is away, since the first time that it was found so. Whether that is new.
fn away(link: &mut Link, reason: &str) -> bool {
    match link {
        Link::Away(_, known) => {
            reason.clone_into(known);
            false
        }
        Link::Here(_) => {
            *link = Link::Away(Instant::now(), reason.to_owned());
            true
        }
    }
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or_default()
}
