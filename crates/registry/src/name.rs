//! Names of namespaces, services and instances, valid from the moment they exist.
//!
//! It does not know which of them there are: that is `registry.rs`.

use std::fmt;
use std::sync::Arc;

/// Namespace of registrations that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Longest name of a service.
const MAX_SERVICE: usize = 128;
/// Longest namespace, as in Kubernetes.
const MAX_NAMESPACE: usize = 63;
/// Longest id of an instance.
const MAX_ID: usize = 256;

/// A value that may not be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?} is not allowed: it must be {allowed}")]
pub struct Invalid {
    /// Which field.
    pub field: &'static str,
    /// What it was, cut to a length that can be shown.
    pub value: String,
    /// What it must be.
    pub allowed: &'static str,
}

impl Invalid {
    /// `value` is not what `field` must be.
    pub fn new(field: &'static str, value: &str, allowed: &'static str) -> Self {
        Self { field, value: value.chars().take(80).collect(), allowed }
    }
}

/// A service: its name in its namespace. Names do not differ by case; they are kept in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey(Arc<Names>);

/// Every instance, lease and change names its service: they share one copy, behind one pointer.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Names {
    namespace: Box<str>,
    name: Box<str>,
}

impl ServiceKey {
    /// The service `name` in `namespace`; an empty namespace means [`DEFAULT_NAMESPACE`].
    ///
    /// # Errors
    ///
    /// A name is 1 to 128 letters, digits, `.`, `-` and `_`, with a letter or digit at both ends; a namespace is a DNS
    /// label of at most 63 characters.
    pub fn new(namespace: &str, name: &str) -> Result<Self, Invalid> {
        let namespace = if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace };
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !is_word(name, MAX_SERVICE, inner) || name.contains("..") {
            let allowed = "1 to 128 letters, digits, `.`, `-` and `_`, with a letter or digit at both ends";
            return Err(Invalid::new("service name", name, allowed));
        }
        if !is_word(namespace, MAX_NAMESPACE, |byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            let allowed = "1 to 63 letters, digits and `-`, with a letter or digit at both ends";
            return Err(Invalid::new("namespace", namespace, allowed));
        }
        let (namespace, name) = (namespace.to_ascii_lowercase().into(), name.to_ascii_lowercase().into());
        Ok(Self(Arc::new(Names { namespace, name })))
    }

    /// The namespace, in lower case.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The name, in lower case.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace() == DEFAULT_NAMESPACE {
            return f.write_str(self.name());
        }
        write!(f, "{}.{}", self.name(), self.namespace())
    }
}

/// An instance: its id in its service. Ids differ by case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    /// Service that it belongs to.
    pub service: ServiceKey,
    id: Arc<str>,
}

impl InstanceKey {
    /// The instance `id` of `service`.
    ///
    /// # Errors
    ///
    /// An id is 1 to 256 visible ASCII characters.
    pub fn new(service: ServiceKey, id: &str) -> Result<Self, Invalid> {
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Invalid::new("instance id", id, "1 to 256 visible ASCII characters"));
        }
        Ok(Self { service, id: id.into() })
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same key with the names that `service` has already, so that equal names are kept once.
    pub(crate) fn shared(&self, service: &ServiceKey) -> Self {
        Self { service: service.clone(), id: Arc::clone(&self.id) }
    }

    pub(crate) fn id_shared(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.id)
    }
}

/// A letter or digit at both ends, `inner` everywhere.
fn is_word(text: &str, longest: usize, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= longest && end(bytes.first()) && end(bytes.last()) && bytes.iter().all(|byte| inner(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_any_case_and_show_their_namespace_unless_it_is_the_default() {
        let key = ServiceKey::new("", "User-Service").unwrap();
        assert_eq!(key, ServiceKey::new("DEFAULT", "user-service").unwrap());
        assert_eq!(key.to_string(), "user-service");
        assert_eq!(ServiceKey::new("shop", "cart_v2").unwrap().to_string(), "cart_v2.shop");
    }

    #[test]
    fn names_that_could_mislead_are_refused() {
        for name in ["", "-a", "a-", "a b", "a/b", "a..b", "a\n", "ä", &"a".repeat(129)] {
            assert!(ServiceKey::new("", name).is_err(), "{name:?}");
        }
        for namespace in ["a.b", "a_b", "-", &"a".repeat(64)] {
            assert!(ServiceKey::new(namespace, "a").is_err(), "{namespace:?}");
        }
        let service = ServiceKey::new("", "a").unwrap();
        for id in ["", "a b", "a\u{7f}", "ä", &"a".repeat(257)] {
            assert!(InstanceKey::new(service.clone(), id).is_err(), "{id:?}");
        }
        assert!(InstanceKey::new(service, "host:users:8080").is_ok());
    }
}
