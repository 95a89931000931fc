//! Makes this process the owner of instances that were heard of here: a part of a transaction each, which has no effect when the
//! instance is gone or changed hands meanwhile. A claim that fails is made again when the instance is heard of again.

use meshwright_etcd::{Compare, RequestOp, TxnRequest};
use meshwright_registry::InstanceKey;
use tokio::sync::watch;
use tracing::debug;

use super::Link;
use super::layout::Layout;
use super::transaction::{Committed, Part, pack};
use super::writer::commit;
use crate::shared::Ownership;

/// Works until it is dropped.
pub(super) async fn run(ownership: &Ownership, link: watch::Receiver<Link>, layout: &Layout, me: &str) {
    loop {
        let keys = ownership.claims().await;
        let Link::Here(client) = link.borrow().clone() else { continue };
        let parts = {
            let owners = ownership.owners();
            let requests = keys.iter().map(|key| claim(layout, key, owners.revision(key), me)).enumerate();
            requests.map(|(write, request)| Part { write, changes: false, reason: None, request }).collect()
        };
        let committed = commit(&client, layout, pack(parts)).await;
        if let Some(error) = committed.iter().find_map(Committed::failure) {
            debug!(%error, "instances could not be claimed");
        }
    }
}

fn claim(layout: &Layout, key: &InstanceKey, revision: u64, me: &str) -> TxnRequest {
    let owner = layout.owner(key);
    let revision = i64::try_from(revision).unwrap_or(i64::MAX);
    TxnRequest {
        compare: vec![Compare::exists(layout.instance(key)), Compare::modified(owner.clone(), revision)],
        success: vec![RequestOp::put(owner, me.as_bytes().to_vec())],
    }
}
