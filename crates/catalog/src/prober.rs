//! Carries checks out: follows the registry, starts what is due, takes results to the registry.
//!
//! When and what follows is decided by [`Probes`]; how one check is done is in `probe.rs`. Of a registry that processes share,
//! each carries out the checks of the instances that it answers for.

use std::time::{Duration, Instant};

use meshwright_probe::Prober;
use meshwright_registry::{Action, Change, Expected, Probes, Proposal, Reason, Scope, Status, Task, Verdict};
use tokio::task::JoinSet;

use crate::{Catalog, probe};

/// Checks at one time.
const MOST_RUNNING: usize = Prober::MOST;

/// Works until it is dropped; the checks that run end with it.
pub(crate) async fn run(catalog: Catalog) {
    let mut rng = fastrand::Rng::new();
    let mut revisions = catalog.revisions();
    let mut at = everything(&catalog, &mut rng);
    let mut running: JoinSet<(Task, Status, String)> = JoinSet::new();
    loop {
        revisions.mark_unchanged();
        at = follow(&catalog, at, &mut rng).await;
        change_hands(&catalog, &mut rng);
        let now = Instant::now();
        let (tasks, verdicts, wake) = {
            let mut probes = catalog.shared().probes();
            let (tasks, verdicts) = probes.take_due(MOST_RUNNING.saturating_sub(running.len()), now);
            let wake = probes.poll_timeout().filter(|_| running.len() + tasks.len() < MOST_RUNNING);
            (tasks, verdicts, wake)
        };
        for task in tasks {
            let address = catalog.read(|registry| {
                let entry = registry.instance(&task.key)?;
                Some((entry.instance.address.clone(), entry.instance.port))
            });
            let prober = catalog.prober();
            running.spawn(async move {
                let (status, output) = match address {
                    Some((address, port)) => probe::carry_out(&prober, &task.check, &address, port).await,
                    None => (Status::Critical, String::new()),
                };
                (task, status, output)
            });
        }
        carry_out(&catalog, verdicts);
        let wake = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = revisions.changed() => {}
            () = catalog.shared().owners_changed() => {}
            () = wake => {}
            Some(ended) = running.join_next(), if !running.is_empty() => {
                // A check that broke off has no result, and its instance keeps what is known.
                let Ok((task, status, output)) = ended else { continue };
                if status.is_healthy() {
                    catalog.renew(&task.key);
                }
                let verdicts =
                    catalog.shared().probes().result(&task, (status, &output), Instant::now(), &mut rng);
                carry_out(&catalog, verdicts);
            }
        }
    }
}

/// Takes in everything that is registered; the revision of it.
fn everything(catalog: &Catalog, rng: &mut fastrand::Rng) -> u64 {
    let now = Instant::now();
    catalog.read(|registry| {
        let mut probes = catalog.shared().probes();
        *probes = Probes::default();
        let entries = registry.services().flat_map(|(_, service)| service.instances());
        for entry in entries.filter(|entry| catalog.shared().cares(&entry.key)) {
            probes.set(&entry.key, &entry.instance.checks, true, now, rng);
        }
        registry.revision()
    })
}

/// Takes in what changed since `at`; the revision to go on from.
async fn follow(catalog: &Catalog, mut at: u64, rng: &mut fastrand::Rng) -> u64 {
    loop {
        let Ok((events, next)) = catalog.events(at, &Scope::All, Duration::ZERO).await else {
            return everything(catalog, rng);
        };
        if events.is_empty() {
            return next;
        }
        at = next;
        let now = Instant::now();
        let mut probes = catalog.shared().probes();
        for event in events {
            match event.change {
                Change::Put(entry) if catalog.shared().cares(&event.key) => {
                    probes.set(&event.key, &entry.instance.checks, false, now, rng);
                }
                Change::Put(_) | Change::Remove { .. } => probes.remove(&event.key),
            }
        }
    }
}

/// Begins with the checks of instances that this process answers for since it last looked, and ends those of others.
fn change_hands(catalog: &Catalog, rng: &mut fastrand::Rng) {
    let (shared, now) = (catalog.shared(), Instant::now());
    for key in shared.take_changed_owners() {
        let entry = catalog.read(|registry| registry.instance(&key).cloned());
        match entry.filter(|_| shared.cares(&key)) {
            Some(entry) => shared.probes().set(&key, &entry.instance.checks, true, now, rng),
            None => shared.probes().remove(&key),
        }
    }
}

/// Takes verdicts to the registry. A status is set on the ground of what is there by then, so it has a task of its own.
fn carry_out(catalog: &Catalog, verdicts: Vec<Verdict>) {
    for verdict in verdicts {
        match verdict {
            Verdict::Set { key, check, status, output } => {
                tracing::info!(instance = %key, check, %status, output, "check");
                let catalog = catalog.clone();
                tokio::spawn(async move {
                    let set = catalog
                        .update(&key, |instance| {
                            for known in instance.checks.iter_mut().filter(|known| known.id == check) {
                                *known = known.with_result(status, &output);
                            }
                        })
                        .await;
                    if let Err(error) = set {
                        tracing::debug!(instance = %key, %error, "the result of a check could not be kept");
                    }
                });
            }
            Verdict::Remove(key) => {
                tracing::info!(instance = %key, "critical for too long; removing it");
                let action = Action::Remove(Reason::Critical);
                catalog.propose_unattended(vec![Proposal { key, expected: Expected::Any, action }]);
            }
        }
    }
}
