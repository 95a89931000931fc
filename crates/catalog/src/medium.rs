//! Where the store's file lies: a directory that one process has for itself.
//!
//! ```text
//!  DIR/lock              held by the one process that uses DIR; its id is in it, and the revision that was kept last
//!  DIR/registry.redb     the file
//!  DIR/registry.redb.new a file that is being written; it gets the name above when it is whole
//! ```
//!
//! Keys lie in `DIR/keys` in the same way, as `keys.redb`. It does not know what is in the file: `disk.rs`. It is a trait so that tests can have a medium that fails and that
//! forgets what was not synced.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::disk::OpenError;

/// A place for one file, and for another that will take its name.
pub(crate) trait Medium: Send {
    /// An open file.
    type File: StorageBackend;

    /// Takes the place for this process, when that is not done yet; whether it was done now.
    fn claim(&mut self) -> Result<bool, OpenError>;

    /// Gives the place back.
    fn release(&mut self);

    /// Takes down the revision that was kept last, without a sync and without care: [`Medium::marked`] may lag behind.
    fn mark(&mut self, revision: u64);

    /// The revision that was taken down last, perhaps by a process before; 0 when none is known.
    fn marked(&self) -> u64;

    /// Name of the file, for people.
    fn name(&self) -> PathBuf;

    /// Bytes of the file; `None` without one.
    fn size(&self) -> Option<u64>;

    /// Opens the file.
    fn open(&self) -> io::Result<Self::File>;

    /// Begins an empty new file beside it, in the place of any that was begun before.
    fn begin(&self) -> io::Result<Self::File>;

    /// The new file is the file from now on, whatever happens to the machine.
    fn publish(&self) -> io::Result<()>;
}

/// A directory of the file system.
pub(crate) struct Directory {
    path: PathBuf,
    name: &'static str,
    lock: Option<File>,
    marked: u64,
}

impl Directory {
    /// The file `name` in the directory `path`.
    pub(crate) fn new(path: &Path, name: &'static str) -> Self {
        Self { path: path.to_owned(), name, lock: None, marked: 0 }
    }

    fn unfinished(&self) -> PathBuf {
        self.path.join(format!("{}.new", self.name))
    }
}

impl Medium for Directory {
    type File = FileBackend;

    fn claim(&mut self) -> Result<bool, OpenError> {
        if self.lock.is_some() {
            return Ok(false);
        }
        let unusable = |source| OpenError::Unusable { directory: self.path.clone(), source };
        fs::create_dir_all(&self.path).map_err(unusable)?;
        let (lock, marked) = lock(&self.path)?;
        (self.lock, self.marked) = (Some(lock), marked);
        self.mark(marked);
        Ok(true)
    }

    fn release(&mut self) {
        self.lock = None;
    }

    fn mark(&mut self, revision: u64) {
        if let Some(lock) = &self.lock {
            // Of one width, so that it is written over what was there.
            let _ = lock.write_all_at(format!("{:>10}\n{revision:>20}\n", std::process::id()).as_bytes(), 0);
        }
        self.marked = revision;
    }

    fn marked(&self) -> u64 {
        self.marked
    }

    fn name(&self) -> PathBuf {
        self.path.join(self.name)
    }

    fn size(&self) -> Option<u64> {
        fs::metadata(self.name()).ok().map(|metadata| metadata.len())
    }

    fn open(&self) -> io::Result<FileBackend> {
        backend(File::options().read(true).write(true).open(self.name())?)
    }

    fn begin(&self) -> io::Result<FileBackend> {
        let path = self.unfinished();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        backend(File::options().read(true).write(true).create_new(true).open(path)?)
    }

    fn publish(&self) -> io::Result<()> {
        fs::rename(self.unfinished(), self.name())?;
        File::open(&self.path)?.sync_all()
    }
}

fn backend(file: File) -> io::Result<FileBackend> {
    FileBackend::new(file).map_err(io::Error::other)
}

/// Takes the directory for this process until the file is closed; the file and the revision that was last taken down in it.
fn lock(directory: &Path) -> Result<(File, u64), OpenError> {
    let unusable = |source| OpenError::Unusable { directory: directory.to_owned(), source };
    let path = directory.join("lock");
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(unusable)?;
    let locked = file.try_lock();
    let mut text = String::new();
    let _ = (&mut file).take(40).read_to_string(&mut text);
    let mut lines = text.lines().map(str::trim);
    let process = lines.next().filter(|id| !id.is_empty()).unwrap_or("?");
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse { directory: directory.to_owned(), process: process.to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    let marked = lines.next().and_then(|revision| revision.parse().ok()).unwrap_or_default();
    Ok((file, marked))
}
