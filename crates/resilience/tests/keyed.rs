//! The last good value and coalesced calls: what is kept, who gets what, and what becomes of those who wait.

use std::future::{Future, pending};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use meshwright_resilience::{Coalesce, CoalesceLayer, Error, LastGood, LastGoodLayer, Policy, Retry};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};
use tower_layer::Layer;
use tower_service::Service;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_last_good_value_stands_in_until_it_is_too_old() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let ages = Arc::clone(&told);
    let kept = LastGood::new(SECOND * 10).on_stand_in(move |key, age| ages.lock().unwrap().push((*key, age)));
    assert_eq!(kept.call("a", async { Ok::<_, &str>(1) }).await, Ok(1));
    advance(SECOND * 9).await;
    assert_eq!(kept.call("a", async { Err("away") }).await, Ok(1));
    assert_eq!(kept.call("b", async { Err("away") }).await, Err("away"), "another key");
    assert_eq!(*told.lock().unwrap(), [("a", SECOND * 9)]);
    advance(SECOND).await;
    assert_eq!(kept.call("a", async { Err("away") }).await, Err("away"));
    assert_eq!(kept.usage(), (0, 0));
}

#[tokio::test]
async fn a_newer_word_takes_the_older_away() {
    let kept = LastGood::new(SECOND).keeping(|value| *value < 10);
    let good = |value| kept.call("a", async move { Ok::<_, &str>(value) });
    let fails = |error| kept.call_when("a", async move { Err(error) }, |error| *error == "away");
    assert_eq!((good(1).await, good(2).await), (Ok(1), Ok(2)));
    assert_eq!(fails("away").await, Ok(2));
    assert_eq!(good(99).await, Ok(99));
    assert_eq!(fails("away").await, Err("away"), "one that may not be kept is newer");
    good(3).await.unwrap();
    assert_eq!(fails("not found").await, Err("not found"));
    assert_eq!(fails("away").await, Err("away"), "an error that is an answer is newer");
    good(4).await.unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, kept.call("a", pending::<Result<u32, &str>>())).await.is_err());
    assert_eq!(fails("away").await, Ok(4), "a call that is dropped says nothing");
    kept.forget(&"a");
    assert_eq!(kept.find(&"a"), None);
}

#[tokio::test]
async fn the_least_recently_used_value_goes_and_bytes_are_bounded() {
    let kept = LastGood::new(SECOND).with_max_entries(2).with_max_bytes(10, String::len);
    for key in [1, 2, 1, 3] {
        kept.call(key, async { Ok::<_, ()>("four".to_owned()) }).await.unwrap();
    }
    assert_eq!([1, 2, 3].map(|key| kept.find(&key).is_some()), [true, false, true]);
    kept.call(1, async { Ok::<_, ()>("longer".to_owned()) }).await.unwrap();
    assert_eq!(kept.usage(), (2, 10));
    kept.call(1, async { Ok::<_, ()>("more than ten".to_owned()) }).await.unwrap();
    assert_eq!((kept.find(&1), kept.usage()), (None, (1, 4)));
}

/// Calls that are counted, and end when they are told to.
#[derive(Default)]
struct Calls {
    made: AtomicU32,
    end: Notify,
}

impl Calls {
    fn made(&self) -> u32 {
        self.made.load(Ordering::SeqCst)
    }

    async fn call(self: Arc<Self>) -> Result<u32, &'static str> {
        let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        self.end.notified().await;
        Ok(number)
    }
}

type Users = Coalesce<u32, Result<u32, &'static str>>;

fn spawn(users: &Users, calls: &Arc<Calls>) -> JoinHandle<Result<u32, &'static str>> {
    let (users, calls) = (users.clone(), Arc::clone(calls));
    tokio::spawn(async move { users.call(7, || calls.call()).await })
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_of_a_key_at_one_time_are_one() {
    let (users, calls) = (Users::new(), Arc::new(Calls::default()));
    let waiting: Vec<_> = (0..5).map(|_| spawn(&users, &calls)).collect();
    settle().await;
    assert_eq!((calls.made(), users.usage()), (1, (1, 4)));
    assert_eq!(users.call(8, || async { Err("another key") }).await, Err("another key"));
    calls.end.notify_one();
    for call in waiting {
        assert_eq!(call.await.unwrap(), Ok(1));
    }
    calls.end.notify_one();
    assert_eq!(spawn(&users, &calls).await.unwrap(), Ok(2), "nothing is kept");
    assert_eq!(users.usage(), (0, 0));
}

#[tokio::test]
async fn when_the_leader_is_cancelled_another_makes_the_call() {
    let (users, calls) = (Users::new(), Arc::new(Calls::default()));
    let leader = spawn(&users, &calls);
    settle().await;
    let waiting: Vec<_> = (0..3).map(|_| spawn(&users, &calls)).collect();
    settle().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    settle().await;
    assert_eq!((calls.made(), users.usage()), (2, (1, 2)));
    calls.end.notify_one();
    for call in waiting {
        assert_eq!(call.await.unwrap(), Ok(2));
    }
}

