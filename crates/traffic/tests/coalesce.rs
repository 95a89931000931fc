//! Coalesced calls against a slow model: nobody who waits is lost, whatever becomes of those who lead.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use meshwright_traffic::{CoalesceBounds, Coalescer, Follower, Leader, Turn};
use proptest::prelude::*;

/// Says whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
fn start() -> Instant {
    Instant::now()
}

/// A call that was led, as the model has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    UnderWay,
    With(u32),
    WithNothing,
}

struct Waiting {
    follower: Follower<u8, u32>,
    /// The call that it waits for.
    of: usize,
    /// The flag of its last poll that was in vain.
    flag: Option<Arc<Flag>>,
}

fn poll(waiting: &mut Waiting) -> Poll<Option<u32>> {
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    let polled = Pin::new(&mut waiting.follower).poll(&mut Context::from_waker(&waker));
    waiting.flag = polled.is_pending().then_some(flag);
    polled
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Join(u8),
    Land(usize),
    Drop(usize),
    Poll(usize),
    Leave(usize),
    Detach(u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u8).prop_map(Step::Join),
        1 => any::<usize>().prop_map(Step::Land),
        1 => any::<usize>().prop_map(Step::Drop),
        3 => any::<usize>().prop_map(Step::Poll),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => (0..4_u8).prop_map(Step::Detach),
        1 => (0..4_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn whoever_waits_gets_what_its_leader_brings_or_is_released(
        keys in 0..4_usize, waiters in 0..6_u32, steps in prop::collection::vec(step(), 0..120),
    ) {
        let coalescer = Arc::new(Coalescer::new(CoalesceBounds { keys, waiters }));
        let mut now = start();
        let mut ended: Vec<Ended> = Vec::new();
        // By key: the call that is followed, and until when.
        let mut current: HashMap<u8, (usize, Instant)> = HashMap::new();
        let mut leaders: Vec<(usize, u8, Leader<u8, u32>)> = Vec::new();
        let mut waiting: Vec<Waiting> = Vec::new();
        for step in steps {
            match step {
                Step::Join(key) => {
                    let until = now + Duration::from_secs(5);
                    let followed = current.get(&key).copied();
                    match (coalescer.join(key, now, Some(until)), followed) {
                        (Turn::Follow(follower), Some((of, until))) if now < until => {
                            prop_assert!((waiting.len() as u32) < waiters);
                            prop_assert_eq!(follower.until(), Some(until));
                            waiting.push(Waiting { follower, of, flag: None });
                        }
                        (Turn::Lead(leader), followed) => {
                            prop_assert!(followed.is_none_or(|(_, until)| now >= until));
                            prop_assert!(followed.is_some() || current.len() < keys);
                            current.insert(key, (ended.len(), until));
                            leaders.push((ended.len(), key, leader));
                            ended.push(Ended::UnderWay);
                        }
                        (Turn::Alone, Some((_, until))) if now < until => {
                            prop_assert_eq!(waiting.len() as u32, waiters);
                        }
                        (Turn::Alone, None) => prop_assert_eq!(current.len(), keys),
                        (turn, followed) => prop_assert!(false, "{turn:?} where {followed:?} is followed"),
                    }
                }
                Step::Land(of) | Step::Drop(of) if !leaders.is_empty() => {
                    let (number, key, leader) = leaders.swap_remove(of % leaders.len());
                    if current.get(&key).is_some_and(|(of, _)| *of == number) {
                        current.remove(&key);
                    }
                    if matches!(step, Step::Land(_)) {
                        leader.land(number as u32);
                        ended[number] = Ended::With(number as u32);
                    } else {
                        drop(leader);
                        ended[number] = Ended::WithNothing;
                    }
                }
                Step::Poll(of) if !waiting.is_empty() => {
                    let at = of % waiting.len();
                    let polled = poll(&mut waiting[at]);
                    match ended[waiting[at].of] {
                        Ended::UnderWay => prop_assert_eq!(polled, Poll::Pending),
                        Ended::With(value) => prop_assert_eq!(polled, Poll::Ready(Some(value))),
                        Ended::WithNothing => prop_assert_eq!(polled, Poll::Ready(None)),
                    }
                    if polled.is_ready() {
                        waiting.swap_remove(at);
                    }
                }
                Step::Leave(of) if !waiting.is_empty() => {
                    waiting.swap_remove(of % waiting.len());
                }
                Step::Detach(key) => {
                    coalescer.detach(&key);
                    current.remove(&key);
                }
                Step::Pass(seconds) => now += Duration::from_secs(seconds),
                _ => {}
            }
            for one in &waiting {
                if let Some(flag) = &one.flag {
                    prop_assert_eq!(flag.0.load(Ordering::SeqCst), ended[one.of] != Ended::UnderWay);
                }
            }
            prop_assert_eq!(coalescer.usage(), (current.len(), waiting.len() as u32));
        }
        drop(leaders);
        for one in &mut waiting {
            prop_assert!(poll(one).is_ready(), "nobody leads, and somebody waits");
        }
        drop(waiting);
        prop_assert_eq!(coalescer.usage(), (0, 0));
    }
}
