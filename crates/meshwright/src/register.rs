//! `meshwright register`: an instance that is registered for as long as this command runs, with its program if it has one.
//!
//! Order: the program starts, answers, is registered, renewed; on SIGTERM or SIGINT it is drained, gets the signal, ends,
//! and is taken away. A registry that cannot be reached never ends the program: it is tried again with every renewal.

use std::io::{self, Write};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use meshwright_message::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{EXIT_OK, RegisterArgs};
use crate::remote::encoded;
use crate::services::{ask, path};

/// Pause between two looks whether the program answers.
const GLANCE: Duration = Duration::from_millis(50);
/// Time that one look may take.
const LOOK: Duration = Duration::from_secs(2);

/// Runs `meshwright register`.
///
/// # Errors
/// The program cannot be started, or the registry refuses a registration without a program.
pub fn run(args: RegisterArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.command.is_empty() {
            true => alone(&args).await,
            false => supervise(&args).await,
        }
    })
}

/// The instance's id, as the registry would make it too.
fn id(args: &RegisterArgs) -> String {
    args.id.clone().unwrap_or_else(|| format!("{}:{}", args.address, args.port))
}

async fn register(args: &RegisterArgs) -> anyhow::Result<()> {
    let lease = match args.is_static {
        true => json!({ "kind": "static" }),
        false => json!({ "kind": "heartbeat", "ttl": args.ttl.as_secs_f64() }),
    };
    let metadata: serde_json::Map<_, _> =
        args.metadata.iter().map(|label| (label.key.clone(), json!(label.value))).collect();
    let interval = args.interval.as_secs_f64();
    let checks = args.health.iter().map(|path| json!({ "http": path, "interval": interval })).collect::<Vec<_>>();
    let body = json!({
        "address": args.address, "port": args.port, "version": args.service_version, "weight": args.weight,
        "tags": args.tags, "metadata": metadata, "lease": lease, "checks": checks,
    });
    let target = path(&args.registry, &args.name, &format!("/{}", encoded(&id(args))));
    ask(&args.registry, (Method::Put, &target, &body.to_string())).await?.context("there is no registry")?;
    Ok(())
}

/// Renews, or registers again when the registry does not know the instance any more.
async fn renew(args: &RegisterArgs) -> anyhow::Result<()> {
    let target = path(&args.registry, &args.name, &format!("/{}/renew", encoded(&id(args))));
    match ask(&args.registry, (Method::Post, &target, "")).await? {
        Some(_) => Ok(()),
        None => register(args).await,
    }
}

async fn drain(args: &RegisterArgs) -> anyhow::Result<()> {
    let target = path(&args.registry, &args.name, &format!("/{}/status", encoded(&id(args))));
    let word = json!({ "status": "draining", "reason": "its program is stopping" }).to_string();
    ask(&args.registry, (Method::Put, &target, &word)).await.map(|_| ())
}

async fn deregister(args: &RegisterArgs) -> anyhow::Result<()> {
    let target = path(&args.registry, &args.name, &format!("/{}", encoded(&id(args))));
    ask(&args.registry, (Method::Delete, &target, "")).await.map(|_| ())
}

/// What went wrong without being the end of it, each sentence once in a row.
#[derive(Default)]
struct Complaints(Option<String>);

impl Complaints {
    fn take(&mut self, result: anyhow::Result<()>) {
        let sentence = result.err().map(|error| format!("{error:#}"));
        if let Some(sentence) = sentence.as_ref().filter(|sentence| self.0.as_ref() != Some(sentence)) {
            let _ = writeln!(io::stderr(), "warning: {sentence}; trying again");
        }
        self.0 = sentence;
    }
}

/// Renews for ever; a registration is the first renewal.
async fn keep(args: &RegisterArgs) {
    let mut complaints = Complaints::default();
    loop {
        complaints.take(renew(args).await);
        tokio::time::sleep(args.ttl / 3).await;
    }
}

/// Without a program: until a signal, or not at all when it is for good.
async fn alone(args: &RegisterArgs) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    register(args).await?;
    if !args.is_static {
        writeln!(io::stderr(), "registered {}/{}", args.name, id(args))?;
        tokio::select! {
            () = keep(args) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        deregister(args).await?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

/// With a program: as long as it runs.
async fn supervise(args: &RegisterArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let (program, arguments) = args.command.split_first().context("there is no program")?;
    let mut child = Command::new(program)
        .args(arguments)
        // Ctrl-C in a terminal reaches the whole group: the program gets it from here, after draining.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let life = async {
        answers(args).await;
        let _ = writeln!(io::stderr(), "{} answers; registering {}/{}", program.display(), args.name, id(args));
        keep(args).await;
    };
    tokio::pin!(life);
    let mut stopping = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            () = &mut life, if !stopping => {}
            caught = signals.next() => {
                if matches!(caught, Signal::TERM | Signal::INT) && !stopping {
                    stopping = true;
                    let mut complaints = Complaints::default();
                    complaints.take(drain(args).await);
                    // It may end by itself meanwhile, and a second signal is passed on at once.
                    tokio::select! {
                        () = tokio::time::sleep(args.drain_time) => {}
                        _ = child.wait() => {}
                        _ = signals.next() => {}
                    }
                }
                pass_on(&child, caught);
            }
        }
    };
    if let Err(error) = deregister(args).await {
        let _ = writeln!(
            io::stderr(),
            "warning: {}/{} stays registered until its lease ends: {error:#}",
            args.name,
            id(args)
        );
    }
    Ok(ExitCode::from(code(status)))
}

fn pass_on(child: &Child, caught: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It fails when the program has just ended, and then there is nobody to tell.
        let _ = kill_process(pid, caught);
    }
}

/// The program's exit code; 128 and the signal's number when one ended it, as shells say it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}

/// Waits until the instance answers: its health path with 2xx, or a connection.
async fn answers(args: &RegisterArgs) {
    loop {
        let look = async {
            let address = format!("{}:{}", args.address, args.port);
            match &args.health {
                None => tokio::net::TcpStream::connect(&address).await.is_ok(),
                Some(path) => is_well(&address, path).await.unwrap_or(false),
            }
        };
        if tokio::time::timeout(LOOK, look).await.unwrap_or(false) {
            return;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn is_well(address: &str, path: &str) -> anyhow::Result<bool> {
    let admin = crate::args::value::AdminAddress(address.to_owned());
    let answer = crate::remote::send(&admin, None, (Method::Get, path, "")).await?;
    Ok((200..300).contains(&answer.status))
}

/// The signals that are passed on.
struct Signals(Vec<(Signal, tokio::signal::unix::Signal)>);

impl Signals {
    fn new() -> io::Result<Self> {
        let all = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];
        let listen = |one: Signal| Ok((one, signal(SignalKind::from_raw(one.as_raw()))?));
        all.into_iter().map(listen).collect::<io::Result<_>>().map(Self)
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (name, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
