//! The binary under `strace`, which kills it or makes a system call fail, by the number of the call, and what is left then.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meshwright_catalog::OpenError;
use meshwright_testkit::{Launch, Meshwright, PATIENCE, Response, Signal};

/// `launch` under `strace` with these options.
pub fn traced(launch: Launch, options: &[&str]) -> Launch {
    // The tracer is no parent of what it traces, so that the process started here is the one that is under test.
    let mut all = vec!["-D", "-f"];
    all.extend(options);
    launch.under("strace", &all)
}

/// `strace` options that make `syscall` do `what` from its `when`-th time on the file `name` in `folder`, the one that is to take its
/// name, and the folder itself.
pub fn tampering((folder, name): (&Path, &str), syscall: &str, what: &str, when: &str) -> Vec<String> {
    let mut options = vec!["-o".to_owned(), "/dev/null".to_owned()];
    let files: [PathBuf; 3] = [folder.join(name), folder.join(format!("{name}.new")), folder.to_owned()];
    for file in files {
        options.extend(["-P".to_owned(), file.to_str().expect("a path of UTF-8").to_owned()]);
    }
    options.push(format!("--trace={syscall}"));
    options.push(format!("--inject={syscall}:{what}:when={when}"));
    options
}

/// What `open` gives once the process before has let go of it.
pub fn reopened<T>(open: impl Fn() -> Result<T, OpenError>) -> T {
    let end = Instant::now() + PATIENCE + Duration::from_secs(10);
    loop {
        match open() {
            Ok(opened) => return opened,
            // The tracer lets go of a process that was killed a moment later.
            Err(OpenError::InUse { .. }) if Instant::now() < end => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a process that may be killed at any moment was asked to keep.
pub struct Life<S> {
    acknowledged: S,
    under_way: S,
    /// It was killed before everything was done.
    pub killed: bool,
}

impl<S: Clone + Default + Debug + PartialEq> Life<S> {
    /// Does one deed after the other until the process is gone, and ends it when it is not. `apply` says what a deed makes of the
    /// state, `send` asks for it and gives no answer when the process is gone.
    pub fn of<D: Copy + Debug>(
        mut process: Meshwright,
        deeds: &[D],
        apply: impl Fn(D, &mut S),
        mut send: impl FnMut(D, &Meshwright) -> Option<Response>,
    ) -> Self {
        let mut life = Self { acknowledged: S::default(), under_way: S::default(), killed: false };
        for &deed in deeds {
            apply(deed, &mut life.under_way);
            let Some(answer) = send(deed, &process) else {
                life.killed = true;
                break;
            };
            assert!(answer.status == 200, "{deed:?}: {} {}", answer.status, answer.text());
            life.acknowledged = life.under_way.clone();
        }
        if !life.killed {
            process.signal(Signal::KILL);
        }
        process.wait_exit();
        life
    }

    /// Everything that was acknowledged is kept, and beyond it at most what was under way.
    pub fn check(&self, found: &S, what: &str) {
        let Self { acknowledged, under_way, .. } = self;
        let right = found == acknowledged || found == under_way;
        assert!(right, "{what}: {found:?} instead of {acknowledged:?} or {under_way:?}");
    }
}
