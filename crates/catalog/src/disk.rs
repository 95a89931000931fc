//! The registry on disk: one redb file in the data directory, beside a lock that names the process that uses it.
//!
//! ```text
//!  DIR/lock            held by the one process that uses DIR; its id is in it
//!  DIR/registry.redb   table `instances`: namespace, service and id to a record; table `meta`: format and revision
//! ```
//!
//! A new file is made under another name, filled, and moved into place, so that a file of that name is always whole. redb
//! commits a batch with one or two syncs; after a failed one nobody knows what is on the disk, so the next commit opens the
//! file anew and writes everything again. It does not decide what is registered: `writer.rs`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use meshwright_registry::{Change, Entry, Event, Limits, Registry};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

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
    /// What is in it is no registry, or a damaged one.
    #[error(
        "the registry file {file} is damaged or not ours: {reason}; restore it from a copy, or move it away and start \
         again: instances that renew or register are known again then"
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The store on disk.
pub(crate) struct Disk {
    directory: PathBuf,
    // Closed in this order: the directory is free only once the file is closed.
    database: Option<Database>,
    lock: Option<File>,
    /// The file may hold something else than what was acknowledged.
    suspect: bool,
}

impl Disk {
    /// The store in `directory` and what it holds. Without a file there, nothing is touched until the first commit.
    pub(crate) fn open(directory: &Path, limits: Limits) -> Result<(Self, Registry), OpenError> {
        let mut disk = Self { directory: directory.to_owned(), lock: None, database: None, suspect: false };
        if !disk.file().exists() {
            return Ok((disk, Registry::new(limits)));
        }
        disk.lock = Some(lock(directory)?);
        let file = disk.file();
        let damaged = |reason: String| OpenError::Damaged { file: file.clone(), reason };
        let (database, registry) = guarded(|| {
            let database = open_existing(&file)?;
            let registry = load(&database, limits)?;
            Ok((database, registry))
        })
        .map_err(damaged)?;
        disk.database = Some(database);
        Ok((disk, registry))
    }

    /// Makes the directory and takes it for this process, when that is not done yet.
    pub(crate) fn claim(&mut self) -> Result<(), OpenError> {
        if self.lock.is_none() {
            let unusable = |source| OpenError::Unusable { directory: self.directory.clone(), source };
            fs::create_dir_all(&self.directory).map_err(unusable)?;
            self.lock = Some(lock(&self.directory)?);
        }
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.directory.join("registry.redb")
    }

    fn try_commit(&mut self, before: &Registry, events: &[Event]) -> Result<(), String> {
        if self.lock.is_none() {
            self.claim().map_err(|error| error.to_string())?;
            if self.file().exists() {
                self.lock = None;
                return Err(format!("{} was filled by another process; start again to use it", self.file().display()));
            }
        }
        let Some(database) = &self.database else {
            let database = if self.file().exists() { open_existing(&self.file())? } else { self.make(before, events)? };
            let written = if self.suspect { rewrite(&database, before, events) } else { Ok(()) };
            self.database = Some(database);
            return written;
        };
        let text = |error: redb::Error| error.to_string();
        let transaction = database.begin_write().map_err(|error| text(error.into()))?;
        write(&transaction, events).map_err(text)?;
        transaction.commit().map_err(|error| text(error.into()))
    }

    /// A new file that holds everything already when it gets its name.
    fn make(&self, before: &Registry, events: &[Event]) -> Result<Database, String> {
        let text = |error: io::Error| error.to_string();
        let unfinished = self.directory.join("registry.redb.new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(text(error)),
            _ => {}
        }
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create(&unfinished).map_err(|error| error.to_string())?;
        rewrite(&database, before, events)?;
        fs::rename(&unfinished, self.file()).map_err(text)?;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(text)?;
        Ok(database)
    }
}

impl Store for Disk {
    fn commit(&mut self, before: &Registry, events: &[Event]) -> Result<(), StoreError> {
        guarded(|| self.try_commit(before, events)).map_err(|reason| {
            self.suspect |= self.file().exists();
            self.database = None;
            StoreError(reason)
        })
    }
}

/// redb may panic over a file that was changed behind its back; that is an error here.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("reading it failed an internal check".to_owned()))
}

/// Takes the directory for this process until the file is closed.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let unusable = |source| OpenError::Unusable { directory: directory.to_owned(), source };
    let path = directory.join("lock");
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = (&mut file).take(20).read_to_string(&mut process);
            let process = if process.trim().is_empty() { "?".to_owned() } else { process.trim().to_owned() };
            return Err(OpenError::InUse { directory: directory.to_owned(), process });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable)?;
    Ok(file)
}

fn open_existing(file: &Path) -> Result<Database, String> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder.open(file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => "another process has it open".to_owned(),
        error => error.to_string(),
    })
}

fn load(database: &Database, limits: Limits) -> Result<Registry, String> {
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
    let instances = transaction.open_table(INSTANCES).map_err(|error| text(error.into()))?;
    let mut entries: Vec<Entry> = Vec::new();
    for row in instances.iter().map_err(|error| error.to_string())? {
        let (place, value) = row.map_err(|error| error.to_string())?;
        let entry = record::read(value.value()).map_err(|error| {
            format!("record {}: {error}", String::from_utf8_lossy(place.value()).replace('\0', "/"))
        })?;
        entries.push(entry);
    }
    Ok(Registry::restore(limits, entries, revision))
}

/// Everything: what was acknowledged, then `events`.
fn rewrite(database: &Database, before: &Registry, events: &[Event]) -> Result<(), String> {
    let work = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        transaction.delete_table(INSTANCES)?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(FORMAT_KEY, FORMAT)?;
            let mut instances = transaction.open_table(INSTANCES)?;
            for entry in before.services().flat_map(|(_, service)| service.instances()) {
                instances.insert(record::place(&entry.key).as_slice(), bytes(entry)?.as_slice())?;
            }
        }
        write(&transaction, events)?;
        transaction.commit()?;
        Ok(())
    };
    work().map_err(|error| error.to_string())
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
    if let Some(last) = events.last() {
        transaction.open_table(META)?.insert(REVISION, last.revision)?;
    }
    Ok(())
}

fn bytes(entry: &Entry) -> Result<Vec<u8>, redb::Error> {
    record::write(entry).map_err(|error| redb::Error::Io(error.into()))
}
