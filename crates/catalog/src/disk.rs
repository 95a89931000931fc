//! A state on disk: one redb file with the tables of its contents and one of numbers (format and revision). The contents are the
//! registry here, a table of instances (namespace, service and id to a record), and keys in `keyspace/disk.rs`.
//!
//! A new file is made under another name, filled, and moved into place, so that a file of that name is always whole. A batch
//! is one commit in two phases, each with its sync: damage to the last commit is noticed then, and not taken for a commit
//! that was never finished. After a failed one nobody knows what is in the file, so the next commit makes a new one of what is
//! in memory, and does not touch the old one. The one bit of the file that says which of two commits is the last is guarded by
//! the revision that the medium takes down beside it. It does not decide what is registered (`writer.rs`), nor where the file lies
//! (`medium.rs`).

use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use meshwright_registry::{Change, Entry, Event, Limits, Registry};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, StorageError};
use redb::{ReadTransaction, TableDefinition, WriteTransaction};
use tracing::{error, info, warn};

use crate::medium::{Directory, Medium};
use crate::record;
use crate::{Store, StoreError};

const INSTANCES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("instances");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";
const FORMAT_KEY: &str = "format";
/// The only format there is so far.
const FORMAT: u64 = 1;
/// Memory for redb's pages; everything is in our own memory already.
const CACHE_BYTES: usize = 8 << 20;
/// A file of at least so many bytes is written anew at the start when what is in it would fit into a quarter.
const COMPACTED_FROM: u64 = 16 << 20;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error(
        "the data directory {directory} is in use by process {process}; give each process its own with --data, or end that one"
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Id of the other process, as far as it is known.
        process: String,
    },
    /// It cannot be read or written.
    #[error("the data directory {directory} cannot be used: {source}")]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it is not ours, or damaged.
    #[error(
        "the {what} file {file} is damaged or not ours: {reason}; restore it from a copy, or move it away and start \
         again: {loss}"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
        /// What is kept in it.
        what: &'static str,
        /// What follows when it is not there any more.
        loss: &'static str,
    },
}

/// What a file holds: a state, and the changes that lead from one to the next.
pub(crate) trait Contents: Sized {
    /// Limits that it is made with.
    type Limits: Copy;
    /// A change.
    type Change;
    /// What it is, for people.
    const WHAT: &'static str;
    /// Name of its file.
    const FILE: &'static str;
    /// What follows when the file is moved away.
    const LOSS: &'static str;

    /// Nothing yet.
    fn empty(limits: Self::Limits) -> Self;

    /// Its revision.
    fn at(&self) -> u64;

    /// Revision of a change.
    fn revision_of(change: &Self::Change) -> u64;

    /// The state of `revision` as it is in the file, and how many bytes that is.
    fn load(transaction: &ReadTransaction, limits: Self::Limits, revision: u64) -> Result<(Self, u64), String>;

    /// Writes everything into a file that is empty.
    fn fill(&self, transaction: &WriteTransaction) -> Result<(), redb::Error>;

    /// Writes changes on top of what is in the file.
    fn write(transaction: &WriteTransaction, changes: &[Self::Change]) -> Result<(), redb::Error>;
}

/// The registry's store on disk.
pub(crate) type Disk<M = Directory> = DiskOf<Registry, M>;

/// A store on disk.
pub(crate) struct DiskOf<C, M: Medium = Directory> {
    // Closed in this order: the place is free only once the file is closed.
    database: Option<Database>,
    medium: M,
    contents: PhantomData<C>,
}

impl<C: Contents> DiskOf<C> {
    /// The store in `directory` and what it holds. Without a file there, nothing is touched until the first commit.
    pub(crate) fn open(directory: &Path, limits: C::Limits) -> Result<(Self, C), OpenError> {
        Self::on(Directory::new(directory, C::FILE), limits, COMPACTED_FROM)
    }
}

/// Why a file cannot be used: it cannot be read at present, or what is in it is wrong.
enum Failure {
    Io(io::Error),
    Content(String),
}

