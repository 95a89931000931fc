//! How many retries there may be, so that retries never are the load that kills: a share of what is in flight (Envoy's
//! `retry_budget`), and a share of the recent requests (Finagle's `RetryBudget`). Knows no clock. Read next: `backoff.rs`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Retries in flight may be this share of all requests in flight. Envoy's `CircuitBreakers.Thresholds.RetryBudget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveBudget {
    /// Share of the requests in flight, retries and those that wait included. Default 20 percent.
    pub percent: u32,
    /// So many may always be in flight. Default 3.
    pub min_concurrency: u32,
}

impl Default for ActiveBudget {
    fn default() -> Self {
        Self { percent: 20, min_concurrency: 3 }
    }
}

impl ActiveBudget {
    /// Retries that may be in flight while `active` requests are.
    pub fn retries(&self, active: u32) -> u32 {
        let share = u64::from(active) * u64::from(self.percent) / 100;
        u32::try_from(share).unwrap_or(u32::MAX).max(self.min_concurrency)
    }
}

/// What a [`RetryBudget`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// Retries per hundred requests. Default 20.
    pub percent: u32,
    /// Retries per second beyond that, for those who send little. Default 10.
    pub min_per_second: u32,
    /// How long a request pays for a retry; 1 s to 60 s. Default 10 s.
    pub ttl: Duration,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 10, ttl: Duration::from_secs(10) }
    }
}

/// Parts of the time that a deposit lives.
const PARTS: usize = 10;

/// What a retry costs; a request deposits the percentage.
const COST: i64 = 100;

/// Finagle's retry budget: every request deposits a part of a retry, every retry takes a whole one, deposits expire.
/// Shared by threads; asking takes a lock for some tens of nanoseconds.
#[derive(Debug)]
pub struct RetryBudget {
    policy: BudgetPolicy,
    /// Held for one deposit or withdrawal.
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    /// Deposits less withdrawals, by part of the time; `part` is the present one.
    parts: [i64; PARTS],
    part: u128,
    start: Instant,
}

impl RetryBudget {
    /// A budget with nothing deposited.
    pub fn new(policy: BudgetPolicy, now: Instant) -> Self {
        let ttl = policy.ttl.clamp(Duration::from_secs(1), Duration::from_secs(60));
        let account = Account { parts: [0; PARTS], part: 0, start: now };
        Self { policy: BudgetPolicy { ttl, ..policy }, account: Mutex::new(account) }
    }

    /// Counts a request, not a retry of one.
    pub fn deposit(&self, now: Instant) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        *account.present(now, self.policy.ttl) += i64::from(self.policy.percent);
    }

    /// Pays for a retry, or says that there is not enough.
    pub fn try_withdraw(&self, now: Instant) -> bool {
        let reserve = i64::from(self.policy.min_per_second) * self.policy.ttl.as_secs() as i64 * COST;
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let present = account.present(now, self.policy.ttl);
        let taken = *present - COST;
        let old = std::mem::replace(present, taken);
        if account.parts.iter().sum::<i64>() + reserve >= 0 {
            return true;
        }
        *account.present(now, self.policy.ttl) = old;
        false
    }
}

impl Account {
    fn present(&mut self, now: Instant, ttl: Duration) -> &mut i64 {
        let width = (ttl / PARTS as u32).as_nanos();
        let at = (now.saturating_duration_since(self.start).as_nanos() / width).max(self.part);
        for step in (self.part + 1)..=at.min(self.part + PARTS as u128) {
            self.parts[(step % PARTS as u128) as usize] = 0;
        }
        self.part = at;
        &mut self.parts[(at % PARTS as u128) as usize]
    }
}
