//! Path rewriting, as pure functions over the path of a matched request. Knows no query: it stays as it is. Read next:
//! `redirect.rs`, `regular_expression.rs`.

use std::borrow::Cow;

use meshwright_model::Rewrite;
use regex::{Captures, Regex, Replacer};

use crate::regular_expression::{PatternError, part};

/// A `rewrite` block, ready to use.
#[derive(Clone, Debug)]
pub struct CompiledRewrite {
    path: PathRewrite,
    authority: Option<Box<str>>,
}

#[derive(Clone, Debug)]
enum PathRewrite {
    Keep,
    /// For the matched prefix, or for the whole path.
    Replace(Box<str>),
    Substitute(Box<Regex>, Substitution),
}

impl CompiledRewrite {
    /// Compiles a `rewrite` block. Errors name a regular expression that does not compile, a substitution that refers
    /// to a group that does not exist, or characters that cannot be in a request target.
    pub fn compile(rewrite: &Rewrite) -> Result<Self, PatternError> {
        let path = match (&rewrite.uri, &rewrite.uri_regex) {
            (Some(uri), _) => {
                check_target(uri, uri)?;
                PathRewrite::Replace(uri.as_str().into())
            }
            (None, Some((pattern, replacement))) => {
                let regex = part(pattern)?;
                let substitution = Substitution::parse(replacement, regex.captures_len())?;
                PathRewrite::Substitute(Box::new(regex), substitution)
            }
            (None, None) => PathRewrite::Keep,
        };
        Ok(Self { path, authority: rewrite.authority.as_deref().map(Into::into) })
    }

    /// What replaces the Host header.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// Whether the path may change.
    pub fn changes_path(&self) -> bool {
        !matches!(self.path, PathRewrite::Keep)
    }
}

/// The path that is forwarded. `prefix_len` is [`crate::Found::prefix_len`].
///
/// - `uri`: replaces just the matched prefix, or the whole path when the match was exact or by regular expression. As
///   in Envoy this is plain text: prefix `/foo` with `/` turns `/foo/bar` into `//bar`.
/// - `uriRegexRewrite`: every match in the path is substituted, as RE2's `GlobalReplace` does.
///
/// A result that does not begin with `/` gets one, since a request could not be written otherwise. The `*` of
/// `OPTIONS *` is no path and stays.
pub fn rewrite_path<'a>(path: &'a str, rewrite: &CompiledRewrite, prefix_len: Option<usize>) -> Cow<'a, str> {
    if path == "*" {
        return Cow::Borrowed(path);
    }
    match &rewrite.path {
        PathRewrite::Keep => Cow::Borrowed(path),
        PathRewrite::Replace(uri) => Cow::Owned(replace_prefix(path, uri, prefix_len)),
        PathRewrite::Substitute(regex, substitution) => match regex.replace_all(path, substitution) {
            Cow::Borrowed(unchanged) => Cow::Borrowed(unchanged),
            Cow::Owned(changed) if changed.starts_with('/') => Cow::Owned(changed),
            Cow::Owned(changed) => Cow::Owned(format!("/{changed}")),
        },
    }
}

/// `replacement` for the first `prefix_len` bytes of `path`, or for all of it.
pub(crate) fn replace_prefix(path: &str, replacement: &str, prefix_len: Option<usize>) -> String {
    let rest = prefix_len.and_then(|length| path.get(length..)).unwrap_or("");
    let slash =
        if replacement.starts_with('/') || (replacement.is_empty() && rest.starts_with('/')) { "" } else { "/" };
    [slash, replacement, rest].concat()
}

/// Refuses what would break the request line apart or end the path.
fn check_target(text: &str, pattern: &str) -> Result<(), PatternError> {
    match text.chars().find(|&char| !char.is_ascii_graphic() || char == '#') {
        None => Ok(()),
        Some(char) => Err(PatternError::new(pattern, format!("{char:?} cannot be in a path; percent-encode it"))),
    }
}

/// RE2's substitution: `\0` is the match, `\1` to `\9` are groups, `\\` is a backslash.
#[derive(Clone, Debug)]
struct Substitution(Box<[Piece]>);

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<str>),
    Group(usize),
}

