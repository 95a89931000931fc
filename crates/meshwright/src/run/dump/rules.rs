//! Virtual services as JSON: conditions, rewrites, retries, header changes. Names are Istio's, in snake case.

use meshwright_model::{
    GatewayRef, HeaderMatch, HeaderOperations, HttpMatch, Redirect, RedirectPort, RetryMethods, RetryOn, RetryPolicy,
    Rewrite, StringMatch, VirtualService,
};
use serde_json::{Map, Value, json};

use super::{place, seconds};

pub(super) fn of_virtual_service(service: &VirtualService) -> Value {
    json!({
        "name": service.name,
        "namespace": service.namespace,
        "hosts": service.hosts,
        "gateways": service.gateways.iter().map(of_gateway_ref).collect::<Vec<_>>(),
        "routes": service.http.len(),
        "origin": place(&service.origin),
    })
}

fn of_gateway_ref(reference: &GatewayRef) -> String {
    match reference {
        GatewayRef::Mesh => "mesh".to_owned(),
        GatewayRef::Named { namespace, name } => format!("{namespace}/{name}"),
    }
}

/// One alternative; only what it asks for.
pub(super) fn of_match(wanted: &HttpMatch) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(key.to_owned(), value);
        }
    };
    put("name", wanted.name.as_ref().map(|name| json!(name)));
    put("uri", wanted.uri.as_ref().map(of_string));
    put("ignore_uri_case", wanted.ignore_uri_case.then_some(Value::Bool(true)));
    put("scheme", wanted.scheme.as_ref().map(of_string));
    put("method", wanted.method.as_ref().map(of_string));
    put("authority", wanted.authority.as_ref().map(of_string));
    put("headers", of_conditions(&wanted.headers));
    put("without_headers", of_conditions(&wanted.without_headers));
    put("query_params", of_conditions(&wanted.query));
    put("port", wanted.port.map(|port| json!(port)));
    let gateways = wanted.gateways.as_ref();
    put("gateways", gateways.map(|gateways| gateways.iter().map(of_gateway_ref).collect::<Vec<_>>().into()));
    Value::Object(out)
}

fn of_conditions(conditions: &[(String, HeaderMatch)]) -> Option<Value> {
    if conditions.is_empty() {
        return None;
    }
    let object = conditions.iter().map(|(name, condition)| {
        let value = match condition {
            HeaderMatch::Present => json!({}),
            HeaderMatch::Value(value) => of_string(value),
        };
        (name.clone(), value)
    });
    Some(Value::Object(object.collect()))
}

fn of_string(wanted: &StringMatch) -> Value {
    match wanted {
        StringMatch::Exact(text) => json!({ "exact": text }),
        StringMatch::Prefix(text) => json!({ "prefix": text }),
        StringMatch::Regex(text) => json!({ "regex": text }),
    }
}

pub(super) fn of_rewrite(rewrite: &Rewrite) -> Value {
    let regex = rewrite.uri_regex.as_ref();
    json!({
        "uri": rewrite.uri,
        "uri_regex_rewrite": regex.map(|(pattern, replacement)| json!({ "match": pattern, "rewrite": replacement })),
        "authority": rewrite.authority,
    })
}

pub(super) fn of_redirect(redirect: &Redirect) -> Value {
    let port = match redirect.port {
        RedirectPort::ProtocolDefault => json!("protocol-default"),
        RedirectPort::FromRequest => json!("from-request"),
        RedirectPort::Number(number) => json!(number),
    };
    json!({
        "status": redirect.status,
        "scheme": redirect.scheme,
        "authority": redirect.authority,
        "port": port,
        "uri": redirect.uri,
        "prefix_rewrite": redirect.prefix_rewrite,
    })
}

pub(super) fn of_retries(retries: &RetryPolicy) -> Value {
    json!({
        "attempts": retries.attempts,
        "per_try_timeout": retries.per_try_timeout.map(seconds),
        "retry_on": of_retry_on(&retries.on),
        "backoff": seconds(retries.backoff),
        "avoid_previous_hosts": retries.avoid_previous_hosts,
        "methods": match retries.methods {
            RetryMethods::Any => "ANY",
            RetryMethods::Idempotent => "IDEMPOTENT",
            RetryMethods::Safe => "SAFE",
        },
        "max_retry_after": seconds(retries.max_retry_after),
    })
}

/// The words of `retryOn`.
fn of_retry_on(on: &RetryOn) -> Vec<String> {
    let words = [
        (on.server_error, "5xx"),
        (on.gateway_error, "gateway-error"),
        (on.reset, "reset"),
        (on.reset_before_request, "reset-before-request"),
        (on.connect_failure, "connect-failure"),
        (on.refused_stream, "refused-stream"),
        (on.retriable_4xx, "retriable-4xx"),
        (on.envoy_ratelimited, "envoy-ratelimited"),
    ];
    let named = words.into_iter().filter(|(is_on, _)| *is_on).map(|(_, word)| word.to_owned());
    let codes = on.status_codes.iter().map(ToString::to_string);
    named.chain(codes).chain(on.grpc.iter().map(|code| format!("grpc-status {code}"))).collect()
}

/// Header changes; `null` when there are none.
pub(super) fn of_headers(operations: &HeaderOperations) -> Value {
    if operations.is_empty() {
        return Value::Null;
    }
    let pairs = |pairs: &[(String, String)]| -> Vec<Value> {
        pairs.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
    };
    json!({
        "request": {
            "set": pairs(&operations.request_set),
            "add": pairs(&operations.request_add),
            "remove": operations.request_remove,
        },
        "response": {
            "set": pairs(&operations.response_set),
            "add": pairs(&operations.response_add),
            "remove": operations.response_remove,
        },
    })
}