#[tokio::test]
async fn when_the_leader_panics_another_makes_the_call() {
    let (users, calls) = (Users::new(), Arc::new(Calls::default()));
    let leader = {
        let (users, calls) = (users.clone(), Arc::clone(&calls));
        tokio::spawn(async move {
            users
                .call(7, || async move {
                    calls.end.notified().await;
                    panic!("as the test wants it")
                })
                .await
        })
    };
    settle().await;
    let waiting = [spawn(&users, &calls), spawn(&users, &calls)];
    settle().await;
    calls.end.notify_one();
    assert!(leader.await.unwrap_err().is_panic());
    settle().await;
    calls.end.notify_one();
    for call in waiting {
        assert_eq!(call.await.unwrap(), Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_timeout_and_the_next_leads_anew() {
    let users = Users::new().with_timeout(SECOND * 5);
    let calls = Arc::new(Calls::default());
    let began = Instant::now();
    let leader = spawn(&users, &calls);
    settle().await;
    let waiting = {
        let users = users.clone();
        tokio::spawn(async move { users.call(7, || async { Ok(100) }).await })
    };
    assert_eq!(waiting.await.unwrap(), Ok(100));
    assert_eq!(began.elapsed(), SECOND * 5);
    assert_eq!(users.call(7, || async { Ok(200) }).await, Ok(200), "it does not wait for one that is late");
    calls.end.notify_one();
    assert_eq!(leader.await.unwrap(), Ok(1));
}

#[tokio::test]
async fn a_result_that_is_not_for_all_is_asked_for_by_each_at_once() {
    let (users, calls) = (Users::new(), Arc::new(Calls::default()));
    let spawn = || {
        let (users, calls) = (users.clone(), Arc::clone(&calls));
        tokio::spawn(async move { users.call_when(7, || calls.call(), |_| false).await })
    };
    let waiting = [spawn(), spawn(), spawn()];
    settle().await;
    calls.end.notify_one();
    settle().await;
    assert_eq!(calls.made(), 3);
    calls.end.notify_waiters();
    let mut ends = Vec::new();
    for call in waiting {
        ends.push(call.await.unwrap().unwrap());
    }
    ends.sort_unstable();
    assert_eq!(ends, [1, 2, 3]);
}

#[tokio::test]
async fn what_is_beyond_a_bound_is_called_alone_and_a_change_begins_anew() {
    let users = Users::new().with_max_keys(1).with_max_waiters(1);
    let calls = Arc::new(Calls::default());
    let waiting = [spawn(&users, &calls), spawn(&users, &calls)];
    settle().await;
    assert_eq!(users.call(7, || async { Ok(100) }).await, Ok(100));
    assert_eq!(users.call(8, || async { Ok(200) }).await, Ok(200));
    users.detach(&7);
    assert_eq!(users.call(7, || async { Ok(300) }).await, Ok(300), "what is under way is out of date");
    calls.end.notify_one();
    for call in waiting {
        assert_eq!(call.await.unwrap(), Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn both_go_around_a_policy() {
    let policy = Policy::<u32, &str>::new().with_retry(Retry::new(2)).with_timeout(SECOND);
    let (one, kept) = (Coalesce::new(), LastGood::new(SECOND * 60));
    let tries = AtomicU32::new(0);
    let ask = |up: bool| {
        let (policy, kept, tries) = (&policy, &kept, &tries);
        one.call(7, move || {
            kept.call(7, async move {
                policy
                    .call(|| async move {
                        tries.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        if up { Ok(1) } else { Err("away") }
                    })
                    .await
            })
        })
    };
    assert_eq!(tokio::join!(ask(true), ask(true)), (Ok(1), Ok(1)));
    assert_eq!(tries.swap(0, Ordering::SeqCst), 1);
    assert_eq!(tokio::join!(ask(false), ask(false)), (Ok(1), Ok(1)));
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    kept.forget(&7);
    assert_eq!(tokio::join!(ask(false), ask(false)), (Err(Error::Inner("away")), Err(Error::Inner("away"))));
}

/// Answers with the number of the call, one that is told to fail with an error.
#[derive(Clone, Default)]
struct Numbers(Arc<AtomicU32>);

impl Service<&'static str> for Numbers {
    type Response = u32;
    type Error = &'static str;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<u32, &'static str>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: &'static str) -> Self::Future {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            tokio::task::yield_now().await;
            if request.ends_with("fails") { Err("away") } else { Ok(number) }
        })
    }
}

/// What is before the dot; what has none is not shared.
fn key(request: &&'static str) -> Option<&'static str> {
    request.split_once('.').map(|(key, _)| key)
}

#[tokio::test]
async fn a_last_good_layer_answers_for_a_service_that_fails() {
    let layer = LastGoodLayer::new(LastGood::new(SECOND * 60), key).for_errors(|error: &&str| *error == "away");
    let mut service = layer.layer(Numbers::default());
    assert_eq!(service.call("a.works").await, Ok(1));
    assert_eq!(service.call("a.fails").await, Ok(1));
    assert_eq!(service.call("b.fails").await, Err("away"));
    assert_eq!((service.call("works").await, service.call("fails").await), (Ok(4), Err("away")));
}

#[tokio::test]
async fn a_coalesce_layer_sends_one_request_for_all() {
    let numbers = Numbers::default();
    let mut all = CoalesceLayer::new(Coalesce::new(), key).layer(numbers.clone());
    let (one, other) = (all.call("a.works"), all.call("a.too"));
    assert_eq!(tokio::join!(one, other), (Ok(1), Ok(1)));
    let (one, other) = (all.call("works"), all.call("works"));
    let (one, other) = tokio::join!(one, other);
    assert_ne!(one, other, "without a key each is sent");
    let mut some = CoalesceLayer::new(Coalesce::new(), key).sharing(Result::is_ok).layer(numbers.clone());
    let (one, other) = (some.call("a.fails"), some.call("a.works"));
    assert_eq!(tokio::join!(one, other), (Err("away"), Ok(5)));
}
