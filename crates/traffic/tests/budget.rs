//! Retry budgets: how many retries a failure of everything may cause.

use std::time::{Duration, Instant};

use meshwright_traffic::{ActiveBudget, BudgetPolicy, RetryBudget};
use proptest::prelude::*;

#[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn a_share_of_what_is_in_flight_may_be_retries_and_a_few_always() {
    let budget = ActiveBudget::default();
    let expected = [(0, 3), (10, 3), (15, 3), (20, 4), (100, 20), (u32::MAX, u32::MAX / 5)];
    for (active, retries) in expected {
        assert_eq!(budget.retries(active), retries, "{active} in flight");
    }
    assert_eq!(ActiveBudget { percent: u32::MAX, min_concurrency: 0 }.retries(u32::MAX), u32::MAX);
}

#[test]
fn a_fifth_of_the_requests_may_be_sent_again_when_everything_fails() {
    let mut now = start();
    let budget = RetryBudget::new(BudgetPolicy { min_per_second: 0, ..BudgetPolicy::default() }, now);
    let mut retries = 0;
    for _ in 0..100_000 {
        now += Duration::from_millis(1);
        budget.deposit(now);
        for _ in 0..3 {
            retries += u32::from(budget.try_withdraw(now));
        }
    }
    assert!((19_900..=20_000).contains(&retries), "{retries}");
}

#[test]
fn those_who_send_little_may_still_retry() {
    let mut now = start();
    let budget = RetryBudget::new(BudgetPolicy::default(), now);
    let at_once = (0..1_000).filter(|_| budget.try_withdraw(now)).count();
    assert_eq!(at_once, 100, "ten a second for ten seconds");
    now += Duration::from_secs(10);
    assert!(budget.try_withdraw(now));
}

#[test]
fn deposits_expire() {
    let mut now = start();
    let budget = RetryBudget::new(BudgetPolicy { min_per_second: 0, ..BudgetPolicy::default() }, now);
    (0..50).for_each(|_| budget.deposit(now));
    now += Duration::from_secs(9);
    assert!(budget.try_withdraw(now));
    now += Duration::from_secs(1);
    assert!(!budget.try_withdraw(now));
}

proptest! {
    /// A list of deposits and withdrawals, summed anew each time.
    #[test]
    fn the_budget_is_that_of_a_list(
        percent in 0..150u32,
        min_per_second in 0..3u32,
        steps in prop::collection::vec((0..4_000u64, any::<bool>()), 1..200),
    ) {
        let first = start();
        let mut now = first;
        let policy = BudgetPolicy { percent, min_per_second, ttl: Duration::from_secs(10) };
        let budget = RetryBudget::new(policy, now);
        let mut list: Vec<(u64, i64)> = Vec::new();
        for (wait, is_deposit) in steps {
            now += Duration::from_millis(wait);
            let part = (now - first).as_secs();
            if is_deposit {
                budget.deposit(now);
                list.push((part, i64::from(percent)));
                continue;
            }
            let sum: i64 = list.iter().filter(|(at, _)| at + 10 > part).map(|(_, amount)| amount).sum();
            let enough = sum + i64::from(min_per_second) * 1_000 >= 100;
            prop_assert_eq!(budget.try_withdraw(now), enough);
            if enough {
                list.push((part, -100));
            }
        }
    }
}
