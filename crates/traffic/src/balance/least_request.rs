//! Least request. Stateless: the load is in the hosts. Read next: `candidates.rs`.

use super::candidates::Candidates;
use crate::Host;

/// Groups of at most so many hosts are looked at whole: that costs little more than two draws, and where there are few
/// hosts a bad draw weighs most.
const SMALL: usize = 4;

/// How many hosts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// Two, or all of a small group.
    Two,
    /// All of them.
    All,
}

/// Draws hosts at random by weight and takes the less loaded one of two (Mitzenmacher, "The Power of Two Choices in
/// Randomized Load Balancing", 2001; Envoy's least request for equal weights), or the least loaded of all.
///
/// Load is requests in flight per weight. A challenger wins when it is less loaded as things are *and* would be after
/// taking the request, `(in_flight + 1) / weight`. With equal weights the two say the same. With unequal weights the first
/// condition keeps an idle cluster at its weights (every load is 0, so the weighted draw decides, where the second alone
/// would starve light hosts), and the second keeps one request from weighing more on a heavy host than on a light one.
pub(super) fn pick(candidates: &Candidates<'_>, compared: Compared, rng: &mut fastrand::Rng) -> Option<usize> {
    let first = candidates.draw(None, rng)?;
    if candidates.group.len() == 1 {
        return Some(first);
    }
    if compared == Compared::All || candidates.group.len() <= SMALL {
        return Some(least_of_all(candidates, first, rng));
    }
    let Some(second) = candidates.draw(Some(first), rng) else { return Some(first) };
    let hosts = candidates.hosts.hosts();
    Some(if is_less_loaded(&hosts[second], &hosts[first]) { second } else { first })
}

/// The least loaded of all that fit. The one that was drawn stays when nobody is less loaded; among equally loaded
/// challengers chance decides by weight.
fn least_of_all(candidates: &Candidates<'_>, drawn: usize, rng: &mut fastrand::Rng) -> usize {
    let hosts = candidates.hosts.hosts();
    let mut best = drawn;
    let mut equals = 0;
    for index in candidates.fitting(Some(drawn)) {
        if !candidates.accepts(index, rng) {
            continue;
        }
        let weight = candidates.weight(index);
        if is_less_loaded(&hosts[index], &hosts[best]) {
            (best, equals) = (index, weight);
        } else if best != drawn && !is_less_loaded(&hosts[best], &hosts[index]) {
            equals += weight;
            if rng.u64(..equals) < weight {
                best = index;
            }
        }
    }
    best
}

fn is_less_loaded(challenger: &Host, holder: &Host) -> bool {
    let (challenger_load, holder_load) = (u64::from(challenger.state.in_flight()), u64::from(holder.state.in_flight()));
    let (challenger_weight, holder_weight) = (u64::from(challenger.weight), u64::from(holder.weight));
    challenger_load * holder_weight < holder_load * challenger_weight
        && (challenger_load + 1) * holder_weight < (holder_load + 1) * challenger_weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(weight: u32, in_flight: u32) -> Host {
        let host = Host::new(weight);
        (0..in_flight).for_each(|_| host.state.acquire());
        host
    }

    #[test]
    fn load_counts_per_weight() {
        assert!(is_less_loaded(&host(1, 0), &host(1, 1)));
        assert!(!is_less_loaded(&host(1, 1), &host(1, 1)));
        assert!(is_less_loaded(&host(4, 4), &host(1, 2)));
        assert!(!is_less_loaded(&host(1, 2), &host(4, 4)));
    }

    #[test]
    fn idle_hosts_never_displace_each_other() {
        assert!(!is_less_loaded(&host(9, 0), &host(1, 0)));
        assert!(!is_less_loaded(&host(1, 0), &host(9, 0)));
        assert!(!is_less_loaded(&host(1, 0), &host(3, 1)), "one request weighs less on the heavy host");
    }
}
