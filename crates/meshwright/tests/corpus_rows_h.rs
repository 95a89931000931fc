//! Rows of the corpus about what the control plane reads: files that are hostile, broken or half there (row H8).

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use meshwright_testkit::{Launch, Meshwright, Signal, binary, eventually, gateway_routes};

/// Routes that answer with `text`.
fn saying(text: &str) -> String {
    gateway_routes(&format!("- directResponse: {{status: 200, body: {{string: {text}}}}}"))
}

/// A document of its own with this specification.
fn routes(spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: odd}}\nspec: {spec}\n")
}

fn alias_bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    text
}

/// What is wrong, and the text.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let good = saying("half");
    let cut = good.rfind("status").unwrap();
    let text = |text: String| text.into_bytes();
    vec![
        ("an alias bomb", text(alias_bomb())),
        ("10,000 levels in brackets", text(format!("a: {}", "[".repeat(10_000)))),
        ("10,000 levels of lists", text(format!("a:\n  {}x\n", "- ".repeat(10_000)))),
        ("a key given twice", text(routes("{hosts: [a], hosts: [b], http: []}"))),
        ("an unknown key", text(routes("{hosts: [a], http: [{rute: []}]}"))),
        (
            "a number that is too large",
            text(routes("{hosts: [a], http: [{route: [{destination: {host: a}, weight: 99999999999999999999999}]}]}")),
        ),
        (
            "a port that is none",
            text(routes("{hosts: [a], http: [{route: [{destination: {host: a, port: {number: 4294967376}}}]}]}")),
        ),
        ("a program", [&b"\x7fELF\x02\x01\x01\0\0\0"[..], &[0xff; 4096]].concat()),
        ("broken text", b"apiVersion: \xff\xfe\xfd\n".to_vec()),
        ("the first half of a good file", text(good[..cut].to_owned())),
    ]
}

fn put(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).unwrap();
    fs::rename(&beside, path).unwrap();
}

fn failures(process: &Meshwright) -> f64 {
    process.metrics().value("meshwright_config_reload_failures_total")
}

/// Findings of the log with a line and a column.
fn findings(process: &Meshwright) -> usize {
    let log = process.stderr();
    let places = log.split("mesh.yaml:").skip(1).filter(|rest| {
        let mut parts = rest.splitn(3, ':');
        let number = |part: Option<&str>| part.is_some_and(|part| part.trim().parse::<usize>().is_ok());
        number(parts.next()) && number(parts.next())
    });
    places.count()
}

/// Has the process read its files now, and waits until it has refused them with a place.
fn is_refused(process: &Meshwright, what: &str, put: impl FnOnce()) {
    let (refused, found) = (failures(process), findings(process));
    put();
    process.signal(Signal::HUP);
    eventually(&format!("{what} is refused"), || failures(process) > refused);
    eventually(&format!("{what} has a line and a column"), || findings(process) > found);
    assert_eq!(process.get("x", "/").text(), "good", "{what}: the last good configuration serves");
    assert_eq!(process.admin_get("/ready").status, 200, "{what}");
}

#[test]
fn row_h8_files_that_are_hostile_are_refused_with_their_place_and_the_last_good_one_serves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.yaml");
    put(&path, saying("good").as_bytes());
    let process = Launch::run(binary!()).file(&path).args(&["--no-watch"]).start();
    eventually("it serves", || process.get("x", "/").text() == "good");
    for (what, bytes) in hostile() {
        is_refused(&process, what, || put(&path, &bytes));
    }
    put(&path, saying("better").as_bytes());
    process.signal(Signal::HUP);
    eventually("a good one is taken over", || process.get("x", "/").text() == "better");
    assert!(process.rss_bytes() < 200 << 20, "{} bytes", process.rss_bytes());
}

#[test]
fn row_h8_a_hostile_file_beside_a_good_one_and_behind_a_link_that_is_swapped_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let version = |name: &str, bytes: &[u8]| {
        fs::create_dir(directory.path().join(name)).unwrap();
        fs::write(directory.path().join(name).join("mesh.yaml"), bytes).unwrap();
    };
    let swap = |name: &str| {
        let beside = directory.path().join("..data_new");
        symlink(name, &beside).unwrap();
        fs::rename(&beside, directory.path().join("..data")).unwrap();
    };
    version("good", saying("good").as_bytes());
    version("bomb", alias_bomb().as_bytes());
    let both = format!("{}---\n{}", saying("half of it"), routes("{hosts: [a], http: [{rute: []}]}"));
    version("half", both.as_bytes());
    version("better", saying("better").as_bytes());
    swap("good");
    let path = directory.path().join("mesh.yaml");
    symlink("..data/mesh.yaml", &path).unwrap();
    let process = Launch::run(binary!()).file(&path).args(&["--no-watch"]).start();
    eventually("it serves", || process.get("x", "/").text() == "good");
    is_refused(&process, "a bomb behind a link", || swap("bomb"));
    is_refused(&process, "a file of which half is good", || swap("half"));
    swap("better");
    process.signal(Signal::HUP);
    eventually("a good one is taken over", || process.get("x", "/").text() == "better");
}
