//! Ejection: when, for how long, and who may not be.

use std::time::{Duration, Instant};

use meshwright_traffic::{
    EjectionCause, EjectionKind, EjectionRefusal, Enforcing, FailurePercentagePolicy, Host, HostSet, Observation,
    OutlierDetector, OutlierEvent, OutlierPolicy, SuccessRatePolicy,
};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn dice() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

#[allow(clippy::disallowed_methods, reason = "the start of simulated time")]
fn start() -> Instant {
    Instant::now()
}

fn set(count: usize) -> HostSet {
    HostSet::new((0..count).map(|_| Host::new(1)).collect(), 0)
}

fn repeat(
    detector: &OutlierDetector,
    hosts: &HostSet,
    index: usize,
    observations: &[Observation],
    now: Instant,
) -> Vec<OutlierEvent> {
    observations
        .iter()
        .filter_map(|&observation| detector.observe(hosts, index, observation, now, &mut dice()))
        .collect()
}

#[test]
fn the_nth_error_in_a_row_ejects_at_once() {
    let (hosts, detector, now) = (set(10), OutlierDetector::new(OutlierPolicy::default()), start());
    let error = Observation::Status(500);
    assert_eq!(repeat(&detector, &hosts, 3, &[error; 4], now), []);
    assert!(hosts.hosts()[3].is_available());
    let cause = EjectionCause::Consecutive5xx(5);
    let expected = OutlierEvent::Ejected { index: 3, duration: 30 * SECOND, cause };
    assert_eq!(detector.observe(&hosts, 3, error, now, &mut dice()), Some(expected));
    assert!(!hosts.hosts()[3].is_available());
    assert_eq!(hosts.healthy(), 9);
    assert_eq!(cause.to_string(), "5 server errors in a row");
}

#[test]
fn a_success_starts_the_count_again_and_a_4xx_is_one() {
    let (hosts, detector, now) = (set(10), OutlierDetector::new(OutlierPolicy::default()), start());
    for success in [Observation::Success, Observation::Status(200), Observation::Status(404), Observation::Status(499)]
    {
        assert_eq!(repeat(&detector, &hosts, 0, &[Observation::Status(503); 4], now), []);
        assert_eq!(hosts.hosts()[0].verdict.consecutive_5xx(), 4);
        assert_eq!(detector.observe(&hosts, 0, success, now, &mut dice()), None);
        assert_eq!(hosts.hosts()[0].verdict.consecutive_5xx(), 0);
    }
}

#[test]
fn local_failures_count_as_server_and_gateway_errors_unless_they_are_split() {
    let policy = OutlierPolicy { consecutive_gateway_errors: 3, ..OutlierPolicy::default() };
    let (hosts, detector, now) = (set(10), OutlierDetector::new(policy), start());
    let mixed = [Observation::LocalOrigin, Observation::Status(504), Observation::LocalOrigin];
    let events = repeat(&detector, &hosts, 0, &mixed, now);
    let cause = EjectionCause::ConsecutiveGatewayErrors(3);
    assert_eq!(events, [OutlierEvent::Ejected { index: 0, duration: 30 * SECOND, cause }]);
}

#[test]
fn a_500_breaks_a_row_of_gateway_errors() {
    let policy = OutlierPolicy { consecutive_5xx: 0, consecutive_gateway_errors: 3, ..OutlierPolicy::default() };
    let (hosts, detector, now) = (set(10), OutlierDetector::new(policy), start());
    let (bad, worse) = (Observation::Status(502), Observation::Status(500));
    assert_eq!(repeat(&detector, &hosts, 0, &[bad, bad, worse, bad, bad], now), []);
    assert_eq!(repeat(&detector, &hosts, 0, &[bad], now).len(), 1);
}

#[test]
fn split_local_failures_have_a_row_of_their_own() {
    let policy = OutlierPolicy {
        consecutive_5xx: 3,
        split_local_origin: true,
        consecutive_local_origin_failures: 2,
        ..OutlierPolicy::default()
    };
    let (hosts, detector, now) = (set(10), OutlierDetector::new(policy), start());
    let (local, error) = (Observation::LocalOrigin, Observation::Status(500));
    assert_eq!(repeat(&detector, &hosts, 0, &[local, error, local, error], now), [], "an answer breaks the local row");
    let cause = EjectionCause::ConsecutiveLocalOriginFailures(2);
    let events = repeat(&detector, &hosts, 0, &[local, local], now);
    assert_eq!(events, [OutlierEvent::Ejected { index: 0, duration: 30 * SECOND, cause }]);
}

