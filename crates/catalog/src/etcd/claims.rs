//! Makes this process the owner of instances that were heard of here: a transaction each, which fails when the instance is
//! gone or changed hands meanwhile. A claim that fails is made again when the instance is heard of again.

use meshwright_etcd::{Compare, RequestOp, TxnRequest};
use meshwright_registry::InstanceKey;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::debug;

use super::Link;
use super::layout::Layout;
use crate::shared::Ownership;

/// Transactions at one time.
const MOST_AT_ONCE: usize = 128;

/// Works until it is dropped.
pub(super) async fn run(ownership: &Ownership, link: watch::Receiver<Link>, layout: &Layout, me: &str) {
    loop {
        let keys = ownership.claims().await;
        for keys in keys.chunks(MOST_AT_ONCE) {
            let Link::Here(client) = link.borrow().clone() else { break };
            let mut running = JoinSet::new();
            for key in keys {
                let (client, request) = (client.clone(), claim(layout, key, ownership.owners().revision(key), me));
                running.spawn(async move { client.transaction(&request).await });
            }
            while let Some(ended) = running.join_next().await {
                if let Ok(Err(error)) = ended {
                    debug!(%error, "an instance could not be claimed");
                }
            }
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
