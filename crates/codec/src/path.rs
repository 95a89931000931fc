//! The normal form of paths: what is matched, logged and forwarded is this form.
//!
//! Knows no routes and no queries. Read next: `request`, which applies it to every request target.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr_iter, memchr2};

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// It contains `%00`.
    EncodedNul,
    /// A `%` is not followed by two hexadecimal digits.
    BadEscape,
}

impl PathError {
    /// The reason as one sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAbsolute => "the path does not begin with a slash",
            Self::EncodedNul => "the path has an encoded NUL",
            Self::BadEscape => "the path has a percent sign without two hexadecimal digits",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for PathError {}

/// Brings a path (without query) into the normal form that Istio calls BASE (`pathNormalization: BASE`, Envoy's
/// `normalize_path`), after RFC 3986, section 6.2.2:
///
/// 1. `\` becomes `/`.
/// 2. Percent-encoded unreserved characters (letters, digits, `-._~`) are decoded: `%61` becomes `a`, `%2E` becomes `.`.
///    Every other escape stays as it was sent, in the case it was sent: `%2f`, `%5C`, `%20`, `%25`, `%c0%af`.
/// 3. Segments `.` and `..` are removed as RFC 3986, section 5.2.4 says: `..` takes the segment before it away, an
///    empty one too (`/a//../b` is `/a/b`), and above the root there is only the root.
///
/// Empty segments (`//`) and path parameters (`..;x`) stay. Applying it twice changes nothing. It costs one look at the
/// path, and no allocation, when the path is in normal form already.
///
/// # Errors
/// `%00` and incomplete escapes are refused; Envoy refuses the first and keeps the second, which would make the form
/// depend on how often it is applied. A path that does not begin with `/` is refused.
pub fn normalize_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    if !matches!(bytes.first(), Some(b'/' | b'\\')) {
        return Err(PathError::NotAbsolute);
    }
    if memchr2(b'%', b'\\', bytes).is_none() && !has_dot_segment(bytes) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    if !has_dot_segment(decoded.as_bytes()) {
        return Ok(Cow::Owned(decoded));
    }
    Ok(Cow::Owned(remove_dot_segments(&decoded)))
}

/// Whether a segment is `.` or `..`, in a path whose only separator is `/`.
fn has_dot_segment(bytes: &[u8]) -> bool {
    let is_segment_start = |at: usize| at > 0 && bytes[at - 1] == b'/';
    memchr_iter(b'.', bytes)
        .filter(|&at| is_segment_start(at))
        .any(|at| matches!(&bytes[at + 1..], [] | [b'/', ..] | [b'.'] | [b'.', b'/', ..]))
}

fn decode_unreserved(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = memchr2(b'%', b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        if rest.as_bytes()[at] == b'\\' {
            out.push('/');
            rest = &rest[at + 1..];
            continue;
        }
        let byte = match rest.as_bytes()[at + 1..] {
            [high, low, ..] => hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match byte.ok_or(PathError::BadEscape)? {
            0 => return Err(PathError::EncodedNul),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&rest[at..at + 3]),
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Ok(out)
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn remove_dot_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    // `out` holds whole segments, each with its slash before it; a dot segment at the end leaves a slash.
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            out.push('/');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_take_istios_base_form() {
        for (given, expected) in [
            ("/", "/"),
            ("/app", "/app"),
            ("/app/", "/app/"),
            ("/app//", "/app//"),
            ("/app/../admin", "/admin"),
            ("/app/./admin", "/app/admin"),
            ("/app//../admin", "/app/admin"),
            ("/app//../../admin", "/admin"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/.", "/"),
            ("/app/%2f", "/app/%2f"),
            ("/app%2F/", "/app%2F/"),
            ("/xyz%30..//abc", "/xyz0..//abc"),
            ("/app/%2E./admin", "/admin"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61dmin", "/admin"),
            ("/app\\admin", "/app/admin"),
            ("\\app", "/app"),
            ("/app\\..\\admin", "/admin"),
            ("/app/\\/\\/\\admin", "/app//////admin"),
            ("/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc"),
            ("/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc", "/%5Capp%2f%5c%2F..%2fadmin%5c/abc"),
            ("/%252e%252e/admin", "/%252e%252e/admin"),
            ("/%c0%af", "/%c0%af"),
            ("/..;/admin", "/..;/admin"),
            ("/.../admin", "/.../admin"),
            ("/.hidden/a..b/..c/.d", "/.hidden/a..b/..c/.d"),
            ("/%7e%2D%5F", "/~-_"),
        ] {
            assert_eq!(normalize_path(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn paths_without_a_normal_form_are_refused() {
        for (given, error) in [
            ("/admin%00", PathError::EncodedNul),
            ("/a%", PathError::BadEscape),
            ("/a%4", PathError::BadEscape),
            ("/a%zz", PathError::BadEscape),
            ("/%%36%31", PathError::BadEscape),
            ("", PathError::NotAbsolute),
            ("a/b", PathError::NotAbsolute),
            ("../a", PathError::NotAbsolute),
        ] {
            assert_eq!(normalize_path(given), Err(error), "{given}");
        }
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        assert!(matches!(normalize_path("/users/7/.well-known/a.b"), Ok(Cow::Borrowed(_))));
    }

    /// The same rules written another way: one vector of decoded segments.
    fn oracle(path: &str) -> Option<String> {
        let mut decoded = Vec::new();
        let bytes = path.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let mut unit = vec![bytes[at]];
            if bytes[at] == b'%' {
                let text = path.get(at + 1..at + 3).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
                match u8::from_str_radix(text, 16).ok()? {
                    0 => return None,
                    byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => unit = vec![byte],
                    _ => unit = bytes[at..at + 3].to_vec(),
                }
                at += 2;
            } else if bytes[at] == b'\\' {
                unit = vec![b'/'];
            }
            decoded.extend(unit);
            at += 1;
        }
        let decoded = String::from_utf8(decoded).ok()?;
        let parts: Vec<&str> = decoded.strip_prefix('/')?.split('/').collect();
        let mut kept: Vec<&str> = Vec::new();
        for (index, &part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            match part {
                ".." => drop(kept.pop()),
                "." => {}
                other => {
                    kept.push(other);
                    continue;
                }
            }
            if last {
                kept.push("");
            }
        }
        Some(format!("/{}", kept.join("/")))
    }

    proptest! {
        #[test]
        fn normal_form_equals_the_oracle_and_is_stable(
            path in "[/\\\\](a|\\.|\\.\\.|/|\\\\|%2e|%2E|%2f|%5C|%61|%25|%00|%4|%|;|é|b){0,12}"
        ) {
            let normal = normalize_path(&path).ok().map(Cow::into_owned);
            prop_assert_eq!(&normal, &oracle(&path));
            if let Some(normal) = normal {
                prop_assert!(!normal.contains("/../") && !normal.contains("/./") && !normal.contains('\\'));
                prop_assert!(!normal.ends_with("/..") && !normal.ends_with("/."));
                prop_assert_eq!(normalize_path(&normal), Ok(Cow::Borrowed(normal.as_str())));
            }
        }
    }
}