#[test]
fn a_threshold_of_zero_is_off() {
    let policy = OutlierPolicy { consecutive_5xx: 0, ..OutlierPolicy::default() };
    let (hosts, detector, now) = (set(2), OutlierDetector::new(policy), start());
    assert_eq!(repeat(&detector, &hosts, 0, &[Observation::Status(500); 100], now), []);
    assert_eq!(repeat(&detector, &hosts, 0, &[Observation::LocalOrigin; 100], now), []);
}

#[test]
fn one_host_may_always_be_ejected_and_every_refusal_is_said() {
    let (hosts, detector, now) = (set(3), OutlierDetector::new(OutlierPolicy::default()), start());
    let errors = [Observation::Status(500); 5];
    assert_eq!(repeat(&detector, &hosts, 0, &errors, now).len(), 1);
    let cause = EjectionCause::Consecutive5xx(5);
    let reason = EjectionRefusal::MaxEjectionPercent { ejected: 1, hosts: 3, percent: 10 };
    let refused = OutlierEvent::Refused { index: 1, cause, reason };
    assert_eq!(repeat(&detector, &hosts, 1, &errors, now), [refused]);
    assert_eq!(repeat(&detector, &hosts, 1, &errors, now), [refused], "the count starts again");
    assert!(hosts.hosts()[1].is_available());
    assert_eq!(reason.to_string(), "1 of 3 hosts are ejected, one more would exceed maxEjectionPercent 10");
}

#[test]
fn an_ejection_ends_with_the_first_sweep_after_its_time() {
    let (hosts, detector, now) = (set(1), OutlierDetector::new(OutlierPolicy::default()), start());
    repeat(&detector, &hosts, 0, &[Observation::Status(500); 5], now);
    assert_eq!(hosts.hosts()[0].verdict.ejected_since(), Some(now));
    assert_eq!(detector.sweep(&hosts, now + 29 * SECOND, &mut dice()), []);
    assert_eq!(detector.sweep(&hosts, now + 30 * SECOND, &mut dice()), [OutlierEvent::Returned { index: 0 }]);
    assert!(hosts.hosts()[0].is_available());
    assert_eq!(hosts.hosts()[0].verdict.ejected_since(), None);
    assert_eq!(detector.sweep(&hosts, now + 31 * SECOND, &mut dice()), []);
}

#[test]
fn ejections_in_a_row_take_longer_up_to_the_cap_and_healthy_intervals_forgive() {
    let (hosts, detector) = (set(1), OutlierDetector::new(OutlierPolicy::default()));
    let mut now = start();
    let mut durations = Vec::new();
    for _ in 0..13 {
        let events = repeat(&detector, &hosts, 0, &[Observation::Status(500); 5], now);
        let [OutlierEvent::Ejected { duration, .. }] = events[..] else { panic!("one ejection: {events:?}") };
        durations.push(duration.as_secs());
        now += duration;
        assert_eq!(detector.sweep(&hosts, now, &mut dice()), [OutlierEvent::Returned { index: 0 }]);
    }
    assert_eq!(durations, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 300]);
    for _ in 0..8 {
        now += 10 * SECOND;
        detector.sweep(&hosts, now, &mut dice());
    }
    let events = repeat(&detector, &hosts, 0, &[Observation::Status(500); 5], now);
    assert!(matches!(events[..], [OutlierEvent::Ejected { duration, .. }] if duration == 90 * SECOND), "{events:?}");
    assert_eq!(hosts.hosts()[0].verdict.total_ejections(), 14);
}

#[test]
fn a_base_time_above_the_cap_is_the_cap() {
    let policy = OutlierPolicy { base_ejection_time: 600 * SECOND, consecutive_5xx: 1, ..OutlierPolicy::default() };
    let (hosts, detector, now) = (set(1), OutlierDetector::new(policy), start());
    for round in 0..3 {
        let now = now + round * 1_000 * SECOND;
        let event = detector.observe(&hosts, 0, Observation::LocalOrigin, now, &mut dice());
        assert!(matches!(event, Some(OutlierEvent::Ejected { duration, .. }) if duration == 600 * SECOND));
        detector.sweep(&hosts, now + 600 * SECOND, &mut dice());
    }
}

