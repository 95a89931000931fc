//! Paths to texts: what is read for a list of files and directories.
//!
//! It does not know what the texts mean.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use meshwright_config::{MAX_SOURCE_BYTES, Source};
use meshwright_model::{Diagnostic, Origin};

/// Name of the text that came from standard input, and a path that stands for it as `-` does.
pub const STDIN: &str = "<stdin>";

/// Whether `path` stands for standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-") || path == Path::new(STDIN)
}

/// Endings of the files that are read from a directory.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads every file of `paths` and puts `stdin` at the place of the path `-`, or first when there is none.
///
/// A directory stands for its `*.yaml`, `*.yml` and `*.json` files and those of its subdirectories, each directory sorted
/// by name; names that begin with a dot are left out, though a path that is named itself may begin with one. Symbolic
/// links are followed. A path that is named twice is read once. A file larger than the configuration may be is read up to
/// one byte beyond that, which is enough for it to be refused.
///
/// # Errors
///
/// One finding for each path that does not exist or cannot be read, and for each directory without such a file; nothing is returned then, so that half of an input is
/// never taken for the whole.
pub fn read_sources(paths: &[PathBuf], stdin: Option<&[u8]>) -> Result<Vec<Source>, Vec<Diagnostic>> {
    read_again(paths, stdin, &OnceOnly::new())
}

/// Texts that can be read only once, by path: pipes and devices, as a shell's `<(...)` makes them.
pub(crate) type OnceOnly = HashMap<PathBuf, Vec<u8>>;

/// Those of `sources` that another reading would not give again.
pub(crate) fn once_only(paths: &[PathBuf], sources: &[Source]) -> OnceOnly {
    let mut kept = OnceOnly::new();
    for path in paths {
        let source = sources.iter().find(|source| *source.name == *path.to_string_lossy());
        if let (true, Some(source)) = (is_special(path), source) {
            kept.insert(path.clone(), source.text.clone());
        }
    }
    kept
}

/// [`read_sources`], with the texts of `kept` instead of another reading of them.
pub(crate) fn read_again(
    paths: &[PathBuf],
    stdin: Option<&[u8]>,
    kept: &OnceOnly,
) -> Result<Vec<Source>, Vec<Diagnostic>> {
    let mut sources: Vec<Source> = Vec::new();
    let mut findings: Vec<Diagnostic> = Vec::new();
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    if let Some(text) = stdin
        && !paths.iter().any(|path| is_stdin(path))
    {
        sources.push(Source::new(STDIN, text));
    }
    for path in paths {
        if !seen.insert(path.clone()) {
            continue;
        }
        if let Some(text) = kept.get(path) {
            sources.push(Source::new(&path.to_string_lossy(), text.clone()));
            continue;
        }
        if is_stdin(path) {
            match stdin {
                Some(text) => sources.push(Source::new(STDIN, text)),
                None => findings.push(
                    Diagnostic::error("unreadable-source", "`-` is given, but nothing was read from standard input")
                        .at(Origin::flag(STDIN), 1),
                ),
            }
            continue;
        }
        match files_of(path) {
            Ok(files) => {
                for file in files {
                    match read_file(&file) {
                        Ok(text) => sources.push(Source::new(&file.to_string_lossy(), text)),
                        Err(error) => findings.push(unreadable(&file, &error)),
                    }
                }
            }
            Err((place, error)) => findings.push(unreadable(&place, &error)),
        }
    }
    if findings.is_empty() { Ok(sources) } else { Err(findings) }
}

/// What one path stands for.
#[derive(Default)]
struct Tree {
    files: Vec<PathBuf>,
    /// Directories that were read, as named.
    directories: Vec<PathBuf>,
    /// Real paths on the way down; a link back to one of them is not followed.
    ancestors: Vec<PathBuf>,
}

