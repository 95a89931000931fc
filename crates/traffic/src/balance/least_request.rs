//! Least request by the power of two choices. Stateless: the load is in the hosts. Read next: `weighted_draw.rs`.

use super::Candidates;
use crate::Host;

/// Draws two different hosts at random by weight and takes the less loaded one (Mitzenmacher, "The Power of Two Choices
/// in Randomized Load Balancing", 2001; Envoy's least request for equal weights).
///
/// Load is requests in flight per weight. The second host wins when it is less loaded as things are *and* would be
/// after taking the request, `(in_flight + 1) / weight`. With equal weights the two say the same. With unequal weights
/// the first condition keeps an idle cluster at its weights (every load is 0, so the weighted draw decides, where the
/// second alone would starve light hosts), and the second keeps one request from weighing more on a heavy host than on
/// a light one.
pub(super) fn pick(candidates: &mut Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    let (first, tier) = candidates.draw_first(rng)?;
    if candidates.hosts.hosts().len() == 1 {
        return Some(first);
    }
    let Some(second) = candidates.draw(tier, Some(first), rng) else { return Some(first) };
    let hosts = candidates.hosts.hosts();
    Some(if is_less_loaded(&hosts[second], &hosts[first]) { second } else { first })
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
