//! What follows from the resilience policy of a service for one cluster: breakers, the retry budget, the
//! adaptive limit, the bulkhead, the rate limit.
//!
//! Which policy a service gets is decided in `assign.rs`. Breakers and limits are live facts: they go over to the next snapshot as long as
//! their policy is the same. Read next: `cluster.rs`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use meshwright_model::{
    AdaptiveConcurrency, BreakerPreset, BreakerScope, BreakerWindow, CircuitBreaker as BreakerSettings,
    ConcurrencyAlgorithm, Destination, Diagnostic, Enforcement, Hedging, IdentityName, Mesh, Origin, RateLimit,
    ResiliencePolicy, ResilienceSettings, RetryBudget,
};
use meshwright_traffic::{
    ActiveBudget, AdaptiveLimit, AdaptivePolicy, Aimd, BreakerChanges, BreakerMode, BreakerPolicy, Bulkhead,
    CircuitBreaker, Criticality, Gradient2, HedgeDelay, KeyedBuckets, LimitAlgorithm, Rate, Recovery, ShedPolicy,
    SlowCalls, Vegas, Window,
};

use crate::assign::{Assigned, Words, object};

/// Buckets of a time window.
const BUCKETS: u32 = 10;

/// The circuit breakers of a cluster.
#[derive(Clone, Debug)]
pub struct Breakers {
    /// One for all.
    pub cluster: Option<Arc<CircuitBreaker>>,
    /// One per endpoint, parallel to the cluster's addresses; empty with one for all.
    pub endpoints: Vec<Arc<CircuitBreaker>>,
}

impl Breakers {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<CircuitBreaker>> {
        self.cluster.iter().chain(&self.endpoints)
    }
}

impl Adaptive {
    /// How critical the requests of a client with a certificate of these names are at most; `None` where nothing depends on
    /// it. Whoever no entry fits is critical at most.
    pub fn most_critical<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Option<Criticality> {
        if self.criticality_by_identity.is_empty() {
            return None;
        }
        let mut entries = self.criticality_by_identity.iter();
        let found = entries.find(|(identity, _)| identity.fits(names.clone()));
        Some(found.map_or(Criticality::default(), |(_, criticality)| *criticality))
    }
}

/// The adaptive limit of a cluster.
#[derive(Clone, Debug)]
pub struct Adaptive {
    /// The limit.
    pub limit: Arc<AdaptiveLimit>,
    /// Header that says how critical a request is, lower-case; `None` takes all as critical.
    pub criticality_header: Option<Arc<str>>,
    /// How critical the requests of a route are, by its name.
    pub criticality_by_route: Arc<HashMap<String, Criticality>>,
    /// How critical the requests of a client are at most, by the names of its certificate; empty where that is not looked at.
    pub criticality_by_identity: Arc<[(IdentityName, Criticality)]>,
}

