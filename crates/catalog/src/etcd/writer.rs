//! The writer: takes what waits as one batch, decides, commits as many instances as fit into a transaction, waits until the watch has
//! brought what was committed, answers. What somebody else changed meanwhile is decided again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshwright_etcd::Client;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

use super::Link;
use super::batch::Batch;
use super::layout::Layout;
use super::transaction::{Committed, Transaction};
use crate::shared::Shared;
use crate::writer::{Job, gather};

/// A write that could not be kept in this time has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// What somebody else changed is known here after this time at the latest, usually.
pub(super) const NEWS: Duration = Duration::from_millis(50);
/// Transactions at one time; a batch has hardly more.
const MOST_AT_ONCE: usize = 64;

pub(super) struct Writer {
    shared: Arc<Shared>,
    link: watch::Receiver<Link>,
    layout: Layout,
    me: String,
}

impl Writer {
    pub(super) fn new(shared: &Arc<Shared>, link: watch::Receiver<Link>, layout: Layout, me: &str) -> Self {
        Self { shared: Arc::clone(shared), link, layout, me: me.to_owned() }
    }

    /// Works until every handle is gone.
    pub(super) async fn run(mut self, mut jobs: UnboundedReceiver<Job>) {
        while let Some(first) = jobs.recv().await {
            self.work(Batch::new(gather(first, &mut jobs))).await;
        }
    }

    async fn work(&mut self, mut batch: Batch) {
        let deadline = Instant::now() + PATIENCE;
        let mut revisions = self.shared.revisions();
        let mut failure = "another process changes it all the time".to_owned();
        while Instant::now() < deadline {
            let client = match reach(&mut self.link, deadline).await {
                Ok(client) => client,
                Err(reason) => {
                    failure = reason;
                    break;
                }
            };
            revisions.mark_unchanged();
            let transactions = batch.decide(&self.shared, &self.layout, &self.me);
            let committed = commit(&client, &self.layout, transactions).await;
            if let Some(reason) = committed.iter().find_map(Committed::failure) {
                failure = reason;
            }
            let newest = committed.iter().filter_map(Committed::revision).max().unwrap_or_default();
            let seen = timeout_at(deadline.into(), revisions.wait_for(|revision| *revision >= newest)).await.is_ok();
            if !seen {
                failure = "it was written, and etcd's watch does not bring it".to_owned();
                break;
            }
            if batch.settle(committed) {
                break;
            }
            let _ = timeout(NEWS, revisions.changed()).await;
        }
        batch.answer(&self.shared, &failure);
    }
}

/// The connection, when there is one before `deadline`; etcd that was away for longer is not waited for.
pub(super) async fn reach(link: &mut watch::Receiver<Link>, deadline: Instant) -> Result<Client, String> {
    loop {
        let until = match &*link.borrow_and_update() {
            Link::Here(client) => return Ok(client.clone()),
            Link::Away(since, reason) => (deadline.min(*since + PATIENCE), reason.clone()),
        };
        match timeout_at(until.0.into(), link.changed()).await {
            Ok(Ok(())) => {}
            _ => return Err(until.1),
        }
    }
}

/// Carries transactions out, many at one time; what came of each part, in any order.
pub(super) async fn commit(client: &Client, layout: &Layout, transactions: Vec<Transaction>) -> Vec<Committed> {
    let mut results = Vec::new();
    let mut running: JoinSet<Vec<Committed>> = JoinSet::new();
    for transaction in transactions {
        if running.len() >= MOST_AT_ONCE
            && let Some(Ok(committed)) = running.join_next().await
        {
            results.extend(committed);
        }
        let (client, layout) = (client.clone(), layout.clone());
        running.spawn(async move { transaction.carry_out(&client, &layout).await });
    }
    while let Some(committed) = running.join_next().await {
        results.extend(committed.into_iter().flatten());
    }
    results
}