impl<C: Contents, M: Medium> DiskOf<C, M> {
    /// The store on `medium` and what it holds; a file of `compacted_from` bytes or more that is mostly empty is made small.
    fn on(mut medium: M, limits: C::Limits, compacted_from: u64) -> Result<(Self, C), OpenError> {
        let Some(size) = medium.size() else {
            return Ok((Self { database: None, medium, contents: PhantomData }, C::empty(limits)));
        };
        medium.claim()?;
        let file = medium.name();
        let opened = guarded(|| read::<C>(&medium, limits), |reason| Failure::Content(reason.to_owned()));
        let (database, state, bytes) = opened.map_err(|failure| match failure {
            Failure::Io(source) => OpenError::Unusable { directory: file.parent().unwrap_or(&file).to_owned(), source },
            Failure::Content(reason) => OpenError::Damaged { file: file.clone(), reason, what: C::WHAT, loss: C::LOSS },
        })?;
        if state.at() < medium.marked() {
            error!(
                file = %file.display(), holds = state.at(), kept = medium.marked(),
                "the file is older than what was kept in it last: it is an older copy, or damaged; what was \
                 registered since is not in it until it registers again"
            );
        }
        medium.mark(state.at());
        let mut disk = Self { database: Some(database), medium, contents: PhantomData };
        if size >= compacted_from && bytes.saturating_mul(4) < size {
            disk.compact(&state, size);
        }
        Ok((disk, state))
    }

    /// Makes the place and takes it for this process, when that is not done yet.
    pub(crate) fn claim(&mut self) -> Result<(), OpenError> {
        self.medium.claim().map(|_| ())
    }

    /// Writes everything to a new file. Without it, the next commit does so.
    fn compact(&mut self, state: &C, size: u64) {
        self.close();
        match guarded(|| self.make(state, &[]), str::to_owned) {
            Ok(database) => {
                self.database = Some(database);
                let now = self.medium.size().unwrap_or_default();
                info!(before = size, now, "a file of the registry was mostly empty and is smaller now");
            }
            Err(reason) => warn!(reason, "a file of the registry could not be made smaller"),
        }
    }

    fn try_commit(&mut self, before: &C, changes: &[C::Change]) -> Result<(), String> {
        let now = self.medium.claim().map_err(|error| error.to_string())?;
        if now && self.medium.size().is_some() {
            self.medium.release();
            return Err(format!(
                "{} was filled by another process; start again to use it",
                self.medium.name().display()
            ));
        }
        let Some(database) = &self.database else {
            self.database = Some(self.make(before, changes)?);
            return Ok(());
        };
        let text = |error: redb::Error| error.to_string();
        let transaction = begin(database).map_err(text)?;
        write::<C>(&transaction, changes).map_err(text)?;
        transaction.commit().map_err(|error| text(error.into()))
    }

    /// A new file that holds everything already when it gets its name.
    fn make(&self, before: &C, changes: &[C::Change]) -> Result<Database, String> {
        let text = |error: io::Error| error.to_string();
        let file = self.medium.begin().map_err(text)?;
        let database = builder().create_with_backend(file).map_err(|error| error.to_string())?;
        fill(&database, before, changes)?;
        self.medium.publish().map_err(text)?;
        Ok(database)
    }

    /// Closes the file. redb has a last word to write, which makes the next start quicker and is not needed.
    fn close(&mut self) {
        if let Some(database) = self.database.take() {
            let _ = guarded::<_, String>(
                || {
                    drop(database);
                    Ok(())
                },
                str::to_owned,
            );
        }
    }
}

impl<C: Contents, M: Medium> DiskOf<C, M> {
    /// Keeps `changes`, all or none, on top of `before`, which is everything that was kept until now.
    pub(crate) fn keep(&mut self, before: &C, changes: &[C::Change]) -> Result<(), StoreError> {
        guarded(|| self.try_commit(before, changes), str::to_owned).map_err(|reason| {
            self.close();
            StoreError(reason)
        })?;
        if let Some(last) = changes.last() {
            self.medium.mark(C::revision_of(last));
        }
        Ok(())
    }
}

impl<M: Medium> Store for Disk<M> {
    fn commit(&mut self, before: &Registry, events: &[Event]) -> Result<(), StoreError> {
        self.keep(before, events)
    }
}