impl Assigned for ResiliencePolicy {
    const WORDS: &'static Words = &Words {
        kind: "ResiliencePolicy",
        name: "resilience policy",
        rule: "policy",
        rules: "policies",
        code: "resilience-policy-unused",
        order: "the most specific host wins, then the earlier in the input",
        effect: "nothing of it applies",
    };

    fn object(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Routes that a policy speaks of and nobody has.
pub(crate) fn unknown_routes(mesh: &Mesh, policy: &ResiliencePolicy) -> Vec<Diagnostic> {
    let Some(adaptive) = &policy.settings.adaptive_concurrency else { return Vec::new() };
    let known = |name: &str| {
        let mut routes = mesh.virtual_services.iter().flat_map(|of| &of.http);
        routes.any(|route| route.name.as_deref() == Some(name))
    };
    let unknown = adaptive.criticality_by_route.keys().filter(|name| !known(name));
    unknown
        .map(|name| {
            Diagnostic::warning("criticality-route", format!("no virtual service has a route of the name {name}"))
                .at(policy.origin.clone(), 1)
                .of(object(policy))
                .with_path("spec.adaptiveConcurrency.criticalityByRoute")
                .with_value(name.clone())
                .with_allowed("the `name` of an entry of `http` in a VirtualService")
                .with_effect("no request is as critical as is said here")
                .with_suggestion("give the route that name")
        })
        .collect()
}

/// The destination that stands in does not exist.
pub(crate) fn no_fallback(policy: &ResiliencePolicy, destination: &Destination) -> Diagnostic {
    Diagnostic::warning("fallback-destination", format!("the fallback destination {} does not exist", destination.host))
        .at(policy.origin.clone(), 1)
        .of(object(policy))
        .with_path("spec.fallback.destination")
        .with_value(destination.host.clone())
        .with_allowed("a service of the mesh, a port and a subset of it")
        .with_effect("nobody is asked instead; the fallback response holds, where there is one")
        .with_suggestion("name a service that exists, or add it with --service or a ServiceEntry")
}

/// The breakers for `addresses`; those of `previous` where its settings are the same.
pub(crate) fn breakers(
    settings: &ResilienceSettings,
    service_name: &str,
    addresses: &[SocketAddr],
    previous: Option<(&ResilienceSettings, &[SocketAddr], Option<&Breakers>)>,
) -> Option<Breakers> {
    let breaker = settings.circuit_breaker.as_ref()?;
    let previous = previous.filter(|(before, ..)| before.circuit_breaker.as_ref() == Some(breaker));
    let kept = previous.and_then(|(_, addresses, breakers)| Some((addresses, breakers?)));
    let observe = breaker.enforcement == Enforcement::Observe;
    let mode = if observe { BreakerMode::MetricsOnly } else { BreakerMode::Automatic };
    let new = || Arc::new(CircuitBreaker::new(breaker_policy(breaker, service_name)).with_mode(mode));
    let (cluster, endpoints) = match breaker.scope {
        BreakerScope::Cluster => {
            (Some(kept.and_then(|(_, kept)| kept.cluster.clone()).unwrap_or_else(new)), Vec::new())
        }
        BreakerScope::Endpoint => {
            let of = |address: &SocketAddr| {
                let known = kept.and_then(|(before, kept)| {
                    let index = before.iter().position(|known| known == address)?;
                    kept.endpoints.get(index).cloned()
                });
                known.unwrap_or_else(new)
            };
            (None, addresses.iter().map(of).collect())
        }
    };
    Some(Breakers { cluster, endpoints })
}

/// What a `circuitBreaker` means for a service of that name.
pub fn breaker_policy(settings: &BreakerSettings, service_name: &str) -> BreakerPolicy {
    let preset = match settings.preset {
        BreakerPreset::Gobreaker => BreakerPolicy::gobreaker(),
        BreakerPreset::Hystrix => BreakerPolicy::hystrix(),
        BreakerPreset::Resilience4j => BreakerPolicy::resilience4j(),
        BreakerPreset::ServiceName => BreakerPolicy::for_service(service_name),
    };
    preset.with(&BreakerChanges {
        window: settings.window.map(|window| match window {
            BreakerWindow::Calls(calls) => Window::Count(calls),
            BreakerWindow::Time(length) => Window::Time { length, buckets: BUCKETS },
            BreakerWindow::Interval(interval) => Window::Interval((!interval.is_zero()).then_some(interval)),
        }),
        consecutive_failures: settings.consecutive_failures,
        failure_percent: settings.failure_percent,
        slow_calls: settings.slow_calls.map(|(longer_than, percent)| SlowCalls { longer_than, percent }),
        minimum_calls: settings.minimum_calls,
        probes: settings.max_requests,
        recovery: settings.probes_by_rates.map(|rates| if rates { Recovery::Rates } else { Recovery::EveryProbe }),
        max_half_open_time: settings.max_half_open_time,
        open_time: settings.timeout,
        open_growth_percent: settings.timeout_growth_percent,
        max_open_time: settings.max_timeout,
        open_jitter_percent: settings.timeout_jitter_percent,
    })
}

/// The retry budget: that of the policy, else that of the destination rule, else the default one where requests are hedged.
pub(crate) fn retry_budget(settings: &ResilienceSettings, of_rule: Option<RetryBudget>) -> Option<ActiveBudget> {
    let budget = settings.retry_budget.or(of_rule);
    // Hedges without a bound would double the load when everything is slow.
    let budget = budget.or(settings.hedging.map(|_| RetryBudget { percent: 20, min_retry_concurrency: 3 }))?;
    Some(ActiveBudget { percent: budget.percent, min_concurrency: budget.min_retry_concurrency })
}

/// When requests are hedged; what `previous` knows where its settings are the same.
pub(crate) fn hedge(
    settings: &ResilienceSettings,
    previous: Option<(&ResilienceSettings, Option<&Arc<HedgeDelay>>)>,
) -> Option<Arc<HedgeDelay>> {
    let own = settings.hedging?;
    if let Some((before, Some(kept))) = previous
        && before.hedging == Some(own)
    {
        return Some(Arc::clone(kept));
    }
    Some(Arc::new(match own {
        Hedging::Delay(delay) => HedgeDelay::fixed(delay),
        Hedging::Percentile(percent) => HedgeDelay::percentile(f64::from(percent)),
    }))
}

/// The bound on the requests in flight at each endpoint.
pub(crate) fn bulkhead(settings: &ResilienceSettings) -> Option<Bulkhead> {
    let own = settings.bulkhead?;
    Some(Bulkhead { max_requests: own.max_requests_per_endpoint, observe: own.enforcement == Enforcement::Observe })
}

/// The rate limit of a cluster.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    /// Its buckets.
    pub buckets: Arc<KeyedBuckets>,
    /// What it is.
    pub limit: Arc<RateLimit>,
}

