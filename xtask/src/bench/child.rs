//! Child processes of a measurement: pinned to a core, logged to a file, ended when their guard is dropped.
//!
//! A child is started through `xtask bench-exec`, which pins itself, asks the kernel to be ended together with its parent,
//! raises its limit of open files and then becomes the program: the process id is the program's own. It does not know
//! what the programs do.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a child may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// Arguments of the hidden `bench-exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArguments {
    /// Core to run on; any core when absent
    #[arg(long)]
    core: Option<usize>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
}

/// Pins this process, binds its life to its parent's, and becomes the program.
///
/// # Errors
/// When the core does not exist or the program cannot be started; on success it never returns.
pub(crate) fn become_program(arguments: &ExecArguments) -> Result<ExitCode> {
    if let Some(core) = arguments.core {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))?;
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).context("cannot follow the parent's end")?;
    raise_open_files()?;
    let [program, rest @ ..] = arguments.words.as_slice() else { bail!("no program given") };
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("cannot run {program}"))
}

/// Lifts the soft limit of open files to the hard one.
fn raise_open_files() -> Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
}

/// The first two cores this process may use: load and origin run on the first, the measured proxy on the second.
///
/// # Errors
/// When there are fewer than two.
pub(crate) fn two_cores() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(None).context("cannot read the allowed cores")?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    match (cores.next(), cores.next()) {
        (Some(load), Some(proxy)) => Ok((load, proxy)),
        _ => bail!("the benchmark needs two cores: one for the proxy, one for load and origin"),
    }
}

/// Where a child's output goes.
pub(crate) enum Output {
    /// Standard output and standard error are appended to this file.
    Log(PathBuf),
    /// Standard output is appended to the first file, standard error to the second.
    Split(PathBuf, PathBuf),
    /// Standard output is a pipe that the parent reads; standard error goes to the parent's.
    Pipe,
}

/// A running child. Dropping it ends it: SIGTERM, a short grace, SIGKILL.
pub(crate) struct Child {
    name: String,
    process: std::process::Child,
}

impl Child {
    /// Starts `words` on `core`.
    ///
    /// # Errors
    /// When this program cannot start itself or a log file cannot be opened. A program that cannot be run shows itself by
    /// ending at once: see [`Child::ended`].
    pub(crate) fn spawn(name: &str, words: &[String], core: Option<usize>, output: &Output) -> Result<Child> {
        let own = std::env::current_exe().context("cannot find the own program file")?;
        let mut command = Command::new(own);
        command.arg("bench-exec");
        if let Some(core) = core {
            command.args(["--core", &core.to_string()]);
        }
        command.arg("--").args(words).stdin(Stdio::null());
        match output {
            Output::Log(path) => {
                let file = append(path)?;
                command.stdout(file.try_clone()?).stderr(file);
            }
            Output::Split(out, err) => {
                command.stdout(append(out)?).stderr(append(err)?);
            }
            Output::Pipe => {
                command.stdout(Stdio::piped());
            }
        }
        let process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Child { name: name.to_owned(), process })
    }

    /// The process id, which is the program's own.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The pipe of [`Output::Pipe`], once.
    pub(crate) fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.process.stdout.take()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub(crate) fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.process.try_wait()
    }

    /// Waits for its own end, at most until `deadline`.
    ///
    /// # Errors
    /// When it runs beyond the deadline or ends with a failure.
    pub(crate) fn wait_until(&mut self, deadline: Instant) -> Result<()> {
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended with {status}", self.name),
                None if Instant::now() > deadline => bail!("{} did not end in time", self.name),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        // Only this child, by its id, and only while it is unreaped: the id cannot belong to anybody else.
        let _ = rustix::process::kill_process(Pid::from_child(&self.process), Signal::TERM);
        if self.wait_until(Instant::now() + GRACE).is_err() && matches!(self.process.try_wait(), Ok(None)) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

fn append(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("cannot open {}", path.display()))
}
