//! The binary under `strace`, which kills it or makes a system call fail, by the number of the call.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meshwright_catalog::OpenError;
use meshwright_testkit::{Launch, PATIENCE};

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
