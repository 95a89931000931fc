//! Transactions of etcd, each about many instances: a part for each instance with comparisons of its own, so that an instance that
//! somebody else changed meanwhile keeps none of the others from being written.
//!
//! ```text
//!  one transaction = one round trip, one entry of etcd's log, one revision
//!    ├─ if instance a is as it was known: put a, put its owner
//!    └─ if instance b is as it was known: delete b, delete its owner
//! ```
//!
//! It decides nothing: what is to be changed comes from `batch.rs`, and `writer.rs` sends it.

use meshwright_etcd::{Client, Error, RequestOp, TxnRequest, TxnResponse};
use meshwright_registry::Reason;

use super::layout::Layout;

/// Instances of one transaction. etcd takes 128 operations by default, those of the largest part with them.
const MOST_PARTS: usize = 100;
/// Bytes of one transaction, about. etcd takes 1.5 MiB by default.
const MOST_BYTES: usize = 1 << 20;

/// What is to be done about one instance.
pub(super) struct Part {
    /// Which write of the batch.
    pub(super) write: usize,
    /// Whether it changes the instance, so that the watch brings its revision.
    pub(super) changes: bool,
    /// Why the instance is removed, when it is.
    pub(super) reason: Option<Reason>,
    pub(super) request: TxnRequest,
}

/// A transaction to carry out.
pub(super) struct Transaction {
    parts: Vec<Part>,
    bytes: usize,
    /// Why instances are removed: one reason for all of them.
    reason: Option<Reason>,
}

/// What came of one part.
pub(super) struct Committed {
    pub(super) write: usize,
    changes: bool,
    /// The revision of the transaction when every comparison of the part held.
    result: Result<Option<u64>, Error>,
}

impl Committed {
    /// The revision that it made, when every comparison held; 0 when the instance stays as it is.
    pub(super) fn revision(&self) -> Option<u64> {
        let revision = self.result.as_ref().ok().copied().flatten()?;
        Some(if self.changes { revision } else { 0 })
    }

    /// Why nobody knows what came of it.
    pub(super) fn failure(&self) -> Option<String> {
        self.result.as_ref().err().map(ToString::to_string)
    }
}

/// `parts` in as few transactions as etcd takes.
pub(super) fn pack(parts: Vec<Part>) -> Vec<Transaction> {
    let mut packed: Vec<Transaction> = Vec::new();
    for part in parts {
        match packed.last_mut().filter(|last| last.has_room(&part)) {
            Some(last) => last.add(part),
            None => packed.push(Transaction::of(vec![part])),
        }
    }
    packed
}

impl Transaction {
    fn of(parts: Vec<Part>) -> Self {
        let mut transaction = Self { parts: Vec::new(), bytes: 0, reason: None };
        parts.into_iter().for_each(|part| transaction.add(part));
        transaction
    }

    fn add(&mut self, part: Part) {
        self.bytes += part.request.size();
        self.reason = self.reason.or(part.reason);
        self.parts.push(part);
    }

    fn has_room(&self, part: &Part) -> bool {
        let one_reason = self.reason.is_none() || part.reason.is_none() || self.reason == part.reason;
        one_reason && self.parts.len() < MOST_PARTS && self.bytes + part.request.size() <= MOST_BYTES
    }

    /// Carries it out, in halves when this etcd takes less at once. What came of each part, in any order.
    pub(super) async fn carry_out(self, client: &Client, layout: &Layout) -> Vec<Committed> {
        let (mut waiting, mut results) = (vec![self], Vec::new());
        while let Some(mut transaction) = waiting.pop() {
            match client.transaction(&transaction.request(layout)).await {
                Err(error) if error.is_too_large() && transaction.parts.len() > 1 => {
                    let half = transaction.parts.split_off(transaction.parts.len() / 2);
                    waiting.extend([Self::of(half), Self::of(transaction.parts)]);
                }
                result => results.extend(transaction.committed(&result)),
            }
        }
        results
    }

    fn request(&self, layout: &Layout) -> TxnRequest {
        // In front of what is removed: a watch brings changes in the order of the operations.
        let reason = self.reason.map(|reason| RequestOp::put(layout.removal(), reason.as_str().as_bytes().to_vec()));
        let parts = self.parts.iter().map(|part| RequestOp::transaction(part.request.clone()));
        TxnRequest { compare: Vec::new(), success: reason.into_iter().chain(parts).collect() }
    }

