//! Changes of files take effect whole, or not at all.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::*;
use meshwright_control::{Command, Control, Publisher};
use tempfile::{TempDir, tempdir};

const BAD: &str =
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x}\nspec: {hots: [a.test]}\n";

fn file(port: u16) -> (TempDir, std::path::PathBuf) {
    let root = tempdir().unwrap();
    let path = root.path().join("mesh.yaml");
    fs::write(&path, users_at(port)).unwrap();
    (root, path)
}

/// As editors save: another file takes the name.
fn replace(path: &Path, text: &str) {
    let other = path.with_extension("tmp");
    fs::write(&other, text).unwrap();
    fs::rename(&other, path).unwrap();
}

#[tokio::test]
async fn a_written_file_and_a_renamed_one_take_effect() {
    let (_root, path) = file(9001);
    let running = Running::start(settings(std::slice::from_ref(&path)));
    assert_eq!(running.users_port(), 9001);
    assert_eq!(running.handle.status().generation, 1);
    fs::write(&path, users_at(9002)).unwrap();
    eventually("the written file runs", || running.users_port() == 9002).await;
    replace(&path, &users_at(9003));
    eventually("the renamed file runs", || running.users_port() == 9003).await;
    let status = running.handle.status();
    assert!(status.last_reload_ok && status.watching);
    assert_eq!(status.generation, 1 + status.reloads_ok);
    running.stop().await;
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_configuration_and_says_so_until_it_is_repaired() {
    let (_root, path) = file(9001);
    let running = Running::start(settings(std::slice::from_ref(&path)));
    replace(&path, BAD);
    eventually("the bad file is refused", || !running.handle.status().last_reload_ok).await;
    let status = running.handle.status();
    assert_eq!((status.generation, status.reloads_failed), (1, 1));
    assert!(status.diagnostics.iter().any(|finding| finding.message.contains("hots")), "{:?}", status.diagnostics);
    assert!(status.detail()[0].contains("generation 1 keeps running"), "{:?}", status.detail());
    assert_eq!(running.users_port(), 9001);
    replace(&path, &users_at(9001));
    eventually("the repaired file runs", || running.handle.status().last_reload_ok).await;
    let status = running.handle.status();
    assert_eq!((status.generation, status.reloads_ok), (2, 1));
    assert!(status.detail().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_away_for_a_while_keeps_the_last_good_configuration() {
    let (_root, path) = file(9001);
    let running = Running::start(settings(std::slice::from_ref(&path)));
    fs::remove_file(&path).unwrap();
    eventually("the missing file is noticed", || !running.handle.status().last_reload_ok).await;
    assert_eq!(running.users_port(), 9001);
    fs::write(&path, users_at(9001)).unwrap();
    eventually("the same file is back", || running.handle.status().last_reload_ok).await;
    running.stop().await;
}

#[tokio::test]
async fn a_swapped_symbolic_link_takes_effect_as_kubernetes_does_it() {
    let root = tempdir().unwrap();
    for (revision, port) in [("..2026_1", 9001), ("..2026_2", 9002), ("..2026_3", 9003)] {
        fs::create_dir(root.path().join(revision)).unwrap();
        fs::write(root.path().join(revision).join("mesh.yaml"), users_at(port)).unwrap();
    }
    symlink("..2026_1", root.path().join("..data")).unwrap();
    symlink("..data/mesh.yaml", root.path().join("mesh.yaml")).unwrap();
    let swap = |revision: &str| {
        symlink(revision, root.path().join("..data_tmp")).unwrap();
        fs::rename(root.path().join("..data_tmp"), root.path().join("..data")).unwrap();
    };
    let by_directory = Running::start(settings(&[root.path().to_owned()]));
    let by_file = Running::start(settings(&[root.path().join("mesh.yaml")]));
    assert_eq!((by_directory.users_port(), by_file.users_port()), (9001, 9001));
    swap("..2026_2");
    fs::remove_dir_all(root.path().join("..2026_1")).unwrap();
    eventually("both follow the link", || by_directory.users_port() == 9002 && by_file.users_port() == 9002).await;
    swap("..2026_3");
    eventually("both follow it again", || by_directory.users_port() == 9003 && by_file.users_port() == 9003).await;
    by_directory.stop().await;
    by_file.stop().await;
}

#[tokio::test]
async fn a_file_behind_a_link_is_watched_where_it_really_is() {
    let (_elsewhere, real) = file(9001);
    let root = tempdir().unwrap();
    let link = root.path().join("mesh.yaml");
    symlink(&real, &link).unwrap();
    let by_file = Running::start(settings(std::slice::from_ref(&link)));
    let by_directory = Running::start(settings(&[root.path().to_owned()]));
    fs::write(&real, users_at(9002)).unwrap();
    eventually("both see the change", || by_file.users_port() == 9002 && by_directory.users_port() == 9002).await;
    by_file.stop().await;
    by_directory.stop().await;
}

#[tokio::test]
async fn files_that_come_and_go_in_a_directory_take_effect() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("a.yaml"), users_at(9001)).unwrap();
    let running = Running::start(settings(&[root.path().to_owned()]));
    let services = || running.handle.snapshot().mesh.services.len();
    assert_eq!(services(), 1);
    fs::create_dir(root.path().join("more")).unwrap();
    fs::write(root.path().join("more/b.yaml"), users_at(9002).replace("users", "posts")).unwrap();
    eventually("the file in the new directory counts", || services() == 2).await;
    fs::write(root.path().join("more/b.yaml"), users_at(9003).replace("users", "posts")).unwrap();
    let posts = || running.addresses("outbound|80||posts.test").first().map_or(0, |address| address.port());
    eventually("the new directory is watched", || posts() == 9003).await;
    fs::remove_file(root.path().join("more/b.yaml")).unwrap();
    eventually("the removed file is forgotten", || services() == 1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_as_a_whole_is_watched_again() {
    let root = tempdir().unwrap();
    let conf = root.path().join("conf");
    fs::create_dir(&conf).unwrap();
    fs::write(conf.join("a.yaml"), users_at(9001)).unwrap();
    let running = Running::start(settings(std::slice::from_ref(&conf)));
    let next = root.path().join("next");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("a.yaml"), users_at(9002)).unwrap();
    fs::rename(&conf, root.path().join("old")).unwrap();
    fs::rename(&next, &conf).unwrap();
    eventually("the new directory counts", || running.users_port() == 9002).await;
    fs::write(conf.join("a.yaml"), users_at(9003)).unwrap();
    eventually("changes in it count", || running.users_port() == 9003).await;
    running.stop().await;
}

#[tokio::test]
async fn a_command_reloads_also_what_did_not_change_and_without_watching() {
    let (_root, path) = file(9001);
    let mut settings = settings(std::slice::from_ref(&path));
    settings.watch = false;
    let running = Running::start(settings);
    assert!(!running.handle.status().watching);
    running.commands.send(Command::Reload).await.unwrap();
    eventually("it was reloaded", || running.handle.status().reloads_ok == 1).await;
    fs::write(&path, users_at(9002)).unwrap();
    running.commands.send(Command::Reload).await.unwrap();
    eventually("the change runs", || running.users_port() == 9002).await;
    assert_eq!(running.handle.status().generation, 3);
    running.stop().await;
}

#[tokio::test]
async fn a_publisher_that_refuses_keeps_the_last_good_configuration() {
    let (_root, path) = file(9001);
    let running = Running::start(settings(std::slice::from_ref(&path)));
    running.recorder.refuse.store(true, Ordering::SeqCst);
    replace(&path, &users_at(9002));
    eventually("it is refused", || !running.handle.status().last_reload_ok).await;
    assert_eq!(running.users_port(), 9001);
    assert!(running.handle.status().diagnostics.iter().any(|finding| finding.code == "listener-busy"));
    running.recorder.refuse.store(false, Ordering::SeqCst);
    running.commands.send(Command::Reload).await.unwrap();
    eventually("it is taken the second time", || running.users_port() == 9002).await;
    running.stop().await;
}

#[tokio::test]
async fn every_reload_is_one_snapshot_and_unchanged_clusters_stay_the_same() {
    let (_root, path) = file(9001);
    let running = Running::start(settings(std::slice::from_ref(&path)));
    let before = running.handle.snapshot();
    for generation in 2..=20 {
        let text = format!("{}---\n{}", users_at(9001), users_at(9100 + generation).replace("users", "posts"));
        replace(&path, &text);
        running.commands.send(Command::Reload).await.unwrap();
        let port = 9100 + generation;
        eventually("the change runs", || {
            running.addresses("outbound|80||posts.test").first().map(|address| address.port()) == Some(port)
        })
        .await;
    }
    let after = running.handle.snapshot();
    let name = "outbound|80||users.test";
    assert!(Arc::ptr_eq(before.cluster(name).unwrap(), after.cluster(name).unwrap()));
    let numbers: Vec<u64> = running.recorder.snapshots.lock().unwrap().iter().map(|snapshot| snapshot.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_emptied_before_it_is_written_closes_nothing() {
    let (_root, path) = file(9001);
    let running = Running::start(settings(std::slice::from_ref(&path)));
    fs::write(&path, "\n").unwrap();
    eventually("the empty file is noticed", || !running.handle.status().last_reload_ok).await;
    assert_eq!(running.handle.status().diagnostics[0].code, "blank-source");
    assert_eq!(running.users_port(), 9001);
    running.commands.send(Command::Reload).await.unwrap();
    eventually("a command applies it all the same", || running.handle.status().last_reload_ok).await;
    assert_eq!(running.users_port(), 0);
    running.stop().await;
}

#[tokio::test]
async fn what_came_through_a_pipe_stays_over_reloads() {
    let root = tempdir().unwrap();
    let pipe = root.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let path = root.path().join("mesh.yaml");
    fs::write(&path, users_at(9001)).unwrap();
    let (writer, text) = (pipe.clone(), users_at(9100).replace("users", "posts"));
    let writing = std::thread::spawn(move || fs::write(writer, text).unwrap());
    let running = Running::start(settings(&[pipe, path.clone()]));
    writing.join().unwrap();
    replace(&path, &users_at(9002));
    eventually("the file is reloaded", || running.users_port() == 9002).await;
    assert_eq!(running.addresses("outbound|80||posts.test").len(), 1);
    running.stop().await;
}

#[test]
fn nothing_starts_from_a_bad_or_missing_file_or_with_a_publisher_that_refuses() {
    let (root, path) = file(9001);
    let recorder = Arc::new(Recorder::default());
    let start = |path: &Path| {
        Control::start(settings(&[path.to_owned()]), Arc::clone(&recorder) as Arc<dyn Publisher>).map(|_| ())
    };
    assert_eq!(start(&root.path().join("missing.yaml")).unwrap_err()[0].code, "unreadable-source");
    let bad = root.path().join("bad.yaml");
    fs::write(&bad, BAD).unwrap();
    assert!(start(&bad).unwrap_err().iter().any(|finding| finding.message.contains("hots")));
    recorder.refuse.store(true, Ordering::SeqCst);
    assert!(start(&path).unwrap_err().iter().any(|finding| finding.code == "listener-busy"));
    assert!(recorder.snapshots.lock().unwrap().is_empty());
    recorder.refuse.store(false, Ordering::SeqCst);
    assert!(start(&path).is_ok());
}