/// The files that `path` stands for, at least one.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let metadata = fs::metadata(path).map_err(|error| (path.to_owned(), error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut tree = Tree::default();
    collect(path, &mut tree)?;
    if tree.files.is_empty() {
        let error = io::Error::other("the directory holds no *.yaml, *.yml or *.json file");
        return Err((path.to_owned(), error));
    }
    Ok(tree.files)
}

/// Adds the configuration files below `directory`, and the directories themselves, also when it fails on the way.
fn collect(directory: &Path, tree: &mut Tree) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error: io::Error| (directory.to_owned(), error);
    tree.directories.push(directory.to_owned());
    let real = fs::canonicalize(directory).map_err(failed)?;
    if tree.ancestors.contains(&real) {
        return Ok(());
    }
    tree.ancestors.push(real);
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        let wanted = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => collect(&path, tree)?,
            Ok(_) if wanted => tree.files.push(path),
            Ok(_) => {}
            Err(error) if wanted => return Err((path, error)),
            Err(_) => {}
        }
    }
    tree.ancestors.pop();
    Ok(())
}

/// Which changes in a directory matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Any.
    Everything,
    /// Those of entries with one of these names.
    Entries(BTreeSet<OsString>),
}

/// The directories in which a change may change what [`read_sources`] returns: those that are read, those of the files, as
/// named and as they really are behind links, and those that hold a named path, in case it is replaced.
///
/// Pipes and devices have none: they are read once.
pub(crate) fn watched_directories(paths: &[PathBuf]) -> BTreeMap<PathBuf, Interest> {
    let mut everything: BTreeSet<PathBuf> = BTreeSet::new();
    let mut entries: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
    for path in paths.iter().filter(|path| !is_stdin(path) && !is_special(path)) {
        let mut tree = Tree::default();
        if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            // What could be read until it failed is worth watching all the same.
            let _ = collect(path, &mut tree);
            if let (false, Some(name)) = (path.ends_with(".."), path.file_name()) {
                entries.entry(parent(path)).or_default().insert(name.to_owned());
            }
        } else {
            tree.files.push(path.clone());
        }
        everything.extend(tree.directories);
        for file in tree.files {
            if let Ok(real) = fs::canonicalize(&file) {
                everything.insert(parent(&real));
            }
            everything.insert(parent(&file));
        }
    }
    let mut directories: BTreeMap<PathBuf, Interest> =
        entries.into_iter().map(|(directory, names)| (directory, Interest::Entries(names))).collect();
    directories.extend(interests_of(everything));
    directories
}

/// Every change in each of `directories` matters.
pub(crate) fn interests_of(directories: BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Interest> {
    directories.into_iter().map(|directory| (directory, Interest::Everything)).collect()
}

/// The directory that `path` is in; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let beyond = u64::try_from(MAX_SOURCE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Vec::new();
    fs::File::open(path)?.take(beyond).read_to_end(&mut text)?;
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let name = path.to_string_lossy();
    let message = match error.kind() {
        io::ErrorKind::NotFound => format!("{name} does not exist"),
        io::ErrorKind::PermissionDenied => format!("{name} may not be read by this user"),
        _ => format!("{name} cannot be read: {error}"),
    };
    let suggestion = match error.kind() {
        io::ErrorKind::NotFound => "check the spelling and the working directory; relative paths start there",
        io::ErrorKind::Other => "name the files themselves, or give them one of these endings",
        _ => "check the permissions of the file and of the directories above it",
    };
    Diagnostic::error("unreadable-source", message)
        .at(Origin::flag(&name), 1)
        .with_value(name.clone().into_owned())
        .with_effect("nothing of the input is applied")
        .with_suggestion(suggestion)
}

/// Neither a file nor a directory, though it exists.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// A number that is the same for the same texts under the same names.
pub(crate) fn fingerprint(sources: &[Source]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for source in sources {
        source.name.hash(&mut hasher);
        source.text.hash(&mut hasher);
    }
    hasher.finish()
}
