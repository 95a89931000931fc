//! The messages of etcd's `rpc.proto` and `kv.proto` (version 3.4 and later) that are used here, with their field numbers.
//! Fields that nobody here sets or reads are left out; protobuf skips them.

use prost::{Message, Oneof};

/// What every answer says about the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ResponseHeader {
    /// Which cluster.
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    /// Revision of the whole store when the answer was made.
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

/// A key with its value.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeyValue {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Revision that made the key.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// Revision of the last change; of the deletion in an event of one.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// The value.
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
}

/// Asks for keys.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RangeRequest {
    /// First key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// First key that is not wanted any more; empty asks for `key` alone.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// Most keys of the answer; 0 is no limit.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// State at this revision; 0 is the newest.
    #[prost(int64, tag = "4")]
    pub revision: i64,
    /// As the member has it, without asking the others whether it is behind. With a revision that this member named before it makes
    /// no difference to the answer.
    #[prost(bool, tag = "7")]
    pub serializable: bool,
    /// Without values.
    #[prost(bool, tag = "8")]
    pub keys_only: bool,
}

/// Keys in their order.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RangeResponse {
    /// About the cluster.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The keys.
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` cut something off.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// Sets a key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PutRequest {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
    /// The key goes with this lease; 0 is none.
    #[prost(int64, tag = "3")]
    pub lease: i64,
}

/// Deletes keys.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeleteRangeRequest {
    /// First key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// First key that stays; empty deletes `key` alone.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RequestOp {
    /// Which.
    #[prost(oneof = "Operation", tags = "2, 3, 4")]
    pub(crate) request: Option<Operation>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(crate) enum Operation {
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    Delete(DeleteRangeRequest),
    #[prost(message, tag = "4")]
    Transaction(TxnRequest),
}

impl RequestOp {
    /// Sets `key` to `value`.
    pub fn put(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { request: Some(Operation::Put(PutRequest { key, value, lease: 0 })) }
    }

    /// Sets `key` to `value` for as long as `lease` lasts.
    pub fn put_with_lease(key: Vec<u8>, value: Vec<u8>, lease: i64) -> Self {
        Self { request: Some(Operation::Put(PutRequest { key, value, lease })) }
    }

    /// Deletes `key`.
    pub fn delete(key: Vec<u8>) -> Self {
        Self { request: Some(Operation::Delete(DeleteRangeRequest { key, range_end: Vec::new() })) }
    }

    /// A transaction within the transaction: it has an effect or not by its own comparisons. No key may be set by two of them.
    pub fn transaction(request: TxnRequest) -> Self {
        Self { request: Some(Operation::Transaction(request)) }
    }
}

/// What a transaction asks for before it does anything.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Compare {
    /// 0 equal, 1 greater, 2 less, 3 not equal.
    #[prost(int32, tag = "1")]
    pub(crate) result: i32,
    /// 1 revision of creation, 2 revision of the last change.
    #[prost(int32, tag = "2")]
    pub(crate) target: i32,
    /// The key.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) key: Vec<u8>,
    #[prost(oneof = "Target", tags = "5, 6")]
    pub(crate) union: Option<Target>,
    /// First key that is not compared any more; empty compares `key` alone.
    #[prost(bytes = "vec", tag = "64")]
    pub(crate) range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(crate) enum Target {
    #[prost(int64, tag = "5")]
    Created(i64),
    #[prost(int64, tag = "6")]
    Modified(i64),
}

impl Compare {
    /// The last change of `key` has this revision; 0 when there is no such key.
    pub fn modified(key: Vec<u8>, revision: i64) -> Self {
        Self { result: 0, target: 2, key, union: Some(Target::Modified(revision)), range_end: Vec::new() }
    }

    /// There is such a key.
    pub fn exists(key: Vec<u8>) -> Self {
        Self { result: 1, target: 1, key, union: Some(Target::Created(0)), range_end: Vec::new() }
    }

    /// No key that begins with `prefix` was set after `revision`. Those that are gone do not count.
    pub fn none_since(prefix: Vec<u8>, revision: i64) -> Self {
        let range_end = prefix_end(&prefix);
        let after = Some(Target::Modified(revision.saturating_add(1)));
        Self { result: 2, target: 2, key: prefix, union: after, range_end }
    }
}

/// Operations that are carried out together when every comparison holds.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TxnRequest {
    /// All of them must hold.
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    /// What is done then.
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<RequestOp>,
}

impl TxnRequest {
    /// Bytes that it has on the wire.
    pub fn size(&self) -> usize {
        self.encoded_len()
    }
}

/// What came of a transaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TxnResponse {
    /// About the cluster; its revision is that of the transaction when it changed something.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Whether every comparison held.
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    /// What came of each operation, in their order.
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<ResponseOp>,
}

/// What came of one operation of a transaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ResponseOp {
    /// Of a transaction within the transaction.
    #[prost(message, optional, tag = "4")]
    pub transaction: Option<TxnResponse>,
}

impl ResponseOp {
    /// Whether it was a transaction whose comparisons all held.
    pub fn is_transaction_that_succeeded(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.succeeded)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    pub(crate) ttl: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    pub(crate) id: i64,
    #[prost(string, tag = "4")]
    pub(crate) error: String,
}

/// Request of LeaseKeepAlive.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LeaseRequest {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LeaseKeepAliveResponse {
    #[prost(int64, tag = "3")]
    pub(crate) ttl: i64,
}

/// An answer of which nothing is read.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Nothing {}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) password: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    pub(crate) token: String,
}

/// Asks for changes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WatchCreateRequest {
    /// First key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// First key that is not wanted any more; empty asks for `key` alone.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// First revision.
    #[prost(int64, tag = "3")]
    pub start_revision: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) create: Option<WatchCreateRequest>,
}

/// Changes, in the order of their revisions; those of one revision come together.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WatchResponse {
    /// About the cluster.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The watch stands; there is nothing else in this answer.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// The watch is over.
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// With `canceled`: the watch asked for a revision that is compacted; this is the first that can be had.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    /// Why it is over.
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    /// The changes.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

/// One change of one key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Event {
    /// 0 set, 1 deleted.
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    /// The key; of a deletion without a value.
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
}

impl Event {
    /// Whether the key was deleted.
    pub fn is_deletion(&self) -> bool {
        self.kind == 1
    }
}

/// End of the range of all keys that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // Every key from `prefix` on.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_has_the_bytes_that_etcd_expects() {
        let request = TxnRequest {
            compare: vec![Compare::modified(b"k".to_vec(), 7)],
            success: vec![RequestOp::put(b"k".to_vec(), b"v".to_vec()), RequestOp::delete(b"d".to_vec())],
        };
        // By hand, after rpc.proto: field number * 8 + wire type, then the value.
        let compare = [0x0a, 7, 0x10, 2, 0x1a, 1, b'k', 0x30, 7];
        let put = [0x12, 8, 0x12, 6, 0x0a, 1, b'k', 0x12, 1, b'v'];
        let delete = [0x12, 5, 0x1a, 3, 0x0a, 1, b'd'];
        let whole = [&compare[..], &put, &delete].concat();
        assert_eq!(request.encode_to_vec(), whole);
        assert_eq!(request.size(), whole.len());
        let outer = TxnRequest { compare: Vec::new(), success: vec![RequestOp::transaction(request)] };
        let length = whole.len() as u8;
        assert_eq!(outer.encode_to_vec(), [&[0x12, length + 2, 0x22, length], &whole[..]].concat());
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_without_it() {
        assert_eq!(prefix_end(b"/a/"), b"/a0");
        assert_eq!(prefix_end(&[1, 0xff]), [2]);
        assert_eq!(prefix_end(&[0xff]), [0]);
    }
}
