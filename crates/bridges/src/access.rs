//! Who may use the registry: whoever reaches it on the loopback interface, or whoever shows a token.
//!
//! Unmodified clients of other registries send tokens in their own ways, and all of them count: `Authorization: Bearer`,
//! `X-Consul-Token`, `?token=`, and the password of Basic authentication (`http://any:TOKEN@host/eureka`). The file of tokens
//! is read again when it changes; one that is wrong then changes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meshwright_registry::ServiceKey;
use meshwright_site::Ends;

use crate::api::problem::Problem;

/// Shorter tokens can be guessed.
const SHORTEST_TOKEN: usize = 16;
/// Time between two looks at the file of tokens.
const LOOK: Duration = Duration::from_secs(1);

/// What somebody may do. Without limits it is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    namespace: Option<String>,
    service: Option<String>,
    read_only: bool,
}

impl Access {
    /// Everything.
    pub const ALL: Self = Self { namespace: None, service: None, read_only: false };

    /// Whether `service` may be looked at.
    pub fn may_read(&self, service: &ServiceKey) -> bool {
        let fits = |limit: &Option<String>, value: &str| limit.as_deref().is_none_or(|limit| limit == value);
        fits(&self.namespace, service.namespace()) && fits(&self.service, service.name())
    }

    /// Whether `service` may be changed.
    ///
    /// # Errors
    ///
    /// Why not, as an answer.
    pub(crate) fn write(&self, service: &ServiceKey) -> Result<(), Problem> {
        match !self.read_only && self.may_read(service) {
            true => Ok(()),
            false => Err(Problem::forbidden(&format!("this token may not change {service}"))),
        }
    }

    /// Whether keys and sessions may be looked at, and changed when `write`: they belong to no service, so that a token for one is none
    /// for them.
    pub(crate) fn keys(&self, write: bool) -> Result<(), Problem> {
        let everywhere = self.namespace.is_none() && self.service.is_none();
        match everywhere && !(write && self.read_only) {
            true => Ok(()),
            false if write => Err(Problem::forbidden("this token may not change keys and sessions")),
            false => Err(Problem::forbidden("this token may not see keys and sessions")),
        }
    }

    /// Whether `service` may be looked at, as an answer.
    pub(crate) fn read(&self, service: &ServiceKey) -> Result<(), Problem> {
        match self.may_read(service) {
            true => Ok(()),
            false => Err(Problem::forbidden(&format!("this token may not see {service}"))),
        }
    }
}

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("cannot read the tokens in {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// A token and what it allows.
type Grant = (String, Access);

/// Tokens and what each may do. Without any, the registry is open to the loopback interface and to nobody else. Clones are
/// the same tokens, also after they were read again.
#[derive(Clone, Default)]
pub struct Tokens {
    path: Option<PathBuf>,
    tokens: Arc<RwLock<Arc<[Grant]>>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("path", &self.path).field("count", &self.grants().len()).finish()
    }
}

impl Tokens {
    /// Reads a file with a token in each line, followed by what limits it: `namespace=N`, `service=S`, `read-only`. Empty
    /// lines and lines that begin with `#` are left out.
    ///
    /// # Errors
    ///
    /// It cannot be read, has no token, or a line is wrong; the message says which. No token is in a message.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let tokens = Arc::new(RwLock::new(Self::grants_of(path)?));
        Ok(Self { path: Some(path.to_owned()), tokens })
    }

    fn grants(&self) -> Arc<[Grant]> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again whenever it changes, for ever. What is wrong with it is logged, and the tokens stay. It is read
    /// rather than watched: secrets are often exchanged by a link that is moved, on file systems that tell nobody.
    pub async fn follow(self) {
        let Some(path) = self.path.clone() else { return };
        let mut wrong = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let file = path.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || Self::grants_of(&file)).await else { return };
            let error = match read {
                Ok(grants) if grants == self.grants() => None,
                Ok(grants) => {
                    tracing::info!(path = %path.display(), tokens = grants.len(), "the registry's tokens were read again");
                    *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = grants;
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = error.as_ref().filter(|error| wrong.as_ref() != Some(*error)) {
                tracing::warn!(error, "the registry's tokens stay as they were");
            }
            wrong = error;
        }
    }

    fn grants_of(path: &Path) -> Result<Arc<[Grant]>, TokensError> {
        let text =
            fs::read_to_string(path).map_err(|source| TokensError::Unreadable { path: path.to_owned(), source })?;
        let wrong = |line: usize, reason: &str| TokensError::Line {
            path: path.to_owned(),
            line: line + 1,
            reason: reason.to_owned(),
        };
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            let Some(token) = words.next().filter(|token| !token.starts_with('#')) else { continue };
            if token.len() < SHORTEST_TOKEN {
                return Err(wrong(number, "a token has at least 16 characters"));
            }
            let mut access = Access::ALL;
            for word in words {
                match word.split_once('=') {
                    Some(("namespace", value)) => access.namespace = Some(value.to_ascii_lowercase()),
                    Some(("service", value)) => access.service = Some(value.to_ascii_lowercase()),
                    None if word == "read-only" => access.read_only = true,
                    _ => return Err(wrong(number, "a token is limited by namespace=N, service=S and read-only")),
                }
            }
            tokens.push((token.to_owned(), access));
        }
        match tokens.is_empty() {
            true => Err(wrong(0, "there is no token in it")),
            false => Ok(tokens.into()),
        }
    }

    /// What the sender of a request may do.
    fn access(&self, headers: &HeaderMap, uri: &Uri, ends: Option<&Ends>) -> Result<Access, Refused> {
        let grants = self.grants();
        if grants.is_empty() {
            let loopback = ends.is_some_and(|ends| ends.local.ip().to_canonical().is_loopback());
            return if loopback { Ok(Access::ALL) } else { Err(Refused::Closed) };
        }
        let shown = shown(headers, uri).ok_or(Refused::NoToken)?;
        // Every token is compared to its end, so that the time tells nothing about any.
        let mut found = None;
        for (token, access) in grants.iter() {
            if same(token.as_bytes(), shown.as_bytes()) {
                found = Some(access);
            }
        }
        found.cloned().ok_or(Refused::WrongToken)
    }
}

