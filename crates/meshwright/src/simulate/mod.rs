//! `meshwright simulate`: what load balancers and circuit breakers would do to a load, without any socket. Both are those of
//! the data plane, not copies; only time and endpoints are made up.
//!
//! For balancers `spec.rs` reads what to simulate, `engine.rs` lets it happen, `report.rs` prints what came of it; for
//! breakers `script.rs`, `breaker.rs` and `plot.rs` do. Read next: `engine.rs`.

mod breaker;
mod engine;
mod plot;
mod report;
mod script;
mod spec;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::args::{EXIT_OK, SimulateArgs, SimulateBreakerArgs, SimulateCommand, SimulateLbArgs};

pub use script::{CallLoad, NamedBreaker, Script};
pub use spec::{Backends, Load, Policies};

/// Runs `meshwright simulate`.
///
/// # Errors
/// The output cannot be written.
pub fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        SimulateCommand::Lb(args) => load_balancers(args, &mut io::stdout().lock())?,
        SimulateCommand::Breaker(args) => circuit_breakers(args, &mut io::stdout().lock())?,
    }
    Ok(ExitCode::from(EXIT_OK))
}

fn load_balancers(args: &SimulateLbArgs, out: &mut dyn Write) -> io::Result<()> {
    report::heading(&args.backends, &args.load, args.seed, out)?;
    let mut results = Vec::new();
    for policy in &args.policies.0 {
        let result = engine::run(policy, &args.backends, &args.load, args.seed);
        results.push((policy, result));
    }
    report::table(&results, out)?;
    report::shares(&results, &args.backends, out)?;
    let hashed =
        args.policies.0.iter().filter_map(|policy| Some((policy, engine::disruption(policy, &args.backends)?)));
    report::disruptions(&hashed.collect::<Vec<_>>(), out)
}

fn circuit_breakers(args: &SimulateBreakerArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    anyhow::ensure!(args.load.is_bounded(&args.script), "that would be more than {} calls", script::MOST_CALLS);
    writeln!(out, "script   {}\nload     {}\nseed     {}", args.script, args.load, args.seed)?;
    let presets = script::presets();
    for named in if args.policies.is_empty() { &presets } else { &args.policies } {
        let history = breaker::run(named, &args.script, args.load, args.seed);
        plot::breaker(named, &args.script, &history, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulate(policies: &str, backends: &str, load: &str) -> Vec<engine::Outcome> {
        let (policies, backends) = (policies.parse::<Policies>().unwrap(), backends.parse::<Backends>().unwrap());
        let load = load.parse::<Load>().unwrap();
        policies.0.iter().map(|policy| engine::run(policy, &backends, &load, 7)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let run = || simulate("PEAK_EWMA", "5xexp:20ms;concurrency=4", "300/s;for=10s")[0].quantiles();
        assert_eq!(run(), run());
    }

    #[test]
    fn latency_aware_policies_are_ahead_of_round_robin_when_one_endpoint_is_slow() {
        let backends = "9xexp:10ms;concurrency=8,exp:200ms;concurrency=8";
        let outcomes = simulate("ROUND_ROBIN,PEAK_EWMA,PREQUAL", backends, "1500/s;for=30s;proxies=4");
        let p99 = |outcome: &engine::Outcome| outcome.quantiles()[2];
        assert!(p99(&outcomes[1]) * 2 < p99(&outcomes[0]), "peak EWMA {:?} {:?}", p99(&outcomes[1]), p99(&outcomes[0]));
        assert!(p99(&outcomes[2]) * 2 < p99(&outcomes[0]), "Prequal {:?} {:?}", p99(&outcomes[2]), p99(&outcomes[0]));
    }

    #[test]
    fn two_choices_come_close_to_looking_at_everybody() {
        let outcomes =
            simulate("LEAST_REQUEST,LEAST_REQUEST_OF_ALL,RANDOM", "20xexp:10ms;concurrency=1", "1600/s;for=40s");
        let p99: Vec<f64> = outcomes.iter().map(|outcome| outcome.quantiles()[2].as_secs_f64()).collect();
        assert!(p99[0] < 1.5 * p99[1], "{p99:?}");
        assert!(p99[0] < 0.5 * p99[2], "{p99:?}");
    }

    #[test]
    fn without_load_the_latency_is_that_of_the_endpoint() {
        let outcome = &simulate("ROUND_ROBIN", "2x10ms", "50/s;for=20s")[0];
        assert_eq!(outcome.quantiles(), [std::time::Duration::from_millis(10); 4]);
        assert_eq!(outcome.errors, 0);
        assert!(outcome.requests.abs_diff(1_000) < 150);
    }

    #[test]
    fn a_single_queue_behaves_as_the_formula_says() {
        // M/M/1 with 80 arrivals and 100 services per second: the time in the system is exponential with mean 50 ms.
        let outcome = &simulate("RANDOM", "exp:10ms;concurrency=1", "80/s;for=3000s")[0];
        let p50 = outcome.quantiles()[0].as_secs_f64();
        assert!((p50 / (0.05 * 2f64.ln()) - 1.0).abs() < 0.1, "{p50}");
    }

    #[test]
    fn few_keys_move_when_one_of_a_hundred_leaves() {
        let backends = "100x1ms".parse::<Backends>().unwrap();
        // Envoy's table size, which is the default, has 655 slots for each backend and moves a little more.
        for (policy, most) in [("MAGLEV:131071", 1.5), ("RING_HASH", 1.0), ("MAGLEV", 1.65)] {
            let disruption = engine::disruption(&policy.parse::<Policies>().unwrap().0[0], &backends).unwrap();
            assert!(disruption.moved <= most * disruption.ideal, "{policy} {disruption:?}");
        }
        assert!(engine::disruption(&"RANDOM".parse::<Policies>().unwrap().0[0], &backends).is_none());
    }
}
