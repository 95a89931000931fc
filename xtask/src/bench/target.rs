//! The project's own targets, and whether a run reached them.
//!
//! A ratio is reached when its upper confidence bound is within the limit. It does not measure. Read next:
//! `statistics.rs`.

use super::figures::{Figures, LoadFigures};
use super::peer::Peer;
use super::scenario::Scenario;
use super::statistics::paired_ratio;

/// CPU time per request, as a share of another proxy's: at most so much.
const RATIOS: [(Scenario, Peer, f64); 11] = [
    (Scenario::Small64, Peer::Haproxy, 0.80),
    (Scenario::Small64, Peer::Envoy, 0.30),
    (Scenario::Small1000, Peer::Haproxy, 0.80),
    (Scenario::Small1000, Peer::Envoy, 0.30),
    (Scenario::Body64k, Peer::Haproxy, 0.70),
    (Scenario::TlsHttp1, Peer::Haproxy, 0.85),
    (Scenario::TlsHttp2, Peer::Haproxy, 1.20),
    (Scenario::TlsHttp2, Peer::Envoy, 0.40),
    (Scenario::Close, Peer::Haproxy, 1.00),
    (Scenario::CloseTls, Peer::Haproxy, 1.00),
    (Scenario::Handshake, Peer::Haproxy, 1.00),
];

/// Whether a target for CPU time is set for a scenario.
pub(crate) fn is_judged(scenario: Scenario) -> bool {
    RATIOS.iter().any(|(judged, _, _)| *judged == scenario)
}

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The bound is within the limit.
    Reached,
    /// The measured value is within the limit, its bound is not, or there are too few pairs for one.
    NotShown,
    /// The measured value is beyond the limit.
    Missed,
}

/// A target and what was measured for it.
#[derive(Debug)]
pub(crate) struct Target {
    /// What is limited.
    pub(crate) what: String,
    /// The most that it may be.
    pub(crate) limit: f64,
    /// The measured value; of a ratio the median.
    pub(crate) measured: f64,
    /// The upper confidence bound of a ratio; of a size the measured value itself.
    pub(crate) bound: Option<f64>,
    /// The unit of all three.
    pub(crate) unit: &'static str,
}

impl Target {
    /// Whether it was reached.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.bound {
            _ if self.measured > self.limit => Verdict::Missed,
            Some(bound) if bound <= self.limit => Verdict::Reached,
            _ => Verdict::NotShown,
        }
    }
}

/// The targets for which this run has figures.
pub(crate) fn targets(results: &[(Scenario, Figures)]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (wanted, peer, limit) in RATIOS {
        if let (Some(ours), Some(theirs)) = (cpu(results, wanted, Peer::Ours), cpu(results, wanted, peer)) {
            let what = format!("`{}`: CPU per request, as a share of {}'s", wanted.name(), peer.name());
            let ratio = paired_ratio(&ours, &theirs);
            targets.push(Target { what, limit, measured: ratio.median, bound: ratio.bound, unit: " ×" });
        }
    }
    let size = |what: &str, limit, measured, unit| Target {
        what: what.to_owned(),
        limit,
        measured,
        bound: Some(measured),
        unit,
    };
    for (scenario, figures) in results {
        match figures {
            Figures::Idle(all) => {
                let (what, limit) = match scenario {
                    Scenario::IdleTls => ("memory per idle TLS connection", 10.0),
                    Scenario::StalledHttp2 => ("memory per stream of HTTP/2 whose client takes nothing", 6.0),
                    _ => ("memory per idle keep-alive connection", 3.0),
                };
                let ours = all.iter().filter(|figures| figures.peer == Peer::Ours);
                targets.extend(ours.map(|figures| size(what, limit, figures.kib_each(), " KiB")));
            }
            Figures::Start(Some(memory)) => {
                let mib = memory.rss_kib as f64 / 1024.0;
                targets.push(size("resident memory of `run` with the sample gateway", 15.0, mib, " MiB"));
            }
            Figures::Start(None) | Figures::Load(_) => {}
        }
    }
    targets
}

fn cpu(results: &[(Scenario, Figures)], wanted: Scenario, peer: Peer) -> Option<Vec<f64>> {
    let (_, figures) = results.iter().find(|(scenario, _)| *scenario == wanted)?;
    let Figures::Load(all) = figures else { return None };
    all.iter().find(|figures| figures.peer == peer).map(LoadFigures::cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_whose_bound_is_beyond_the_limit_is_not_shown_and_one_beyond_it_is_missed() {
        let target = |measured, bound| Target { what: String::new(), limit: 0.8, measured, bound, unit: " ×" };
        assert_eq!(target(0.7, Some(0.75)).verdict(), Verdict::Reached);
        assert_eq!(target(0.7, Some(0.85)).verdict(), Verdict::NotShown);
        assert_eq!(target(0.7, None).verdict(), Verdict::NotShown);
        assert_eq!(target(0.9, Some(0.95)).verdict(), Verdict::Missed);
    }
}
