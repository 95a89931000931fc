//! Keys by Consul's API: one, all that begin so, or their names; conditions, locks, blocking queries.

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meshwright_registry::{KeyAction, KeyScope, Keys, Lock, Pair};
use serde_json::{Value, json};

use super::{Answer, Body, Call, Refused, bad, key_error, no_path, refused};
use crate::query;

/// Most bytes of the values in one answer.
const LARGEST_ANSWER: usize = 32 << 20;

/// `/v1/kv/KEY`.
pub(super) async fn serve(call: &Call<'_>, (method, path): (&Method, &str), body: Bytes) -> Result<Answer, Refused> {
    call.access.keys(method != Method::GET).map_err(refused)?;
    // Keys are paths of their own: none of their slashes is left out.
    let key = path.strip_prefix("/v1/kv").map(|rest| rest.strip_prefix('/').unwrap_or(rest)).ok_or_else(no_path)?;
    if !query::is_text(key) {
        return Err(bad("a key is UTF-8"));
    }
    let key = query::decode(key);
    match method.as_str() {
        "GET" => get(call, &key).await,
        "PUT" => put(call, &key, &body).await,
        "DELETE" => delete(call, &key).await,
        _ => Err(no_path()),
    }
}

fn number(call: &Call<'_>, name: &str) -> Result<Option<u64>, Refused> {
    let read = |text: &str| text.parse().map_err(|_| bad(format!("Invalid {name} {text:?}: it is a number")));
    call.parameter(name).map(read).transpose()
}

/// At most one of `names` may be asked for.
fn no_conflict(call: &Call<'_>, names: &[&str]) -> Result<(), Refused> {
    let given: Vec<&str> = names.iter().filter(|name| call.parameter(name).is_some()).copied().collect();
    match given.len() > 1 {
        true => Err(bad(format!("Conflicting flags: {}", given.join(", ")))),
        false => Ok(()),
    }
}

fn missing() -> Refused {
    bad("Missing key name")
}

async fn get(call: &Call<'_>, key: &str) -> Result<Answer, Refused> {
    let (recurse, names) = (call.flag("recurse"), call.flag("keys"));
    let scope = match recurse || names {
        true => KeyScope::Prefix(key),
        false if key.is_empty() => return Err(missing()),
        false => KeyScope::Key(key),
    };
    if let Some((index, wait)) = call.waits()? {
        let (now, mut at) = call.keys.read(|keys| (keys.index(scope), keys.revision()));
        // Any other index than that of now has missed something.
        if now == index {
            let changed = |keys: &Keys| {
                let changed = keys.changed_since(at, scope);
                at = keys.revision();
                changed
            };
            let _place = call.place()?;
            call.keys.wait(wait, changed).await;
        }
    }
    call.keys.read(|keys| {
        let index = keys.index(scope);
        let pairs: Vec<&Pair> = match scope {
            KeyScope::Prefix(prefix) => keys.with_prefix(prefix).map(AsRef::as_ref).collect(),
            KeyScope::Key(key) => keys.pair(key).map(AsRef::as_ref).into_iter().collect(),
        };
        if pairs.is_empty() && !(names && key.is_empty()) {
            return Ok(Answer { body: Body::Empty, status: StatusCode::NOT_FOUND, ..Answer::at(Value::Null, index) });
        }
        if names {
            return Ok(Answer::at(json!(listed(&pairs, key, call.parameter("separator"))), index));
        }
        if let ([pair], true) = (pairs.as_slice(), call.flag("raw")) {
            let body = Body::Raw(Bytes::copy_from_slice(&pair.value));
            return Ok(Answer { body, ..Answer::at(Value::Null, index) });
        }
        if pairs.iter().map(|pair| pair.size()).sum::<usize>() > LARGEST_ANSWER {
            let sentence = "the values are more than 32 MiB together; ask for their names with ?keys, or for less";
            return Err((StatusCode::PAYLOAD_TOO_LARGE, sentence.to_owned()));
        }
        Ok(Answer::at(pairs.into_iter().map(shape).collect(), index))
    })
}

/// Names of keys, each up to the first separator behind the prefix, once.
fn listed(pairs: &[&Pair], prefix: &str, separator: Option<&str>) -> Vec<String> {
    let separator = separator.filter(|separator| !separator.is_empty());
    let mut names: Vec<String> = Vec::new();
    for pair in pairs {
        let rest = &pair.key[prefix.len()..];
        let cut = separator.and_then(|separator| rest.find(separator).map(|at| prefix.len() + at + separator.len()));
        let name = &pair.key[..cut.unwrap_or(pair.key.len())];
        if names.last().is_none_or(|last| last != name) {
            names.push(name.to_owned());
        }
    }
    names
}

pub(super) fn shape(pair: &Pair) -> Value {
    let value = (!pair.value.is_empty()).then(|| STANDARD.encode(&pair.value));
    let mut shape = json!({
        "LockIndex": pair.lock_index, "Key": pair.key.as_ref(), "Flags": pair.flags, "Value": value,
        "CreateIndex": pair.created, "ModifyIndex": pair.modified,
    });
    if let Some(session) = &pair.session {
        shape["Session"] = json!(session.as_ref());
    }
    shape
}

async fn put(call: &Call<'_>, key: &str, value: &[u8]) -> Result<Answer, Refused> {
    if key.is_empty() {
        return Err(missing());
    }
    no_conflict(call, &["cas", "acquire", "release"])?;
    let most = call.keys.read(|keys| keys.limits().value_bytes);
    if value.len() > most {
        let sentence = format!("Request body ({} bytes) too large, max size: {most} bytes", value.len());
        return Err((StatusCode::PAYLOAD_TOO_LARGE, sentence));
    }
    let lock = match (call.parameter("acquire"), call.parameter("release")) {
        (Some(session), _) => Lock::Acquire(session.into()),
        (None, Some(session)) => Lock::Release(session.into()),
        (None, None) => Lock::Keep,
    };
    let (flags, cas) = (number(call, "flags")?.unwrap_or(0), number(call, "cas")?);
    done(call, KeyAction::Put { key: key.into(), value: value.into(), flags, cas, lock }).await
}

async fn delete(call: &Call<'_>, key: &str) -> Result<Answer, Refused> {
    no_conflict(call, &["cas", "recurse"])?;
    if call.flag("recurse") {
        return done(call, KeyAction::DeletePrefix { prefix: key.into(), most: usize::MAX }).await;
    }
    if key.is_empty() {
        return Err(missing());
    }
    done(call, KeyAction::Delete { key: key.into(), cas: number(call, "cas")? }).await
}

async fn done(call: &Call<'_>, action: KeyAction) -> Result<Answer, Refused> {
    call.keys.propose(action).await.map(|done| Answer::json(Value::Bool(done))).map_err(key_error)
}