#[test]
fn an_operator_takes_a_host_in_again_and_it_starts_fresh() {
    let (hosts, detector, now) = (set(1), OutlierDetector::new(OutlierPolicy::default()), start());
    assert_eq!(detector.ejections().uneject(&hosts, 0), None);
    assert_eq!(detector.ejections().uneject(&hosts, 9), None);
    repeat(&detector, &hosts, 0, &[Observation::Status(500); 5], now);
    assert_eq!(detector.ejections().uneject(&hosts, 0), Some(OutlierEvent::Returned { index: 0 }));
    assert!(hosts.hosts()[0].is_available());
    assert_eq!(hosts.hosts()[0].verdict.multiplier(), 0);
    assert_eq!(repeat(&detector, &hosts, 0, &[Observation::Status(500); 4], now), []);
}

#[test]
fn a_new_policy_takes_over_the_verdicts_with_its_own_times() {
    let (hosts, now) = (set(1), start());
    let before = OutlierDetector::new(OutlierPolicy::default());
    repeat(&before, &hosts, 0, &[Observation::Status(500); 5], now);
    let after = OutlierDetector::new(OutlierPolicy { base_ejection_time: 5 * SECOND, ..OutlierPolicy::default() });
    assert_eq!(after.sweep(&hosts, now + 5 * SECOND, &mut dice()), [OutlierEvent::Returned { index: 0 }]);
}