/// The rate limit; that of `previous` where its settings are the same.
pub(crate) fn rate_limit(settings: &ResilienceSettings, previous: Option<&RateLimiter>) -> Option<RateLimiter> {
    let own = settings.rate_limit.as_ref()?;
    if let Some(kept) = previous
        && *kept.limit == *own
    {
        return Some(kept.clone());
    }
    let rate = Rate { tokens: own.requests, per: own.per, burst: own.burst };
    let buckets = Arc::new(KeyedBuckets::new(rate, own.max_keys as usize));
    Some(RateLimiter { buckets, limit: Arc::new(own.clone()) })
}

/// The adaptive limit; that of `previous` where its settings are the same.
pub(crate) fn adaptive(
    settings: &ResilienceSettings,
    previous: Option<(&ResilienceSettings, Option<&Adaptive>)>,
) -> Option<Adaptive> {
    let own = settings.adaptive_concurrency.as_ref()?;
    if let Some((before, Some(kept))) = previous
        && before.adaptive_concurrency.as_ref() == Some(own)
    {
        return Some(kept.clone());
    }
    Some(Adaptive {
        limit: Arc::new(AdaptiveLimit::new(adaptive_policy(own))),
        criticality_header: own.criticality_header.as_deref().map(Arc::from),
        criticality_by_route: Arc::new(
            own.criticality_by_route
                .iter()
                .filter_map(|(route, word)| Some((route.clone(), Criticality::of_name(word.as_bytes())?)))
                .collect(),
        ),
        criticality_by_identity: own
            .criticality_by_identity
            .iter()
            .filter_map(|entry| Some((entry.name.clone(), Criticality::of_name(entry.criticality.as_bytes())?)))
            .collect(),
    })
}

fn adaptive_policy(settings: &AdaptiveConcurrency) -> AdaptivePolicy {
    let default = AdaptivePolicy::default();
    AdaptivePolicy {
        algorithm: match settings.algorithm {
            ConcurrencyAlgorithm::Gradient2 => LimitAlgorithm::Gradient2(Gradient2::default()),
            ConcurrencyAlgorithm::Vegas => LimitAlgorithm::Vegas(Vegas::default()),
            ConcurrencyAlgorithm::Aimd => LimitAlgorithm::Aimd(Aimd::default()),
        },
        initial: settings.initial_limit.unwrap_or(default.initial),
        min: settings.min_limit.unwrap_or(default.min),
        max: settings.max_limit.unwrap_or(default.max),
        window: settings.window.unwrap_or(default.window),
        observe: settings.enforcement == Enforcement::Observe,
        shed: ShedPolicy {
            sheddable_plus: settings.sheddable_plus_percent.unwrap_or(default.shed.sheddable_plus),
            sheddable: settings.sheddable_percent.unwrap_or(default.shed.sheddable),
            ..default.shed
        },
    }
}
