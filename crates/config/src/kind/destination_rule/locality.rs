//! `loadBalancer.localityLbSetting` and `zoneAwareLbSetting`. Read next: `load_balancer.rs`.

use meshwright_model::{Diagnostic, LocalityFailover, LocalitySetting};

use crate::finding::Reporter;
use crate::record::{Item, Record};

/// Endpoints that zone-aware routing needs at least, where nothing is said.
const MINIMUM_CLUSTER_SIZE: u32 = 6;

/// Reads whichever block there is.
pub(super) fn read(block: &Record, reporter: &mut Reporter<'_>) -> LocalitySetting {
    if block.has("localityLbSetting") && block.has("zoneAwareLbSetting") {
        let finding = Diagnostic::error("choice", "only one of localityLbSetting and zoneAwareLbSetting can be set")
            .with_allowed("localityLbSetting or zoneAwareLbSetting")
            .with_suggestion("remove one of them");
        reporter.add(&block.key_of("zoneAwareLbSetting"), finding);
    }
    if let Some(zones) = block.record("zoneAwareLbSetting") {
        if zones.boolean("enabled") == Some(false) {
            return LocalitySetting::Off;
        }
        let size = zones.whole("minClusterSize").and_then(|size| u32::try_from(size).ok());
        return LocalitySetting::ZoneAware {
            minimum_cluster_size: size.filter(|size| *size > 0).unwrap_or(MINIMUM_CLUSTER_SIZE),
            failover: read_failover(zones, reporter),
        };
    }
    let Some(setting) = block.record("localityLbSetting") else { return LocalitySetting::Unset };
    let distribute = read_distribute(setting, reporter);
    let failover = read_failover(setting, reporter);
    if setting.boolean("enabled") == Some(false) {
        return LocalitySetting::Off;
    }
    if distribute.is_empty() {
        return LocalitySetting::Failover(failover);
    }
    for field in ["failover", "failoverPriority"] {
        if setting.has(field) {
            let finding =
                Diagnostic::error("choice", format!("can not simultaneously specify 'distribute' and '{field}'"))
                    .with_allowed(format!("distribute or {field}"))
                    .with_suggestion("remove one of them");
            reporter.add(&setting.key_of(field), finding);
        }
    }
    LocalitySetting::Distribute(distribute)
}

fn read_failover(setting: &Record, reporter: &mut Reporter<'_>) -> LocalityFailover {
    let mut regions = Vec::new();
    for record in setting.records("failover") {
        let (from, to) = (record.text_or_empty("from"), record.text_or_empty("to"));
        let problem = if from == to {
            Some("locality lb failover settings must specify different regions")
        } else if from.is_empty() || to.is_empty() {
            Some("locality lb failover needs both regions")
        } else if [from, to].iter().any(|region| region.contains(['/', '*'])) {
            Some("locality lb failover only names regions")
        } else {
            None
        };
        if let Some(problem) = problem {
            let finding = Diagnostic::error("locality", problem)
                .with_value(format!("{from} to {to}"))
                .with_allowed("two names of regions, without zone and without `*`")
                .with_suggestion("write for example `{from: eu-west, to: eu-central}`");
            reporter.add(&record.place, finding);
        }
        regions.push((from.to_owned(), to.to_owned()));
    }
    let labels = setting.texts("failoverPriority").map(|(_, label)| label.to_owned()).collect();
    for (item, label) in setting.texts("failoverPriority") {
        if label.split_once('=').map_or(label, |(key, _)| key).is_empty() {
            let finding = Diagnostic::error("locality", "an entry of failoverPriority is a label or `label=value`")
                .with_value(label)
                .with_allowed("for example topology.kubernetes.io/zone or version=v2")
                .with_suggestion("write the name of a label");
            reporter.add(&item.place, finding);
        }
    }
    LocalityFailover { regions, labels }
}

fn read_distribute(setting: &Record, reporter: &mut Reporter<'_>) -> Vec<(String, Vec<(String, u32)>)> {
    let mut distribute: Vec<(String, Vec<(String, u32)>)> = Vec::new();
    for record in setting.records("distribute") {
        let from = record.text_or_empty("from");
        if !is_pattern(from) {
            invalid(from, &record.place_of("from"), reporter);
        }
        if let Some((before, _)) = distribute.iter().find(|(before, _)| overlap(before, from)) {
            let message = format!("locality {from} overlap with previous specified ones");
            let finding = Diagnostic::error("locality", message)
                .with_value(from)
                .with_allowed(format!("localities apart from {before}"))
                .with_suggestion("make them say different things, or join them");
            reporter.add(&record.place_of("from"), finding);
        }
        let shares = read_shares(record, reporter);
        distribute.push((from.to_owned(), shares));
    }
    distribute
}

fn read_shares(record: &Record, reporter: &mut Reporter<'_>) -> Vec<(String, u32)> {
    let mut shares: Vec<(String, u32)> = Vec::new();
    for (locality, span, item) in record.map("to") {
        let place = record.map_key("to", locality, *span);
        if !is_pattern(locality) {
            invalid(locality, &place, reporter);
        }
        if shares.iter().any(|(before, _)| overlap(before, locality)) {
            let message = format!("locality {locality} overlap with previous specified ones");
            let finding = Diagnostic::error("locality", message)
                .with_value(&**locality)
                .with_allowed("localities that share no endpoint")
                .with_suggestion("make one of them more specific, or join them");
            reporter.add(&place, finding);
        }
        let weight = item.as_ref().and_then(Item::whole).and_then(|weight| u32::try_from(weight).ok());
        let Some(weight) = weight.filter(|weight| (1..=100).contains(weight)) else {
            if item.as_ref().is_none_or(|item| item.whole().is_some()) {
                let finding = Diagnostic::error("locality", "locality weight must be in range [1, 100]")
                    .with_allowed("1..100")
                    .with_suggestion(
                        "write a percentage without the sign; leave out localities that shall get nothing",
                    );
                reporter.add(&place, finding);
            }
            return Vec::new();
        };
        shares.push((locality.to_string(), weight));
    }
    let total: u32 = shares.iter().map(|(_, weight)| weight).sum();
    if total != 100 {
        let finding = Diagnostic::error("locality", format!("total locality weight {total} != 100"))
            .with_value(total.to_string())
            .with_allowed("weights that add up to 100")
            .with_suggestion("change the weights");
        reporter.add(&record.place_of("to"), finding);
    }
    shares
}

fn invalid(locality: &str, place: &crate::node::Place, reporter: &mut Reporter<'_>) {
    let finding = Diagnostic::error("locality", format!("invalid locality {locality:?}"))
        .with_value(locality)
        .with_allowed("region, region/zone or region/zone/subzone, where `*` may only be the last part")
        .with_suggestion("write for example eu-west/a/*");
    reporter.add(place, finding);
}

/// One to three parts, none empty, `*` only at the end.
fn is_pattern(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let (last, front) = parts.split_last().map_or(("", &[][..]), |(last, front)| (*last, front));
    let plain = |part: &&str| !part.is_empty() && !part.contains('*');
    parts.len() <= 3 && front.iter().all(plain) && (last == "*" || plain(&last))
}

/// Whether one of two patterns covers the other.
fn overlap(left: &str, right: &str) -> bool {
    left.split('/').zip(right.split('/')).all(|(left, right)| left == right || left == "*" || right == "*")
}