    fn committed(self, result: &Result<TxnResponse, Error>) -> impl Iterator<Item = Committed> {
        let before = usize::from(self.reason.is_some());
        self.parts.into_iter().enumerate().map(move |(index, Part { write, changes, .. })| {
            let result = result.as_ref().map_err(Error::clone).map(|answer| {
                let kept =
                    answer.responses.get(before + index).is_some_and(|part| part.is_transaction_that_succeeded());
                answer.header.filter(|_| kept).and_then(|header| u64::try_from(header.revision).ok())
            });
            Committed { write, changes, result }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshwright_etcd::Compare;
    use meshwright_testkit::Etcd;

    use super::*;

    fn part(write: usize, reason: Option<Reason>, bytes: usize) -> Part {
        let request = TxnRequest {
            compare: vec![Compare::modified(vec![0; 8], 1)],
            success: vec![RequestOp::put(vec![0; 8], vec![0; bytes])],
        };
        Part { write, changes: true, reason, request }
    }

    fn sizes(parts: Vec<Part>) -> Vec<usize> {
        pack(parts).iter().map(|transaction| transaction.parts.len()).collect()
    }

    #[test]
    fn parts_share_a_transaction_as_far_as_etcd_takes_them_and_removals_have_one_reason() {
        assert!(sizes(Vec::new()).is_empty());
        assert_eq!(sizes((0..250).map(|write| part(write, None, 300)).collect()), [100, 100, 50]);
        assert_eq!(sizes((0..10).map(|write| part(write, None, 400 << 10)).collect()), [2, 2, 2, 2, 2]);
        let reasons = [None, Some(Reason::Expired), Some(Reason::Expired), None, Some(Reason::Deregistered), None];
        let parts = reasons.into_iter().enumerate().map(|(write, reason)| part(write, reason, 1));
        let packed = pack(parts.collect());
        let shape = packed.iter().map(|transaction| (transaction.parts.len(), transaction.reason)).collect::<Vec<_>>();
        assert_eq!(shape, [(4, Some(Reason::Expired)), (2, Some(Reason::Deregistered))]);
        let layout = Layout::new("/mesh/");
        assert_eq!(packed[0].request(&layout).success.len(), 5, "the reason, and four parts");
    }

    #[tokio::test]
    async fn a_part_whose_instance_was_changed_keeps_no_other_from_being_written_and_all_others_have_one_revision() {
        let layout = Layout::new("/mesh/");
        // The second takes so few operations that a transaction goes in halves: it has 8 parts of one operation each.
        for (etcd, revisions) in [(Etcd::start(), 1), (Etcd::start_with(&["--max-txn-ops=7"]), 2)] {
            let endpoint = etcd.address().to_string().parse().unwrap();
            let client = Client::connect(&endpoint, None, None, Duration::from_secs(20)).await.unwrap();
            let part = |write: usize| {
                let key = format!("/mesh/{write}").into_bytes();
                // The fifth expects what is not there.
                let compare = vec![Compare::modified(key.clone(), if write == 5 { 999 } else { 0 })];
                let reason = (write == 0).then_some(Reason::Expired);
                let request = TxnRequest { compare, success: vec![RequestOp::put(key, b"v".to_vec())] };
                Part { write, changes: write != 7, reason, request }
            };
            let mut committed = Vec::new();
            for transaction in pack((0..8).map(part).collect()) {
                committed.extend(transaction.carry_out(&client, &layout).await);
            }
            committed.sort_by_key(|part| part.write);
            assert_eq!(committed.iter().find_map(Committed::failure), None);
            let kept: Vec<Option<u64>> = committed.iter().map(Committed::revision).collect();
            assert_eq!((kept[5], kept[7]), (None, Some(0)));
            let mut made: Vec<u64> = kept.into_iter().flatten().filter(|revision| *revision > 0).collect();
            assert_eq!(made.len(), 6);
            made.sort_unstable();
            made.dedup();
            assert_eq!(made.len(), revisions);
        }
    }
}
