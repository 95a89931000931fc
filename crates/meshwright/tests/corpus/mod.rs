//! What the tests of the corpus share: the binary with its default limits in front of a recording origin, and what must
//! hold after any input.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::time::Duration;

use meshwright_testkit::corpus::{Case, Split, answers, requests};
use meshwright_testkit::{Judge, Launch, Meshwright, Recorder, binary, holds_within};

/// Connections that send at the same time.
const CONNECTIONS: usize = 12;

/// What a row may make the process grow by: buffers of that many connections, and spare memory of the allocator.
const GROWTH: u64 = 24 * 1024 * 1024;

/// A proxy, and an origin that records.
pub struct Setting {
    pub recorder: Recorder,
    pub process: Meshwright,
    rss: u64,
}

impl Setting {
    /// The binary with its default limits in front of a recording origin.
    pub fn new() -> Self {
        let recorder = Recorder::start();
        let process =
            Launch::proxy(binary!(), &[recorder.address()]).args(&["--workers", "1", "--log", "error"]).start();
        assert_eq!(process.get("x", "/first").status, 200);
        let rss = process.rss_bytes();
        Self { recorder, process, rss }
    }

    pub fn judge(&self) -> Judge {
        Judge::of(self.process.gateway())
    }

    /// What holds after any input; memory too.
    pub fn stays_unharmed(self) {
        let growth = self.process.rss_bytes().saturating_sub(self.rss);
        self.serves_on();
        assert!(growth <= GROWTH, "{growth} bytes more");
    }

    /// What holds after any input: nothing reached the origin that should not, and it serves.
    pub fn serves_on(mut self) {
        let tally = self.recorder.tally();
        assert!(tally.smuggled.is_empty(), "{:?}", tally.smuggled);
        assert!(tally.faults.is_empty(), "{:?}", tally.faults);
        assert_eq!(tally.kept, Vec::<String>::new(), "connections that went out of step are not used again");
        assert!(self.process.is_running());
        assert!(!self.process.stderr().contains("panic"), "{}", self.process.stderr());
        assert_eq!(self.process.get("x", "/still-here").status, 200);
    }
}

/// Shows what went wrong, when something did.
#[track_caller]
pub fn no_failures(failures: &[String]) {
    let shown: String = failures.iter().take(20).map(|failure| format!("\n{failure:.600}")).collect();
    assert!(failures.is_empty(), "{} inputs:{shown}", failures.len());
}

fn all_splits<'a>(cases: &[&'a Case]) -> Vec<(&'a Case, Split)> {
    cases.iter().flat_map(|case| case.splits().into_iter().map(|split| (*case, split))).collect()
}

/// Judges all cases that `wanted` selects in every split.
#[track_caller]
pub fn judge(wanted: impl Fn(&Case) -> bool) {
    let cases = requests();
    let cases: Vec<&Case> = cases.iter().filter(|case| wanted(case)).collect();
    assert!(!cases.is_empty(), "there are such cases");
    let setting = Setting::new();
    let (refused, others): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.is_refused_whole());
    let before = setting.recorder.tally();
    no_failures(&setting.judge().judge_all(&all_splits(&refused), CONNECTIONS));
    assert_eq!(setting.recorder.tally().bytes, before.bytes, "not one byte of what is refused reaches the origin");
    let inputs = all_splits(&others);
    no_failures(&setting.judge().judge_all(&inputs, CONNECTIONS));
    let most: usize = inputs.iter().map(|(case, _)| case.most_requests()).sum();
    let came = setting.recorder.tally().requests - before.requests;
    assert!(came <= most, "{came} requests reached the origin, {most} were sent");
    setting.stays_unharmed();
}

/// Judges all requests of a row in every split.
#[track_caller]
pub fn judge_row(row: &str) {
    judge(|case| case.row == row);
}

/// Judges all bad answers of a row in every split.
#[track_caller]
pub fn judge_answers(row: &str) {
    let setting = Setting::new();
    let judge = setting.judge();
    let mut failures = Vec::new();
    for (number, case) in answers().iter().enumerate().filter(|(_, case)| case.row == row) {
        for split in case.splits() {
            let answered = setting.recorder.tally().answered;
            if let Err(reason) = case.judge(&judge.ask(case, number, &split)) {
                failures.push(format!("{row} ({}), {split}: {reason}", case.name));
            }
            // All of it must have come before the next request: what comes with that could be its answer.
            holds_within(Duration::from_secs(2), || setting.recorder.tally().answered > answered);
        }
    }
    no_failures(&failures);
    setting.stays_unharmed();
}
