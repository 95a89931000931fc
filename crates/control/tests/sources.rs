//! Which texts a list of paths stands for.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use meshwright_control::{STDIN, read_sources};
use tempfile::tempdir;

/// File names and contents, names relative to `root`.
fn read(root: &Path, paths: &[&str], stdin: Option<&[u8]>) -> Vec<(String, String)> {
    let paths: Vec<PathBuf> =
        paths.iter().map(|path| if *path == "-" { PathBuf::from("-") } else { root.join(path) }).collect();
    let prefix = format!("{}/", root.display());
    let sources = read_sources(&paths, stdin).unwrap();
    sources
        .into_iter()
        .map(|source| {
            let name = source.name.strip_prefix(&prefix).unwrap_or(&source.name).to_owned();
            (name, String::from_utf8(source.text).unwrap())
        })
        .collect()
}

fn names(root: &Path, paths: &[&str]) -> Vec<String> {
    read(root, paths, None).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_directory_is_its_yaml_and_json_files_sorted_and_nothing_hidden() {
    let root = tempdir().unwrap();
    fs::create_dir_all(root.path().join("sub/deeper")).unwrap();
    fs::create_dir(root.path().join(".git")).unwrap();
    for file in
        ["b.yaml", "a.yml", "c.json", "notes.txt", ".hidden.yaml", "sub/z.yaml", "sub/deeper/y.yaml", ".git/x.yaml"]
    {
        fs::write(root.path().join(file), file).unwrap();
    }
    assert_eq!(names(root.path(), &["."]), ["./a.yml", "./b.yaml", "./c.json", "./sub/deeper/y.yaml", "./sub/z.yaml"]);
}

#[test]
fn paths_keep_their_order_and_a_path_named_twice_is_read_once() {
    let root = tempdir().unwrap();
    for file in ["b.yaml", "a.yaml", "plain"] {
        fs::write(root.path().join(file), file).unwrap();
    }
    assert_eq!(names(root.path(), &["b.yaml", "plain", "a.yaml", "b.yaml"]), ["b.yaml", "plain", "a.yaml"]);
}

#[test]
fn standard_input_stands_where_the_dash_is_and_else_first() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("a.yaml"), "file").unwrap();
    let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let last = read(root.path(), &["a.yaml", "-"], Some(b"input"));
    assert_eq!(last, [pair("a.yaml", "file"), pair(STDIN, "input")]);
    let first = read(root.path(), &["a.yaml"], Some(b"input"));
    assert_eq!(first, [pair(STDIN, "input"), pair("a.yaml", "file")]);
    let named = read_sources(&[PathBuf::from(STDIN)], Some(b"input")).unwrap();
    assert_eq!((named.len(), &*named[0].name), (1, STDIN));
    assert_eq!(read_sources(&[PathBuf::from("-")], None).unwrap_err().len(), 1);
}

#[test]
fn every_path_that_cannot_be_read_is_named_and_nothing_is_returned() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("good.yaml"), "x").unwrap();
    fs::create_dir(root.path().join("empty")).unwrap();
    let paths = ["good.yaml", "missing.yaml", "empty", "gone/x.yaml"].map(|name| root.path().join(name));
    let findings = read_sources(&paths, None).unwrap_err();
    let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(findings.len(), 3, "{messages:?}");
    assert!(messages[0].contains("missing.yaml does not exist"), "{messages:?}");
    assert!(messages[1].contains("holds no *.yaml"), "{messages:?}");
    assert!(messages[2].contains("gone/x.yaml does not exist"), "{messages:?}");
    assert!(findings.iter().all(|finding| finding.code == "unreadable-source" && finding.suggestion.is_some()));
}

#[test]
fn links_are_followed_but_not_in_circles() {
    let root = tempdir().unwrap();
    fs::create_dir(root.path().join("real")).unwrap();
    fs::write(root.path().join("real/a.yaml"), "text").unwrap();
    symlink(root.path(), root.path().join("real/back")).unwrap();
    symlink(root.path().join("real/a.yaml"), root.path().join("link.yaml")).unwrap();
    assert_eq!(names(root.path(), &["."]), ["./link.yaml", "./real/a.yaml"]);
}

#[test]
fn a_link_to_nowhere_is_an_error_when_it_is_a_configuration_file() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("a.yaml"), "text").unwrap();
    symlink(root.path().join("nowhere"), root.path().join("notes")).unwrap();
    assert_eq!(names(root.path(), &["."]), ["./a.yaml"]);
    symlink(root.path().join("nowhere"), root.path().join("b.yaml")).unwrap();
    let findings = read_sources(&[root.path().to_owned()], None).unwrap_err();
    assert!(findings[0].message.contains("b.yaml does not exist"), "{}", findings[0]);
}

#[test]
fn a_file_without_end_is_read_only_as_far_as_it_takes_to_refuse_it() {
    let sources = read_sources(&[PathBuf::from("/dev/zero")], None).unwrap();
    assert_eq!(sources[0].text.len(), meshwright_config::MAX_SOURCE_BYTES + 1);
}