/// redb may panic over a file that was changed behind its back; that is an error here.
fn guarded<T, E>(work: impl FnOnce() -> Result<T, E>, failed: impl FnOnce(&str) -> E) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(failed("reading it failed an internal check")))
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// What the medium holds: the file, what is in it, and how many bytes that is.
fn read<C: Contents>(medium: &impl Medium, limits: C::Limits) -> Result<(Database, C, u64), Failure> {
    let file = medium.open().map_err(Failure::Io)?;
    // An empty file would be taken for a new one.
    if file.len().map_err(Failure::Io)? == 0 {
        return Err(Failure::Content("it is empty".to_owned()));
    }
    let database = builder().create_with_backend(file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Failure::Content("another process has it open".to_owned()),
        DatabaseError::Storage(StorageError::Io(error)) if error.raw_os_error().is_some() => Failure::Io(error),
        error => Failure::Content(error.to_string()),
    })?;
    let (state, bytes) = load(&database, limits).map_err(Failure::Content)?;
    Ok((database, state, bytes))
}

fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

fn load<C: Contents>(database: &Database, limits: C::Limits) -> Result<(C, u64), String> {
    let text = |error: redb::Error| error.to_string();
    let transaction = database.begin_read().map_err(|error| text(error.into()))?;
    let meta = transaction.open_table(META).map_err(|error| text(error.into()))?;
    let number =
        |key: &str| meta.get(key).map(|value| value.map(|value| value.value())).map_err(|error| error.to_string());
    let format = number(FORMAT_KEY)?.ok_or("it says no format")?;
    if format != FORMAT {
        return Err(format!("its format is {format}, and this version knows {FORMAT}"));
    }
    let revision = number(REVISION)?.ok_or("it says no revision")?;
    C::load(&transaction, limits, revision)
}

/// Everything: what was acknowledged, then `changes`.
fn fill<C: Contents>(database: &Database, before: &C, changes: &[C::Change]) -> Result<(), String> {
    let work = || -> Result<(), redb::Error> {
        let transaction = begin(database)?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(FORMAT_KEY, FORMAT)?;
            meta.insert(REVISION, before.at())?;
        }
        before.fill(&transaction)?;
        write::<C>(&transaction, changes)?;
        transaction.commit()?;
        Ok(())
    };
    work().map_err(|error| error.to_string())
}

fn write<C: Contents>(transaction: &WriteTransaction, changes: &[C::Change]) -> Result<(), redb::Error> {
    C::write(transaction, changes)?;
    if let Some(last) = changes.last() {
        transaction.open_table(META)?.insert(REVISION, C::revision_of(last))?;
    }
    Ok(())
}

impl Contents for Registry {
    type Limits = Limits;
    type Change = Event;
    const WHAT: &'static str = "registry";
    const FILE: &'static str = "registry.redb";
    const LOSS: &'static str = "instances that renew or register are known again then";

    fn empty(limits: Limits) -> Self {
        Self::new(limits)
    }

    fn at(&self) -> u64 {
        self.revision()
    }

    fn revision_of(event: &Event) -> u64 {
        event.revision
    }

    fn load(transaction: &ReadTransaction, limits: Limits, revision: u64) -> Result<(Self, u64), String> {
        let instances = transaction.open_table(INSTANCES).map_err(|error| error.to_string())?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for row in instances.iter().map_err(|error| error.to_string())? {
            let (place, value) = row.map_err(|error| error.to_string())?;
            bytes += place.value().len() as u64 + value.value().len() as u64;
            let entry = record::read(value.value()).map_err(|error| {
                format!("record {}: {error}", String::from_utf8_lossy(place.value()).replace('\0', "/"))
            })?;
            entries.push(entry);
        }
        Ok((Self::restore(limits, entries, revision), bytes))
    }

    fn fill(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut instances = transaction.open_table(INSTANCES)?;
        for entry in self.services().flat_map(|(_, service)| service.instances()) {
            instances.insert(record::place(&entry.key).as_slice(), bytes(entry)?.as_slice())?;
        }
        Ok(())
    }

    fn write(transaction: &WriteTransaction, events: &[Event]) -> Result<(), redb::Error> {
        let mut instances = transaction.open_table(INSTANCES)?;
        for event in events {
            let place = record::place(&event.key);
            match &event.change {
                Change::Put(entry) => drop(instances.insert(place.as_slice(), bytes(entry)?.as_slice())?),
                Change::Remove { .. } => drop(instances.remove(place.as_slice())?),
            }
        }
        Ok(())
    }
}

fn bytes(entry: &Entry) -> Result<Vec<u8>, redb::Error> {
    record::write(entry).map_err(|error| redb::Error::Io(error.into()))
}

#[cfg(test)]
mod tests;
