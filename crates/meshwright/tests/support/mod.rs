//! What the tests of the binary share: running it, and a client that shows every byte.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longest wait for anything in a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The binary under test, without any setting of the surrounding environment.
pub fn meshwright(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshwright"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("MESHWRIGHT_")) {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("NO_COLOR", "1").env("MESHWRIGHT_DATA", "none");
    command
}

/// Runs the binary to its end: exit code, standard output, standard error.
pub fn output(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// A running echo backend; ended when dropped.
pub struct Backend {
    pub child: Child,
    pub address: SocketAddr,
}

impl Backend {
    /// Starts `meshwright echo` on a free port.
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(meshwright(&["echo", "--listen", "127.0.0.1:0"]).args(arguments))
    }

    /// Starts `command` and waits for the line with its address.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("standard output is piped")).read_line(&mut line).expect("a line");
        let (_, address) = line.trim().split_once("://").expect("the address");
        Self { child, address: address.parse().expect("an address") }
    }

    /// A new connection.
    #[allow(clippy::disallowed_methods, reason = "a test has nothing to do but wait")]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the backend accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// One request on its own connection.
    pub fn get(&self, target: &str) -> Reply {
        exchange(&mut self.connect(), &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// Sends SIGTERM and waits for the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("the process is there");
        self.child.wait().expect("an exit status").code()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs curl to its end and hands out what it printed.
pub fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "20", "--noproxy", "*"]).args(arguments).output();
    let output = output.expect("curl is installed by `cargo xtask tools`");
    assert!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a Python script that has grpcio and websockets at hand; what it printed.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_meshwright"));
    let python = binary.ancestors().map(|folder| folder.join("python/bin/python3")).find(|python| python.exists());
    let python = python.expect("Python's packages are installed by `cargo xtask tools`");
    let output = Command::new(python).arg("-c").arg(script).args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// An answer as it came.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// Sends `request` and reads one answer with `Content-Length`, leaving the connection usable.
pub fn exchange(stream: &mut TcpStream, request: &str) -> Reply {
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut reply = read_head(stream);
    if !request.starts_with("HEAD ") {
        let mut body = vec![0; content_length(&reply.head)];
        stream.read_exact(&mut body).expect("the whole body");
        reply.body = body;
    }
    reply
}

/// Reads the head of an answer, no byte further.
pub fn read_head(stream: &mut TcpStream) -> Reply {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head of text");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Reply { status, head, body: Vec::new() }
}

/// The value of `Content-Length`; 0 when it is missing.
pub fn content_length(head: &str) -> usize {
    let field =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    field.map_or(0, |value| value.trim().parse().expect("a length"))
}

/// The command that runs a Python script with the installed packages at hand.
pub fn python_command(script: &str, arguments: &[&str]) -> Command {
    python_command_of("python", script, arguments)
}

/// The same with the packages of another environment: clients that have the same module name cannot share one.
pub fn python_command_of(environment: &str, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(installed(&format!("{environment}/bin/python3")));
    command.arg("-c").arg(script).args(arguments).stdin(Stdio::null());
    command
}

/// The command that runs a program of the installed packages: its path in the build directory.
pub fn installed_command(path: &str) -> Command {
    Command::new(installed(path))
}

/// The command that runs a script of Node.js with the installed packages at hand.
pub fn node_command(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.arg("-e").arg(script).args(arguments).env("NODE_PATH", installed("node/node_modules")).stdin(Stdio::null());
    command
}

/// A file that `cargo xtask tools` installed into the build directory.
fn installed(path: &str) -> std::path::PathBuf {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_meshwright"));
    let found = binary.ancestors().map(|folder| folder.join(path)).find(|candidate| candidate.exists());
    found.unwrap_or_else(|| panic!("{path} is installed by `cargo xtask tools`"))
}
