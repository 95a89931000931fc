//! The demo's load: a steady, bounded stream of requests through the gateway, and a count of what was answered by whom.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meshwright_message::{Method, RequestHead};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::client::Client;

/// Requests per second that one connection carries.
const PER_LANE: u32 = 25;

/// Answers since the last report: by the instance that gave them, and failures by status.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Held only while a number is added or the whole is taken.
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    answered: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
}

impl Tally {
    fn answered(&self, instance: String) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).answered.entry(instance).or_default() += 1;
    }

    fn failed(&self, reason: String) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).failed.entry(reason).or_default() += 1;
    }

    /// Takes the counts, in one line: how many requests, how many failed, who answered.
    pub fn report(&self) -> String {
        let counts = std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        let failures: u64 = counts.failed.values().sum();
        let total: u64 = counts.answered.values().sum::<u64>() + failures;
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join("  ")
        };
        let reasons = if failures == 0 { String::new() } else { format!(" ({})", list(&counts.failed)) };
        format!("{total} requests, {failures} failed{reasons}: {}", list(&counts.answered))
    }
}

/// Sends `rate` requests per second to the gateway until dropped or cancelled.
pub async fn run(gateway: SocketAddr, rate: u32, tally: Tally) {
    if rate == 0 {
        return std::future::pending().await;
    }
    let lanes = rate.div_ceil(PER_LANE);
    let period = Duration::from_secs(1) * lanes / rate;
    let mut running = JoinSet::new();
    for _ in 0..lanes {
        running.spawn(lane(gateway, period, tally.clone()));
    }
    while running.join_next().await.is_some() {}
}

async fn lane(gateway: SocketAddr, period: Duration, tally: Tally) {
    let mut client = Client::new(vec![gateway]);
    let mut rng = fastrand::Rng::new();
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match client.send(&request(gateway, &mut rng)).await {
            Ok(reply) if reply.status < 500 => tally.answered(instance(&reply.body)),
            Ok(reply) => tally.failed(reply.status.to_string()),
            Err(error) => {
                tracing::debug!("request failed: {error:#}");
                tally.failed("no answer".to_owned());
            }
        }
    }
}

/// Seven in ten ask for a user, one of them for version 2; the others for a post.
fn request(gateway: SocketAddr, rng: &mut fastrand::Rng) -> RequestHead {
    let mut head = RequestHead { method: Method::Get, authority: gateway.to_string(), ..RequestHead::default() };
    let kind = rng.u32(0..10);
    head.set_path(&format!("/{}/{}", if kind < 7 { "users" } else { "posts" }, rng.u32(1..100)));
    if kind == 0 {
        head.headers.push(b"version", b"v2");
    }
    head
}

/// The name in an echo answer.
fn instance(body: &[u8]) -> String {
    let name =
        serde_json::from_slice::<serde_json::Value>(body).ok().and_then(|seen| Some(seen["name"].as_str()?.to_owned()));
    name.unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_who_answered_and_starts_anew() {
        let tally = Tally::default();
        for name in ["a", "b", "a"] {
            tally.answered(name.to_owned());
        }
        tally.failed("503".to_owned());
        assert_eq!(tally.report(), "4 requests, 1 failed (503 1): a 2  b 1");
        assert_eq!(tally.report(), "0 requests, 0 failed: ");
    }

    #[test]
    fn the_load_asks_for_users_and_posts_and_sometimes_for_version_2() {
        let mut rng = fastrand::Rng::with_seed(1);
        let heads: Vec<_> = (0..1000).map(|_| request("127.0.0.1:1".parse().unwrap(), &mut rng)).collect();
        let posts = heads.iter().filter(|head| head.path().starts_with("/posts/")).count();
        let second = heads.iter().filter(|head| head.headers.get("version").is_some()).count();
        assert!((200..400).contains(&posts) && (50..150).contains(&second), "{posts} posts, {second} for version 2");
    }
}
