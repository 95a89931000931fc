//! A service that fails for a while, called through a whole policy: the breaker opens, the fallback answers, and when the
//! service is well again the breaker closes. Run it with `cargo run -p meshwright-resilience --example stack`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshwright_resilience::{
    BreakerPolicy, Bulkhead, CircuitBreaker, Error, Hedge, OpenTime, Policy, Rate, RateLimiter, Retry, Window,
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let well = Arc::new(AtomicBool::new(true));
    let breaker = Arc::new(
        CircuitBreaker::new(
            "user-service",
            BreakerPolicy {
                window: Window::Count(20),
                failure_percent: Some(50),
                minimum_calls: 5,
                open_time: OpenTime {
                    base: Duration::from_millis(100),
                    multiplier: 2.0,
                    max: Duration::from_secs(1),
                    jitter: 0.1,
                },
                ..BreakerPolicy::default()
            },
        )
        .on_state_change(|name, change| println!("        {name}: {change}")),
    );
    let retry = Retry::new(1).with_backoff(Duration::from_millis(5));
    let hedge = Hedge::after(Duration::from_millis(50), Arc::clone(retry.budget()));
    let policy = Policy::new()
        .with_fallback(|error: Error<&'static str>| async move { Ok(format!("a guest ({error})")) })
        .with_deadline(Duration::from_secs(2))
        .with_retry(retry)
        .with_hedge(hedge)
        .with_breaker(Arc::clone(&breaker))
        .with_timeout(Duration::from_millis(500))
        .with_rate_limiter(RateLimiter::new(Rate::per_second(1_000)))
        .with_bulkhead(Bulkhead::new(8).with_queue(16, Duration::from_millis(100)));

    for call in 1..=30 {
        well.store(!(5..15).contains(&call), Ordering::Relaxed);
        let answer = policy.call(|| user_name(Arc::clone(&well))).await;
        match answer {
            Ok(name) => println!("call {call:2}: {name}"),
            Err(error) => println!("call {call:2}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let view = breaker.view();
    println!("at the end it is {}; it opened {} times and refused {} calls", view.state, view.openings, view.refused);
}

async fn user_name(well: Arc<AtomicBool>) -> Result<String, &'static str> {
    tokio::time::sleep(Duration::from_millis(2)).await;
    if well.load(Ordering::Relaxed) { Ok("Ada".to_owned()) } else { Err("the service is ill") }
}
