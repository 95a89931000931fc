//! What a choice with its circuit breaker and accounting costs, and what a breaker costs beside those of other crates.
//!
//! Without arguments it prints nanoseconds per request, the best of several rounds. `run CASE COUNT` does one case so often and
//! prints nothing: `cargo xtask instructions` counts instructions that way. Knows no network. Read next: `cases.rs`.

mod cases;

use std::time::{Duration, Instant};

use cases::CASES;

const ROUNDS: u32 = 300;
const COUNT: u64 = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => times(),
        ["list"] => CASES.iter().for_each(|case| println!("{}", case.name)),
        ["run", name, count] => {
            let case = CASES.iter().find(|case| case.name == name).expect("a case of that name");
            (case.run)(count.parse().expect("a number"));
        }
        _ => {
            eprintln!("usage: meshwright-bench [list | run CASE COUNT]");
            std::process::exit(2);
        }
    }
}

/// Rounds of all cases take turns, so that a busy moment of the machine does not fall on one of them. What a case does once, such
/// as to make a table, cancels out: twice the requests less the requests.
fn times() {
    let mut best = vec![[Duration::MAX; 2]; CASES.len()];
    for _ in 0..ROUNDS {
        for (case, best) in CASES.iter().zip(&mut best) {
            for (best, count) in best.iter_mut().zip([COUNT, 2 * COUNT]) {
                let began = Instant::now();
                (case.run)(count);
                *best = (*best).min(began.elapsed());
            }
        }
    }
    for (case, [once, twice]) in CASES.iter().zip(best) {
        println!("{:<44} {:>8.1} ns", case.name, twice.saturating_sub(once).as_nanos() as f64 / COUNT as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use failsafe::CircuitBreaker as _;
    use meshwright_traffic::{BreakerPolicy, CircuitBreaker, OpenTime, Outcome};

    const PAUSE: Duration = Duration::from_millis(1);

    fn fails() -> Result<(), ()> {
        Err(())
    }

    /// What one may look for in a breaker: while half-open it lets so many probes through, and not everybody at once. Two
    /// of the crates compared do not, so that their costs are not those of the same thing.
    #[test]
    fn only_ours_bounds_the_calls_that_a_half_open_breaker_lets_through() {
        let mut rng = fastrand::Rng::with_seed(1);
        let policy =
            BreakerPolicy { consecutive_failures: 1, open_time: OpenTime::fixed(PAUSE), ..BreakerPolicy::default() };
        let (ours, start) = (CircuitBreaker::new(policy), std::time::Instant::now());
        let permit = ours.try_acquire(start, &mut rng).permit.expect("it is closed");
        ours.record(permit, Outcome::Failure, start, &mut rng);
        let later = start + PAUSE;
        let probe = ours.try_acquire(later, &mut rng).permit;
        assert!(probe.is_ok() && ours.try_acquire(later, &mut rng).permit.is_err());

        let policy = failsafe::failure_policy::consecutive_failures(1, failsafe::backoff::constant(PAUSE));
        let failsafe = failsafe::Config::new().failure_policy(policy).build();
        let _ = failsafe.call(fails);
        let recloser =
            recloser::Recloser::custom().error_rate(0.5).closed_len(1).half_open_len(10).open_wait(PAUSE).build();
        (0..2).for_each(|_| _ = recloser.call(fails));
        assert!(failsafe.call(fails).is_err() && recloser.call(fails).is_err());
        std::thread::sleep(2 * PAUSE);
        // A call inside of a call: two probes are under way at once, and any number might be.
        let both = failsafe.call(|| failsafe.call(|| Ok::<_, ()>(1)).map_err(|_| ()));
        assert!(both.is_ok(), "failsafe");
        let both = recloser.call(|| recloser.call(|| Ok::<_, ()>(1)).map_err(|_| ()));
        assert!(both.is_ok(), "recloser");
    }
}