/// Why somebody may do nothing.
enum Refused {
    /// There are no tokens, and it came from outside.
    Closed,
    NoToken,
    WrongToken,
}

/// The token that a request shows, in whatever way.
fn shown(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    if let Some(token) = headers.get("x-consul-token") {
        return token.to_str().ok().map(str::to_owned);
    }
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let (scheme, rest) = value.split_once(' ')?;
        return match scheme.to_ascii_lowercase().as_str() {
            "bearer" => Some(rest.trim().to_owned()),
            "basic" => {
                let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
                decoded.split_once(':').map(|(_, password)| password.to_owned())
            }
            _ => None,
        };
    }
    let query = uri.query()?;
    query.split('&').find_map(|pair| pair.strip_prefix("token=")).map(str::to_owned)
}

fn same(left: &[u8], right: &[u8]) -> bool {
    let mut difference = u8::from(left.len() != right.len());
    for (index, byte) in left.iter().enumerate() {
        difference |= byte ^ right.get(index).copied().unwrap_or_default();
    }
    difference == 0
}

/// A layer that lets in who may, with its [`Access`] as an extension, and refuses the rest. Where tokens are asked for, any
/// `Host` will do: a page that was lured here by its name has none to show. A browser that keeps the password of Basic
/// authentication would show it for any page, though, so that pages of other sites may change nothing in either case.
pub(crate) async fn check(tokens: Tokens, mut request: Request, next: Next) -> Response {
    let ends = request.extensions().get::<Ends>().copied();
    let access = tokens.access(request.headers(), request.uri(), ends.as_ref());
    let open = tokens.grants().is_empty();
    let guarded = ends.and_then(|ends| meshwright_site::refusal(&request, open.then_some(ends.local.ip())));
    let mut response = match (guarded, access) {
        (Some((status, reason)), _) => Problem::new(status, reason.trim_end()).into_response(),
        (None, Ok(access)) => {
            request.extensions_mut().insert(access);
            next.run(request).await
        }
        (None, Err(refused)) => refusal(&refused),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refusal(refused: &Refused) -> Response<Body> {
    let (status, reason) = match refused {
        Refused::Closed => (
            StatusCode::FORBIDDEN,
            "beyond the loopback interface the registry asks for a token; start it with --registry-tokens FILE",
        ),
        Refused::NoToken => (
            StatusCode::UNAUTHORIZED,
            "show a token: Authorization: Bearer, X-Consul-Token, ?token=, or the password of Basic authentication",
        ),
        Refused::WrongToken => (StatusCode::UNAUTHORIZED, "this token is not known"),
    };
    let mut response = Problem::new(status, reason).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let ways = HeaderValue::from_static("Bearer realm=\"registry\", Basic realm=\"registry\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, ways);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Tokens, String> {
        let path = std::env::temp_dir().join(format!("tokens-{}-{:p}", std::process::id(), text));
        fs::write(&path, text).unwrap();
        let read = Tokens::read(&path).map_err(|error| error.to_string());
        fs::remove_file(&path).unwrap();
        read
    }

    #[test]
    fn tokens_are_limited_by_namespace_service_and_to_reading() {
        let tokens =
            file("# ours\n0123456789abcdef\n\n0123456789abcdeg namespace=shop service=Cart read-only\n").unwrap();
        let key = |namespace, name| ServiceKey::new(namespace, name).unwrap();
        let grants = tokens.grants();
        let (all, cart) = (&grants[0].1, &grants[1].1);
        assert!(!format!("{tokens:?}").contains("0123"), "no token is written anywhere");
        assert!(all.write(&key("", "users")).is_ok());
        assert!(cart.may_read(&key("shop", "cart")) && cart.write(&key("shop", "cart")).is_err());
        assert!(!cart.may_read(&key("shop", "users")) && !cart.may_read(&key("", "cart")));
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line_and_without_its_tokens() {
        for (text, place) in [("short\n", ":1:"), ("\n0123456789abcdef everything\n", ":2:"), ("# none\n", "no token")]
        {
            let error = file(text).unwrap_err();
            assert!(error.contains(place) && !error.contains("0123"), "{error}");
        }
    }

    #[test]
    fn a_token_is_found_wherever_clients_put_it() {
        let tokens = file("0123456789abcdef\n").unwrap();
        let with = |name: &'static str, value: &str, uri: &str| {
            let headers = HeaderMap::from_iter([(
                axum::http::HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )]);
            tokens.access(&headers, &uri.parse().unwrap(), None).is_ok()
        };
        assert!(with("authorization", "Bearer 0123456789abcdef", "/"));
        assert!(with("authorization", &format!("Basic {}", STANDARD.encode("me:0123456789abcdef")), "/"));
        assert!(with("x-consul-token", "0123456789abcdef", "/"));
        assert!(with("accept", "*/*", "/v1/kv/a?dc=1&token=0123456789abcdef"));
        assert!(!with("accept", "*/*", "/v1/kv/a"));
        assert!(!with("authorization", "Bearer 0123456789abcdeX", "/"));
        assert!(!with("authorization", "Bearer 0123456789abcdef0", "/"));
        assert!(!with("authorization", "Bearer 0123456789abcde", "/"));
    }
}
