//! Watching directories for changes, as a thin shell around notify. What a change means is decided in `control.rs`.
//!
//! Directories are watched rather than files: editors replace files by renaming, and Kubernetes swaps a symbolic link.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::warn;

use crate::source::Interest;

/// What each watched directory is watched for. The lock is held for one look-up or one replacement.
type Interests = Arc<Mutex<BTreeMap<PathBuf, Interest>>>;

/// A set of watched directories and one bell that rings for all of them.
pub(crate) struct FileWatch {
    watcher: RecommendedWatcher,
    interests: Interests,
    bell: Arc<Notify>,
    /// Watched directories with device and inode: a directory that was replaced by another of its name is watched anew.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    complained: bool,
}

/// What [`FileWatch::set_directories`] achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// A directory was not watched before: whatever happened in it before this moment went unseen.
    pub(crate) gained: bool,
    /// Every directory is watched. When not, try again soon.
    pub(crate) complete: bool,
}

impl FileWatch {
    pub(crate) fn new() -> notify::Result<Self> {
        let bell = Arc::new(Notify::new());
        let interests: Interests = Interests::default();
        let (ring, known) = (Arc::clone(&bell), Arc::clone(&interests));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that events may be missing: look, rather than miss a change.
            if event.map_or(true, |event| matters(&event, &known)) {
                ring.notify_one();
            }
        })?;
        Ok(Self { watcher, interests, bell, watched: BTreeMap::new(), complained: false })
    }

    /// Waits until something changed since the last time.
    pub(crate) async fn changed(&self) {
        self.bell.notified().await;
    }

    /// Watches exactly these directories, as far as they exist.
    pub(crate) fn set_directories(&mut self, wanted: BTreeMap<PathBuf, Interest>) -> Coverage {
        let mut coverage = Coverage { gained: false, complete: true };
        let gone: Vec<PathBuf> = self.watched.keys().filter(|path| !wanted.contains_key(*path)).cloned().collect();
        for path in gone {
            self.forget(&path);
        }
        *self.interests.lock().unwrap_or_else(PoisonError::into_inner) = wanted.clone();
        for path in wanted.into_keys() {
            let identity = std::fs::metadata(&path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
            if identity.is_some() && self.watched.get(&path).copied() == identity {
                continue;
            }
            if self.watched.contains_key(&path) {
                self.forget(&path);
            }
            let result = self.watcher.watch(&path, RecursiveMode::NonRecursive);
            match (result, identity) {
                (Ok(()), Some(identity)) => {
                    self.watched.insert(path, identity);
                    coverage.gained = true;
                }
                (Ok(()), None) => {
                    self.forget(&path);
                    coverage.complete = false;
                }
                (Err(error), _) => {
                    coverage.complete = false;
                    if !self.complained {
                        warn!(directory = %path.display(), %error, "directory cannot be watched; trying again every second");
                    }
                }
            }
        }
        self.complained = !coverage.complete;
        coverage
    }

    fn forget(&mut self, path: &Path) {
        self.watched.remove(path);
        // It fails when the directory is gone, and then there is nothing left to end.
        let _ = self.watcher.unwatch(path);
    }
}

/// Whether an event can mean that a file has other contents now. Reading does not; our own reading least of all.
fn matters(event: &Event, interests: &Mutex<BTreeMap<PathBuf, Interest>>) -> bool {
    if event.need_rescan() {
        return true;
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        _ => {}
    }
    let interests = interests.lock().unwrap_or_else(PoisonError::into_inner);
    event.paths.is_empty()
        || event.paths.iter().any(|path| {
            let inside = path.parent().and_then(|parent| interests.get(parent).or_else(|| interests.get(&dot(parent))));
            match (inside, path.file_name()) {
                (Some(Interest::Entries(names)), Some(name)) => names.contains(name) || interests.contains_key(path),
                _ => true,
            }
        })
}

/// `.` for the empty path that `Path::parent` gives for a bare name.
fn dot(parent: &Path) -> PathBuf {
    if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use notify::event::{CreateKind, ModifyKind};

    use super::*;

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(PathBuf::from(path))
    }

    #[test]
    fn reading_a_file_is_no_change_and_writing_it_is() {
        let interests = Mutex::new(BTreeMap::from([(PathBuf::from("/c"), Interest::Everything)]));
        let opened = event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/c/a.yaml");
        let read = event(EventKind::Access(AccessKind::Close(AccessMode::Read)), "/c/a.yaml");
        let written = event(EventKind::Access(AccessKind::Close(AccessMode::Write)), "/c/a.yaml");
        assert!(!matters(&opened, &interests));
        assert!(!matters(&read, &interests));
        assert!(matters(&written, &interests));
        assert!(matters(&event(EventKind::Modify(ModifyKind::Any), "/c/a.yaml"), &interests));
    }

    #[test]
    fn beside_a_watched_directory_only_the_directory_itself_matters() {
        let names = BTreeSet::from(["conf".into()]);
        let interests = Mutex::new(BTreeMap::from([
            (PathBuf::from("/etc"), Interest::Entries(names)),
            (PathBuf::from("/etc/conf"), Interest::Everything),
        ]));
        let created = EventKind::Create(CreateKind::Any);
        assert!(!matters(&event(created, "/etc/passwd"), &interests));
        assert!(matters(&event(created, "/etc/conf"), &interests));
        assert!(matters(&event(created, "/etc/conf/a.yaml"), &interests));
    }
}
