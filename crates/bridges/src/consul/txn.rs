//! Transactions by Consul's API: operations on keys, all or none, in one revision. Operations on services, nodes and checks are refused
//! by name.

use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meshwright_registry::{Failure, KeyStep, Lock, Shown};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Call, Refused, bad, key_error, kv, no_path, refused};

/// Most operations of a transaction.
const MOST_OPERATIONS: usize = 64;
/// Largest body, as with Consul: what it may set fits into one request to a store that processes share.
const LARGEST_BODY: usize = 512 << 10;

/// An operation on a key. Names do not differ by case, as with Consul.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Operation {
    verb: String,
    key: String,
    /// Base64.
    value: Option<String>,
    flags: Option<u64>,
    /// 0, which is left out as well, is that of a key that is not there.
    index: Option<u64>,
    /// None, for `check-session`, is that nobody has the key locked.
    session: Option<String>,
}

/// `PUT /v1/txn`.
pub(super) async fn serve(call: &Call<'_>, method: &Method, body: &[u8]) -> Result<Answer, Refused> {
    if method != Method::PUT {
        return Err(no_path());
    }
    if body.len() > LARGEST_BODY {
        let sentence = format!("Request body ({} bytes) too large, max size: {LARGEST_BODY} bytes", body.len());
        return Err((StatusCode::PAYLOAD_TOO_LARGE, sentence));
    }
    let operations: Vec<Map<String, Value>> =
        serde_json::from_slice(body).map_err(|error| bad(format!("Failed to parse body: {error}")))?;
    if operations.len() > MOST_OPERATIONS {
        let sentence = format!("Transaction contains too many operations ({} > {MOST_OPERATIONS})", operations.len());
        return Err((StatusCode::PAYLOAD_TOO_LARGE, sentence));
    }
    let steps = operations
        .into_iter()
        .enumerate()
        .map(|(number, operation)| step(operation).map_err(|sentence| bad(format!("operation {number}: {sentence}"))));
    let steps: Vec<KeyStep> = steps.collect::<Result<_, _>>()?;
    call.access.keys(!steps.iter().all(KeyStep::only_reads)).map_err(refused)?;
    match call.keys.transact(steps).await.map_err(key_error)? {
        Ok(shown) => {
            let results: Vec<Value> = shown.iter().map(result).collect();
            Ok(Answer::json(json!({ "Results": results, "Errors": null })))
        }
        Err(failures) => {
            let of = |Failure { step, reason }: &Failure| json!({ "OpIndex": step, "What": reason });
            let errors: Vec<Value> = failures.iter().map(of).collect();
            let answer = Answer::json(json!({ "Results": null, "Errors": errors }));
            Ok(Answer { status: StatusCode::CONFLICT, ..answer })
        }
    }
}

fn result(shown: &Shown) -> Value {
    let mut shape = kv::shape(&shown.pair);
    if !shown.value {
        shape["Value"] = Value::Null;
    }
    json!({ "KV": shape })
}

/// The step that an operation stands for, or why it stands for none.
fn step(operation: Map<String, Value>) -> Result<KeyStep, String> {
    let mut parts = operation.into_iter();
    let (kind, body) = match (parts.next(), parts.next()) {
        (Some(part), None) => part,
        _ => return Err("it must be an object with the one member \"KV\"".to_owned()),
    };
    if !kind.eq_ignore_ascii_case("kv") {
        return Err(format!("{kind:?} is not served in transactions; \"KV\" is"));
    }
    let Value::Object(fields) = body else { return Err("\"KV\" must be an object".to_owned()) };
    let fields: Map<String, Value> =
        fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let Operation { verb, key, value, flags, index, session } =
        serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
    let tree = matches!(verb.as_str(), "get-tree" | "delete-tree");
    if key.is_empty() && !tree {
        return Err("Missing key name".to_owned());
    }
    let key = key.as_str().into();
    let index = index.unwrap_or(0);
    let session = session.unwrap_or_default();
    if session.is_empty() && matches!(verb.as_str(), "lock" | "unlock") {
        return Err(format!("{verb} needs a Session"));
    }
    let put = |cas: Option<u64>, lock: Lock| {
        let value = STANDARD.decode(value.unwrap_or_default());
        let value = value.map_err(|error| format!("Value is no base64: {error}"))?;
        Ok(KeyStep::Put { key: std::sync::Arc::clone(&key), value: value.into(), flags: flags.unwrap_or(0), cas, lock })
    };
    match verb.as_str() {
        "set" => put(None, Lock::Keep),
        "cas" => put(Some(index), Lock::Keep),
        "lock" => put(None, Lock::Acquire(session.into())),
        "unlock" => put(None, Lock::Release(session.into())),
        "get" => Ok(KeyStep::Get { key, required: true }),
        "get-or-empty" => Ok(KeyStep::Get { key, required: false }),
        "get-tree" => Ok(KeyStep::List(key)),
        "check-index" => Ok(KeyStep::CheckIndex(key, index)),
        "check-session" => Ok(KeyStep::CheckSession(key, session)),
        "check-not-exists" => Ok(KeyStep::CheckAbsent(key)),
        "delete" => Ok(KeyStep::Delete { key, cas: None }),
        "delete-cas" => Ok(KeyStep::Delete { key, cas: Some(index) }),
        "delete-tree" => Ok(KeyStep::DeletePrefix(key)),
        _ => Err(format!(
            "unknown KV verb {verb:?}: set, cas, lock, unlock, get, get-or-empty, get-tree, check-index, check-session, \
             check-not-exists, delete, delete-cas or delete-tree"
        )),
    }
}
