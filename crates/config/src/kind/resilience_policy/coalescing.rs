//! `coalescing`: identical requests wait for one answer.

use std::time::Duration;

use meshwright_model::Coalescing;

use super::number;
use crate::record::Record;

/// How long a request is waited for; nginx's `proxy_cache_lock_timeout` is the same.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const MAX_ANSWER_BYTES: u32 = 256 * 1024;
/// Requests that are waited for; each may hold a copy of an answer.
const MAX_KEYS: u32 = 1_000;
/// Requests that wait.
const MAX_WAITERS: u32 = 10_000;

/// Reads the block.
pub(super) fn read(record: &Record) -> Coalescing {
    let of = |field: &str, default: u32| number(record, field).unwrap_or(default);
    Coalescing {
        timeout: record.duration("timeout").unwrap_or(TIMEOUT),
        max_answer_bytes: of("maxAnswerBytes", MAX_ANSWER_BYTES),
        max_keys: of("maxKeys", MAX_KEYS),
        max_waiters: of("maxWaiters", MAX_WAITERS),
    }
}