impl Substitution {
    /// Parses a replacement for an expression with so many groups, the whole match included.
    fn parse(replacement: &str, groups: usize) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut chars = replacement.chars();
        while let Some(char) = chars.next() {
            if char != '\\' {
                text.push(char);
                continue;
            }
            match chars.next().map(|escaped| (escaped, escaped.to_digit(10))) {
                Some((_, Some(digit))) => {
                    let group = digit as usize;
                    if group >= groups {
                        let message = format!("\\{group} refers to a group, but the expression has {}", groups - 1);
                        return Err(PatternError::new(replacement, message));
                    }
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                    }
                    pieces.push(Piece::Group(group));
                }
                Some(('\\', None)) => text.push('\\'),
                _ => {
                    let message = "a backslash must be followed by a digit or another backslash";
                    return Err(PatternError::new(replacement, message));
                }
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        for piece in &pieces {
            if let Piece::Text(text) = piece {
                check_target(text, replacement)?;
            }
        }
        Ok(Self(pieces.into()))
    }
}

impl Replacer for &Substitution {
    fn replace_append(&mut self, captures: &Captures<'_>, output: &mut String) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => output.push_str(text),
                // A group that took no part in the match is empty.
                Piece::Group(group) => output.push_str(captures.get(*group).map_or("", |found| found.as_str())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(uri: &str) -> CompiledRewrite {
        CompiledRewrite::compile(&Rewrite { uri: Some(uri.to_owned()), ..Rewrite::default() }).expect("valid")
    }

    fn regex(pattern: &str, replacement: &str) -> Result<CompiledRewrite, PatternError> {
        let uri_regex = Some((pattern.to_owned(), replacement.to_owned()));
        CompiledRewrite::compile(&Rewrite { uri_regex, ..Rewrite::default() })
    }

    #[test]
    fn a_prefix_match_replaces_just_the_prefix() {
        assert_eq!(rewrite_path("/users/7", &uri("/v2/people"), Some(6)), "/v2/people/7");
        assert_eq!(rewrite_path("/foo/bar", &uri("/"), Some(4)), "//bar");
        assert_eq!(rewrite_path("/foo/bar", &uri("/"), Some(5)), "/bar");
        assert_eq!(rewrite_path("/foo", &uri("/"), Some(4)), "/");
    }

    #[test]
    fn any_other_match_replaces_the_whole_path() {
        assert_eq!(rewrite_path("/users/7", &uri("/fixed"), None), "/fixed");
    }

    #[test]
    fn the_result_is_always_a_path() {
        assert_eq!(rewrite_path("/api/7", &uri("v2"), Some(4)), "/v2/7");
        assert_eq!(rewrite_path("/api/7", &regex("^/api/", "").expect("valid"), None), "/7");
        assert_eq!(rewrite_path("*", &uri("/x"), None), "*");
    }

    #[test]
    fn a_regular_expression_substitutes_every_match_with_its_groups() {
        let swap = regex(r"^/([^/]+)/(\d+)$", r"/\2/\1/\\\0").expect("valid");
        assert_eq!(rewrite_path("/users/7", &swap, None), r"/7/users/\/users/7");
        assert_eq!(rewrite_path("/other", &swap, Some(1)), "/other");
        assert_eq!(rewrite_path("/aXbX", &regex("X", "-").expect("valid"), None), "/a-b-");
        assert_eq!(rewrite_path("/b", &regex("(a)?b", r"[\1]").expect("valid"), None), "/[]");
        assert_eq!(rewrite_path("/a", &regex("a", "$0${1}").expect("valid"), None), "/$0${1}");
    }

    #[test]
    fn a_substitution_that_cannot_work_is_refused() {
        assert!(regex("(a)", r"\2").is_err_and(|error| error.message.contains("has 1")));
        assert!(regex("a", r"\x").is_err());
        assert!(regex("a", "end\\").is_err());
        assert!(regex("(", "a").is_err());
        assert!(regex("a", "b c").is_err());
        let split = Rewrite { uri: Some("/a HTTP/1.1\r\n".to_owned()), ..Rewrite::default() };
        assert!(CompiledRewrite::compile(&split).is_err());
    }

    #[test]
    fn the_authority_is_kept_beside_the_path() {
        let rewrite = Rewrite { authority: Some("other".to_owned()), ..Rewrite::default() };
        let rewrite = CompiledRewrite::compile(&rewrite).expect("valid");
        assert_eq!(rewrite.authority(), Some("other"));
        assert!(!rewrite.changes_path());
        assert_eq!(rewrite_path("/a", &rewrite, Some(1)), "/a");
    }
}