#[test]
fn workers_that_report_at_once_eject_once_and_stay_within_the_percentage() {
    let policy = OutlierPolicy { max_ejection_percent: 50, ..OutlierPolicy::default() };
    let (hosts, detector, now) = (set(8), OutlierDetector::new(policy), start());
    let ejections = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in (0..hosts.hosts().len()).cycle().take(800) {
                    let event = detector.observe(&hosts, index, Observation::Status(500), now, &mut dice());
                    if matches!(event, Some(OutlierEvent::Ejected { .. })) {
                        ejections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(hosts.healthy(), 4);
    assert_eq!(ejections.into_inner(), 4);
}

/// Reports so many tries of each host, of which so many failed.
fn interval(detector: &OutlierDetector, hosts: &HostSet, tries: &[(u32, u32)], failure: Observation, now: Instant) {
    for (index, (total, failed)) in tries.iter().enumerate() {
        for number in 0..*total {
            let observation = if number < *failed { failure } else { Observation::Success };
            assert_eq!(detector.observe(hosts, index, observation, now, &mut dice()), None);
        }
    }
}

fn comparing() -> OutlierPolicy {
    OutlierPolicy {
        consecutive_5xx: 0,
        success_rate: Some(SuccessRatePolicy::default()),
        max_ejection_percent: 50,
        ..OutlierPolicy::default()
    }
}

#[test]
fn a_host_that_succeeds_much_less_often_than_the_others_is_ejected_at_the_end_of_the_interval() {
    let (hosts, detector, now) = (set(6), OutlierDetector::new(comparing()), start());
    let tries = [(100, 1), (100, 2), (100, 1), (100, 30), (100, 0), (99, 99)];
    interval(&detector, &hosts, &tries, Observation::Status(503), now);
    // 99, 98, 99, 70 and 100 have the mean 93.2 and the deviation 11.62; the last host has too few requests.
    let cause = EjectionCause::SuccessRate { local_origin: false, rate: 7_000, threshold: 7_113 };
    assert_eq!(
        detector.sweep(&hosts, now, &mut dice()),
        [OutlierEvent::Ejected { index: 3, duration: 30 * SECOND, cause }]
    );
    assert_eq!(cause.to_string(), "success rate 70.00 % is below 71.13 %, which the other hosts allow");
    assert_eq!(detector.ejections().ejected(EjectionKind::SuccessRate), 1);
    assert_eq!(detector.sweep(&hosts, now + 10 * SECOND, &mut dice()), [], "every interval begins anew");
}

#[test]
fn too_few_hosts_with_enough_requests_are_not_compared() {
    let (hosts, detector, now) = (set(6), OutlierDetector::new(comparing()), start());
    let tries = [(100, 0), (100, 0), (100, 0), (100, 90), (99, 0), (99, 0)];
    interval(&detector, &hosts, &tries, Observation::Status(503), now);
    assert_eq!(detector.sweep(&hosts, now, &mut dice()), []);
}

#[test]
fn a_host_that_fails_too_often_is_ejected_even_when_all_do() {
    let policy = OutlierPolicy {
        success_rate: None,
        failure_percentage: Some(FailurePercentagePolicy { threshold: 50, ..FailurePercentagePolicy::default() }),
        ..comparing()
    };
    let (hosts, detector, now) = (set(5), OutlierDetector::new(policy), start());
    interval(&detector, &hosts, &[(50, 25), (50, 24), (50, 25), (50, 50), (50, 0)], Observation::Status(500), now);
    let events = detector.sweep(&hosts, now, &mut dice());
    let reason = EjectionRefusal::MaxEjectionPercent { ejected: 2, hosts: 5, percent: 50 };
    let cause = |percentage| EjectionCause::FailurePercentage { local_origin: false, percentage, threshold: 50 };
    let expected = [
        OutlierEvent::Ejected { index: 0, duration: 30 * SECOND, cause: cause(5_000) },
        OutlierEvent::Ejected { index: 2, duration: 30 * SECOND, cause: cause(5_000) },
        OutlierEvent::Refused { index: 3, cause: cause(10_000), reason },
    ];
    assert_eq!(events, expected);
    assert_eq!(detector.ejections().refused(), 1);
}

#[test]
fn split_local_failures_are_compared_apart() {
    let policy = OutlierPolicy { split_local_origin: true, consecutive_local_origin_failures: 0, ..comparing() };
    let (hosts, detector, now) = (set(5), OutlierDetector::new(policy), start());
    interval(&detector, &hosts, &[(200, 0), (200, 0), (200, 0), (200, 0), (200, 90)], Observation::LocalOrigin, now);
    let events = detector.sweep(&hosts, now, &mut dice());
    let [OutlierEvent::Ejected { index: 4, cause, .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!(cause.kind(), EjectionKind::LocalOriginSuccessRate);
}

#[test]
fn what_counts_as_an_error_can_be_chosen() {
    let policy = OutlierPolicy { error_statuses: Some([429, 503].into()), ..OutlierPolicy::default() };
    let (hosts, detector, now) = (set(2), OutlierDetector::new(policy), start());
    assert_eq!(repeat(&detector, &hosts, 0, &[Observation::Status(500); 9], now), []);
    assert_eq!(repeat(&detector, &hosts, 0, &[Observation::Status(429); 5], now).len(), 1);
}

#[test]
fn the_cap_of_ejection_times_can_be_chosen_and_a_new_policy_counts_on() {
    let policy = OutlierPolicy { consecutive_5xx: 1, max_ejection_time: 45 * SECOND, ..OutlierPolicy::default() };
    let (hosts, detector, mut now) = (set(1), OutlierDetector::new(policy.clone()), start());
    for seconds in [30, 45, 45] {
        let event = detector.observe(&hosts, 0, Observation::Status(500), now, &mut dice());
        assert!(matches!(event, Some(OutlierEvent::Ejected { duration, .. }) if duration == seconds * SECOND));
        now += seconds * SECOND;
        detector.sweep(&hosts, now, &mut dice());
    }
    let after =
        OutlierDetector::counting_in(OutlierPolicy { consecutive_5xx: 2, ..policy }, detector.ejections().clone());
    assert_eq!(after.ejections().ejected(EjectionKind::Consecutive5xx), 3);
}

#[test]
fn a_kind_that_is_not_enforced_says_what_it_would_do_and_a_half_enforced_one_ejects_half() {
    let enforcing = |percent| Enforcing::default().with(EjectionKind::Consecutive5xx, percent);
    let policy = |percent| OutlierPolicy {
        consecutive_5xx: 1,
        max_ejection_percent: 100,
        enforcing: enforcing(percent),
        ..OutlierPolicy::default()
    };
    let (now, mut rng) = (start(), dice());
    for (percent, expected) in [(0, 0..=0), (50, 400..=600), (100, 1000..=1000)] {
        let (hosts, detector) = (set(1000), OutlierDetector::new(policy(percent)));
        for index in 0..1000 {
            let event = detector.observe(&hosts, index, Observation::Status(500), now, &mut rng);
            let out = hosts.hosts()[index].verdict.is_ejected();
            let reason = EjectionRefusal::NotEnforced { percent };
            let refused = OutlierEvent::Refused { index, cause: EjectionCause::Consecutive5xx(1), reason };
            assert!(out || event == Some(refused), "{event:?}");
        }
        let out = hosts.hosts().iter().filter(|host| host.verdict.is_ejected()).count();
        assert!(expected.contains(&out), "{percent} %: {out}");
        assert_eq!(detector.ejections().refused(), 1000 - out as u64);
    }
}

#[test]
fn jitter_makes_an_ejection_longer_and_each_by_another_time() {
    let policy = OutlierPolicy {
        consecutive_5xx: 1,
        max_ejection_percent: 100,
        max_ejection_time_jitter: 20 * SECOND,
        ..OutlierPolicy::default()
    };
    let (hosts, detector, now, mut rng) = (set(50), OutlierDetector::new(policy), start(), dice());
    let mut times = Vec::new();
    for index in 0..50 {
        let event = detector.observe(&hosts, index, Observation::Status(500), now, &mut rng);
        let Some(OutlierEvent::Ejected { duration, .. }) = event else { panic!("{event:?}") };
        assert!((30 * SECOND..50 * SECOND).contains(&duration), "{duration:?}");
        times.push(duration);
    }
    let middle = *times.iter().min().unwrap() + 10 * SECOND;
    let over = times.iter().filter(|time| **time <= middle).count();
    assert!(over < 50, "they differ");
    assert_eq!(detector.sweep(&hosts, now + middle, &mut rng).len(), over);
    assert_eq!(detector.sweep(&hosts, now + 50 * SECOND, &mut rng).len(), 50 - over);
}

/// What happens in a random history.
#[derive(Clone, Debug)]
enum Step {
    Observe(usize, Observation),
    Sweep(u64),
    Uneject(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let observation = prop_oneof![
        2 => Just(Observation::Success),
        4 => Just(Observation::Status(500)),
        4 => Just(Observation::Status(503)),
        1 => Just(Observation::Status(404)),
        4 => Just(Observation::LocalOrigin),
    ];
    prop_oneof![
        30 => (0usize..4, observation).prop_map(|(index, observation)| Step::Observe(index, observation)),
        3 => (1u64..40).prop_map(Step::Sweep),
        1 => (0usize..4).prop_map(Step::Uneject),
    ]
}

fn any_policy() -> impl Strategy<Value = OutlierPolicy> {
    (0u32..4, 0u32..4, any::<bool>(), 0u32..4, 1u64..200, 0u32..=100).prop_map(
        |(consecutive_5xx, gateway, split_local_origin, local, base, max_ejection_percent)| OutlierPolicy {
            consecutive_5xx,
            consecutive_gateway_errors: gateway,
            split_local_origin,
            consecutive_local_origin_failures: local,
            interval: 10 * SECOND,
            base_ejection_time: Duration::from_secs(base),
            max_ejection_percent,
            ..OutlierPolicy::default()
        },
    )
}

/// The slow model of one host: the whole row of outcomes since the last reset, counted from its end each time.
#[derive(Clone, Debug, Default)]
struct Model {
    row: Vec<Observation>,
    multiplier: u64,
    out_until: Option<u64>,
}

impl Model {
    /// Errors in a row at the end, where `breaks` ends the row and `counts` adds to it.
    fn trailing(&self, counts: impl Fn(Observation) -> bool, breaks: impl Fn(Observation) -> bool) -> u32 {
        let row = self.row.iter().rev().take_while(|&&observation| !breaks(observation));
        row.filter(|&&observation| counts(observation)).count() as u32
    }

    fn is_full(&self, policy: &OutlierPolicy) -> bool {
        let split = policy.split_local_origin;
        let local = |observation| observation == Observation::LocalOrigin;
        let fine = |observation| matches!(observation, Observation::Success | Observation::Status(..=499));
        let server = |observation| !(fine(observation) || split && local(observation));
        let gateway = |observation| server(observation) && observation != Observation::Status(500);
        let full = |limit: u32, count: u32| limit > 0 && count >= limit;
        full(policy.consecutive_5xx, self.trailing(server, fine))
            || full(
                policy.consecutive_gateway_errors,
                self.trailing(gateway, |observation| fine(observation) || observation == Observation::Status(500)),
            )
            || split
                && full(
                    policy.consecutive_local_origin_failures,
                    self.trailing(local, |observation| !local(observation)),
                )
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The documented formulas over floating point lists.
    #[test]
    fn hosts_are_compared_as_documented(
        tries in prop::collection::vec((0u32..60, 0u32..60), 1..9),
        minimum_hosts in 1u32..6,
        request_volume in 1u32..30,
        stdev_factor in 0u32..3_000,
        threshold in 1u32..=100,
    ) {
        let policy = OutlierPolicy {
            success_rate: Some(SuccessRatePolicy { minimum_hosts, request_volume, stdev_factor }),
            failure_percentage: Some(FailurePercentagePolicy { threshold, minimum_hosts, request_volume }),
            max_ejection_percent: 100,
            ..comparing()
        };
        let tries: Vec<(u32, u32)> = tries.into_iter().map(|(total, failed)| (total, failed.min(total))).collect();
        let (hosts, detector, now) = (set(tries.len()), OutlierDetector::new(policy), start());
        interval(&detector, &hosts, &tries, Observation::Status(500), now);
        detector.sweep(&hosts, now, &mut dice());
        let rate = |(total, failed): (u32, u32)| 100.0 * f64::from(total - failed) / f64::from(total);
        let rates: Vec<f64> = tries.iter().copied().filter(|tried| tried.0 >= request_volume).map(rate).collect();
        let count = rates.len() as f64;
        let mean = rates.iter().sum::<f64>() / count;
        let deviation = (rates.iter().map(|rate| (rate - mean) * (rate - mean)).sum::<f64>() / count).sqrt();
        let least = mean - deviation * f64::from(stdev_factor) / 1000.0;
        for (host, tried) in hosts.hosts().iter().zip(tries) {
            let takes_part = tried.0 >= request_volume && rates.len() >= minimum_hosts as usize;
            let close = takes_part && (rate(tried) - least).abs() < 1e-9;
            let out = takes_part && (rate(tried) < least || 100.0 - rate(tried) >= f64::from(threshold));
            prop_assert!(close || host.verdict.is_ejected() == out, "{:?} {} {}", tried, rate(tried), least);
        }
    }

    #[test]
    fn any_history_goes_as_the_slow_model_says(
        policy in any_policy(),
        steps in prop::collection::vec(any_step(), 0..150),
    ) {
        let (hosts, detector, start) = (set(4), OutlierDetector::new(policy.clone()), start());
        let mut models = vec![Model::default(); 4];
        let mut clock = 0;
        let base = policy.base_ejection_time.as_secs();
        let cap = base.max(300);
        for step in steps {
            let now = start + Duration::from_secs(clock);
            match step {
                Step::Observe(index, observation) => {
                    let event = detector.observe(&hosts, index, observation, now, &mut dice());
                    let out = models.iter().filter(|model| model.out_until.is_some()).count();
                    let model = &mut models[index];
                    if model.out_until.is_some() {
                        prop_assert_eq!(event, None);
                        continue;
                    }
                    model.row.push(observation);
                    let failed = matches!(observation, Observation::LocalOrigin | Observation::Status(500..));
                    if !(failed && model.is_full(&policy)) {
                        prop_assert_eq!(event, None);
                        continue;
                    }
                    model.row.clear();
                    if out > 0 && (out + 1) * 25 > policy.max_ejection_percent as usize {
                        let refused = matches!(event, Some(OutlierEvent::Refused { index: i, .. }) if i == index);
                        prop_assert!(refused, "{:?}", event);
                        continue;
                    }
                    if model.multiplier * base < cap {
                        model.multiplier += 1;
                    }
                    let expected = Duration::from_secs((model.multiplier * base).min(cap));
                    model.out_until = Some(clock + expected.as_secs());
                    let Some(OutlierEvent::Ejected { duration, .. }) = event else {
                        return Err(TestCaseError::fail(format!("no ejection but {event:?}")));
                    };
                    prop_assert_eq!(duration, expected);
                }
                Step::Sweep(seconds) => {
                    clock += seconds;
                    let events = detector.sweep(&hosts, start + Duration::from_secs(clock), &mut dice());
                    let mut expected = Vec::new();
                    for (index, model) in models.iter_mut().enumerate() {
                        match model.out_until {
                            None => model.multiplier = model.multiplier.saturating_sub(1),
                            Some(until) if until <= clock => {
                                model.out_until = None;
                                model.row.clear();
                                expected.push(OutlierEvent::Returned { index });
                            }
                            Some(_) => {}
                        }
                    }
                    prop_assert_eq!(events, expected);
                }
                Step::Uneject(index) => {
                    let returned = models[index].out_until.map(|_| OutlierEvent::Returned { index });
                    prop_assert_eq!(detector.ejections().uneject(&hosts, index), returned);
                    models[index] = Model::default();
                }
            }
            for (host, model) in hosts.hosts().iter().zip(&models) {
                prop_assert_eq!(host.is_available(), model.out_until.is_none());
                prop_assert_eq!(u64::from(host.verdict.multiplier()), model.multiplier);
            }
        }
    }
}
