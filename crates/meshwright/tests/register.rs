//! The registry from the command line: services, register with and without a program, drain, deregister, resolve.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::process::{Child, Command, Stdio};

use meshwright_testkit::{Config, Launch, Meshwright, Origin, Signal, binary, eventually, gateway_to};
use rustix::process::{Pid, kill_process};

fn gateway() -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_to("users")]);
    let process = Launch::run(binary!()).file(config.path()).start();
    (config, process)
}

/// The words of a command line, with the address of the process.
fn ask(process: &Meshwright, words: &[&str]) -> (i32, String, String) {
    Launch::command(binary!()).args(words).environment("MESHWRIGHT_ADMIN", &process.admin().to_string()).output()
}

/// A command that runs beside the test; ended with it.
struct Beside(Child);

impl Beside {
    fn start(process: &Meshwright, words: &[&str]) -> Self {
        let mut command = Command::new(binary!());
        command.args(words).env("MESHWRIGHT_ADMIN", process.admin().to_string());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap(), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        let mut code = None;
        eventually("it ends", || {
            code = self.0.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn instances(process: &Meshwright) -> usize {
    process.admin_get("/v1/services/users/instances").json()["instances"].as_array().map_or(0, Vec::len)
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_program_is_registered_once_it_answers_and_gone_when_it_is_told_to_stop() {
    let (_config, process) = gateway();
    let port = free_port().to_string();
    let listen = format!("127.0.0.1:{port}");
    let mut run = Beside::start(
        &process,
        &[
            "register",
            "users",
            "--port",
            &port,
            "--health",
            "/",
            "--service-version",
            "v2",
            "--drain-time",
            "50ms",
            "--tag",
            "canary",
            "--",
            binary!(),
            "echo",
            "--listen",
            &listen,
        ],
    );
    eventually("it is served", || process.get("example.com", "/").status == 200);
    let (code, table, _) = ask(&process, &["services", "users"]);
    assert_eq!(code, 0);
    assert!(table.contains(&listen) && table.contains("v2") && table.contains("canary"), "{table}");
    let (code, services, _) = ask(&process, &["services"]);
    assert_eq!((code, services.lines().count()), (0, 2), "{services}");
    assert_eq!(ask(&process, &["resolve", "users"]), (0, format!("{listen}\n"), String::new()));
    run.signal(Signal::TERM);
    assert_eq!(run.exit_code(), Some(0), "echo ends well, and that is the exit code");
    assert_eq!(instances(&process), 0);
    let (code, _, sentence) = ask(&process, &["resolve", "users"]);
    assert_eq!(code, 1);
    assert!(sentence.contains("no healthy instance of users"), "{sentence}");
}

#[test]
fn the_exit_code_of_a_program_is_passed_on_and_its_death_is_noticed() {
    let (_config, process) = gateway();
    let origin = Origin::named("a");
    let port = origin.address().port().to_string();
    let mut run =
        Beside::start(&process, &["register", "users", "--port", &port, "--", "sh", "-c", "read line; exit 7"]);
    assert_eq!(run.exit_code(), Some(7), "there is no input");
    let mut run = Beside::start(&process, &["register", "users", "--port", &port, "--", "sleep", "1000"]);
    eventually("it is registered", || instances(&process) == 1);
    run.signal(Signal::USR1);
    assert_eq!(run.exit_code(), Some(128 + 10), "the signal reached the program");
    assert_eq!(instances(&process), 0);
    let (code, _, sentence) = ask(&process, &["register", "users", "--port", &port, "--", "/does/not/exist"]);
    assert_eq!(code, 1);
    assert!(sentence.contains("cannot run /does/not/exist"), "{sentence}");
}

#[test]
fn an_instance_without_a_program_is_renewed_until_a_signal_and_a_static_one_stays() {
    let (_config, process) = gateway();
    let origin = Origin::named("a");
    let port = origin.address().port().to_string();
    let mut run = Beside::start(&process, &["register", "users", "--port", &port, "--ttl", "1s"]);
    eventually("it is served", || process.get("example.com", "/").status == 200);
    meshwright_testkit::pass(std::time::Duration::from_millis(1500));
    assert_eq!(instances(&process), 1, "it is renewed");
    run.signal(Signal::INT);
    assert_eq!(run.exit_code(), Some(0));
    assert_eq!(instances(&process), 0);
    let (code, ..) = ask(&process, &["register", "users", "--port", &port, "--id", "fixed", "--static"]);
    assert_eq!((code, instances(&process)), (0, 1));
    assert_eq!(ask(&process, &["drain", "users/fixed", "--reason", "night"]).0, 0);
    eventually("it gets no requests", || process.get("example.com", "/").status == 503);
    assert_eq!(ask(&process, &["drain", "users/fixed", "--undo"]).0, 0);
    eventually("it gets requests again", || process.get("example.com", "/").status == 200);
    assert_eq!(ask(&process, &["deregister", "users/fixed"]).0, 0);
    let (code, _, sentence) = ask(&process, &["deregister", "users/fixed"]);
    assert_eq!(code, 1);
    assert!(sentence.contains("there is no instance users/fixed"), "{sentence}");
}

#[test]
fn changes_are_shown_as_they_come_and_refusals_with_their_reason() {
    let (_config, process) = gateway();
    let mut command = Command::new(binary!());
    command.args(["services", "users", "-w"]).env("MESHWRIGHT_ADMIN", process.admin().to_string());
    let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().starts_with("ID "));
    assert_eq!(ask(&process, &["register", "users", "--port", "9", "--id", "x", "--static"]).0, 0);
    assert_eq!(lines.next().unwrap().unwrap(), "+ users.default/x 127.0.0.1:9 passing");
    assert_eq!(ask(&process, &["deregister", "users/x"]).0, 0);
    assert_eq!(lines.next().unwrap().unwrap(), "- users.default/x 127.0.0.1:9 deregistered");
    watch.kill().unwrap();
    watch.wait().unwrap();
    let (code, _, sentence) = ask(&process, &["register", "users", "--port", "9", "--weight", "0", "--static"]);
    assert_eq!(code, 1);
    assert!(sentence.contains("weight \"0\" is not allowed: it must be 1 to 65535"), "{sentence}");
}
