//! Flags of `simulate`.

use clap::{Args, Subcommand};

use crate::simulate::{Backends, CallLoad, Load, NamedBreaker, Policies, Script};

pub(super) const SIMULATE_EXAMPLES: &str = "\
Examples:
  meshwright simulate lb
  meshwright simulate lb --policy ROUND_ROBIN,LEAST_REQUEST,PEAK_EWMA,PREQUAL \\
      --backends '9xexp:20ms;concurrency=8,exp:200ms;concurrency=8' --load '1000/s;for=60s'
  meshwright simulate lb --policy LEAST_REQUEST,LEAST_REQUEST_OF_ALL --backends '50x5ms..15ms' --load '64 clients'
  meshwright simulate lb --policy MAGLEV,MAGLEV:131071,RING_HASH --backends 100x1ms --load '1000/s;keys=100000'
  meshwright simulate breaker
  meshwright simulate breaker --policy RESILIENCE4J --policy 'preset: HYSTRIX, timeout: 2s, timeoutGrowthPercent: 200' \\
      --script '20s,30s;fail=100%,1m' --load 50/s
  meshwright simulate breaker --policy 'slowCallDuration: 1s, slowCallPercent: 50, windowTime: 10s' \\
      --script '20s;delay=exp:50ms,20s;delay=1s..3s,40s;delay=exp:50ms' --load 'every 100ms'

A backend is [N x]DELAY[;concurrency=N][;weight=N][;fail=PERCENT], with a delay as `echo` takes it.
A load is RATE/s (a Poisson process) or `N clients` (each sends when it was answered), then
[;for=TIME][;proxies=N][;workers=N][;keys=N]. Workers of a proxy share what they know, proxies do not.
The first tenth of the time is left out of the numbers.

A policy of a breaker is a preset of ResiliencePolicy's circuitBreaker, or its fields as YAML. A script is
TIME[;fail=PERCENT][;delay=DELAY], several with commas between them; its load is RATE/s (random) or `every TIME`.";

/// Flags of `simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// What to simulate.
    #[command(subcommand)]
    pub command: SimulateCommand,
}

/// What can be simulated.
#[derive(Clone, Debug, Subcommand)]
pub enum SimulateCommand {
    /// Compare load balancers under a load
    Lb(SimulateLbArgs),
    /// Let calls that fail or are slow go through circuit breakers
    Breaker(SimulateBreakerArgs),
}

/// Flags of `simulate lb`.
#[derive(Clone, Debug, Args)]
pub struct SimulateLbArgs {
    /// Load balancers, as `proxy --lb` takes them, and RING_HASH[:SIZE] and MAGLEV[:SIZE]
    #[arg(
        long = "policy",
        value_name = "NAME,...",
        default_value = "ROUND_ROBIN,LEAST_REQUEST,PEAK_EWMA,PREQUAL",
        env = "MESHWRIGHT_POLICY"
    )]
    pub policies: Policies,

    /// Backends
    #[arg(
        long,
        value_name = "SPEC",
        default_value = "9xexp:20ms;concurrency=8,exp:200ms;concurrency=8",
        env = "MESHWRIGHT_BACKENDS"
    )]
    pub backends: Backends,

    /// Load
    #[arg(long, value_name = "SPEC", default_value = "1000/s;for=60s", env = "MESHWRIGHT_LOAD")]
    pub load: Load,

    /// Start of the random numbers: the same seed gives the same numbers
    #[arg(long, value_name = "N", default_value = "1", env = "MESHWRIGHT_SEED")]
    pub seed: u64,
}

/// Flags of `simulate breaker`.
#[derive(Clone, Debug, Args)]
pub struct SimulateBreakerArgs {
    /// Circuit breaker, may be repeated: GOBREAKER, HYSTRIX, RESILIENCE4J, SERVICE_NAME, or the fields of
    /// ResiliencePolicy's circuitBreaker [default: GOBREAKER, HYSTRIX, RESILIENCE4J]
    #[arg(long = "policy", value_name = "POLICY", env = "MESHWRIGHT_POLICY")]
    pub policies: Vec<NamedBreaker>,

    /// What becomes of calls, and for how long
    #[arg(
        long,
        value_name = "SPEC",
        default_value = "30s;delay=exp:20ms,20s;fail=100%,70s;delay=exp:20ms",
        env = "MESHWRIGHT_SCRIPT"
    )]
    pub script: Script,

    /// Calls: RATE/s at random, or `every TIME`
    #[arg(long, value_name = "SPEC", default_value = "20/s", env = "MESHWRIGHT_LOAD")]
    pub load: CallLoad,

    /// Start of the random numbers: the same seed gives the same calls
    #[arg(long, value_name = "N", default_value = "1", env = "MESHWRIGHT_SEED")]
    pub seed: u64,
}
