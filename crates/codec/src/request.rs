//! Request heads: request line, target, authority, and the rules on a request's framing.
//!
//! Knows no routes and no policy beyond what makes a request unambiguous. Read next: `fields`, `path`.

use meshwright_message::{BodyLength, HeaderName, Method, RequestHead, Version};

use crate::authority::push_authority;
use crate::fields::{Hop, Protected, read_section, remove_nominated};
use crate::scan::Verdict;
use crate::syntax::{Lines, elements, is_token, is_token_byte};
use crate::{HeadError, HeadLimits, HeadScan, Progress, normalize_path};

/// Empty lines that are skipped before a request line (RFC 9112, section 2.2 asks for one).
const LEADING_EMPTY_LINES: usize = 2;

/// Parses a request head from the beginning of `input`.
///
/// The caller keeps what has arrived in `input` and calls again, with the same `scan`, when more has arrived after
/// [`Progress::Partial`]. After [`Progress::Complete`] the `scan` is ready for the next head. `head` is overwritten
/// each time; it is meaningful only after `Complete`. Its `scheme` is left at `http`: the caller knows the listener.
///
/// What is accepted, beyond RFC 9112:
/// - Lines end with CRLF. At most two empty lines before the request line are skipped.
/// - The version is HTTP/1.1 or HTTP/1.0. A token that is a standard method in another case is refused.
/// - The target is in origin form, in absolute form with `http` or `https` (its authority replaces Host), or `*` with
///   OPTIONS. It has no `#`, no control byte and no byte from 0x80 up. The path takes the form of [`normalize_path`].
/// - HTTP/1.1 has exactly one Host; it is validated even when the target has its own authority.
/// - Framing is one `Content-Length` of digits, or one `Transfer-Encoding: chunked` in HTTP/1.1, or neither. HTTP/1.0
///   POST, PUT and PATCH must have a Content-Length.
/// - Hop-by-hop fields and those that Connection names are taken out. A Connection field that names a field of
///   framing, routing, credentials or trust is refused.
/// - `Expect: 100-continue` is kept as a fact when a body follows; HTTP/1.0's is ignored (RFC 9110, section 10.1.1).
/// - `Upgrade` is kept when HTTP/1.1 and Connection lists it, without `h2c`.
///
/// # Errors
/// [`HeadError`]; the connection cannot be used further. The same bytes give the same answer however they are split.
pub fn parse_request(
    input: &[u8],
    scan: &mut HeadScan,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Progress, HeadError> {
    let Some(start) = skip_empty_lines(input)? else { return Ok(Progress::Partial) };
    if scan.is_fresh() {
        // As a rule the whole head comes in one piece.
        if let Ok(Some(consumed)) = read_request(input, start, limits, head) {
            return Ok(Progress::Complete { consumed });
        }
    }
    match scan.advance(input, start, limits, judge_request_line) {
        Verdict::Wait => Ok(Progress::Partial),
        Verdict::Judge => {
            let consumed = read_request(input, start, limits, head)?.ok_or(HeadError::BadRequestLine)?;
            *scan = HeadScan::default();
            Ok(Progress::Complete { consumed })
        }
    }
}

/// Where the request line begins; `None` when that cannot be said yet.
fn skip_empty_lines(input: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut start = 0;
    loop {
        match &input[start..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if start == 2 * LEADING_EMPTY_LINES => return Err(HeadError::LeadingEmptyLines),
            [b'\r', b'\n', ..] => start += 2,
            _ => return Ok(Some(start)),
        }
    }
}

/// Whether this can be a request line: the whole of it, or (`complete` is false) its beginning.
fn judge_request_line(line: &[u8], complete: bool) -> Result<(), HeadError> {
    if complete { read_request_line(line, &mut RequestHead::default()).map(|_| ()) } else { judge_first_byte(line) }
}

fn judge_first_byte(line: &[u8]) -> Result<(), HeadError> {
    match line.first() {
        Some(&byte) if !is_token_byte(byte) => Err(HeadError::BadRequestLine),
        _ => Ok(()),
    }
}

/// Reads a head whose request line begins at `start`. `None` when its end is not there.
fn read_request(
    input: &[u8],
    start: usize,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Option<usize>, HeadError> {
    head.clear();
    judge_first_byte(&input[start..])?;
    let mut lines = Lines::new(input, start);
    let Some(line) = lines.next(limits.request_line, HeadError::UriTooLong)? else { return Ok(None) };
    let has_authority = read_request_line(line, head)?;
    let section_start = lines.position();
    let mut hop = Hop::default();
    let mut hosts = 0usize;
    let mut expects = false;
    let RequestHead { headers, authority, .. } = head;
    let complete = read_section(&mut lines, limits, headers, &mut hop, |id, value| {
        match id {
            HeaderName::Host => {
                hosts += 1;
                if hosts > 1 {
                    return Err(HeadError::RepeatedHost);
                }
                if has_authority {
                    push_authority(value, &mut String::new())?;
                } else {
                    push_authority(value, authority)?;
                }
            }
            HeaderName::Expect => {
                if !elements(value).all(|expectation| expectation.eq_ignore_ascii_case(b"100-continue")) {
                    return Err(HeadError::ExpectationFailed);
                }
                expects = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !complete {
        return Ok(None);
    }
    let is_http11 = head.version == Version::Http11;
    if hosts == 0 && is_http11 {
        return Err(HeadError::MissingHost);
    }
    head.body = body_length(&hop, head)?;
    head.keep_alive = hop.persists(is_http11);
    head.expect_continue = expects && is_http11 && !head.body.is_empty();
    head.te_trailers = hop.te_trailers;
    remove_nominated(&input[section_start..lines.position()], &hop, Protected::Refuse, &mut head.headers)?;
    if is_http11 && hop.upgrade_listed {
        head.upgrade = hop.upgrade.map(String::into_boxed_str);
    }
    Ok(Some(lines.position()))
}

/// The framing of a request (RFC 9112, section 6.3), with every ambiguity refused.
fn body_length(hop: &Hop, head: &RequestHead) -> Result<BodyLength, HeadError> {
    match (hop.chunked, hop.content_length) {
        (true, Some(_)) => Err(HeadError::ContentLengthAndTransferEncoding),
        (true, None) if head.version == Version::Http10 => Err(HeadError::TransferEncodingInHttp10),
        (true, None) => Ok(BodyLength::Chunked),
        (false, Some(length)) => Ok(BodyLength::Sized(length)),
        (false, None) if head.version == Version::Http10 && has_body_by_nature(&head.method) => {
            Err(HeadError::LengthRequired)
        }
        (false, None) => Ok(BodyLength::Empty),
    }
}

pub(crate) const fn has_body_by_nature(method: &Method) -> bool {
    matches!(method, Method::Post | Method::Put | Method::Patch)
}

/// Reads the request line. True when the target has its own authority.
fn read_request_line(line: &[u8], head: &mut RequestHead) -> Result<bool, HeadError> {
    if let Some(target) = line.strip_prefix(b"GET ").and_then(|rest| rest.strip_suffix(b" HTTP/1.1"))
        && is_target(target)
    {
        // By far the most frequent: what follows would come to the same.
        (head.method, head.version) = (Method::Get, Version::Http11);
        return read_target(std::str::from_utf8(target).map_err(|_| HeadError::BadTarget)?, head);
    }
    judge_first_byte(line)?;
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::BadRequestLine);
    };
    if !is_token(method) {
        return Err(HeadError::BadMethod);
    }
    let method = std::str::from_utf8(method).map_err(|_| HeadError::BadMethod)?;
    head.version = read_version(version).ok_or(HeadError::BadRequestLine)??;
    head.method = Method::from_token(method);
    match &head.method {
        Method::Connect => return Err(HeadError::ConnectRefused),
        Method::Other(token) if is_standard_in_another_case(token) => return Err(HeadError::BadMethod),
        _ => {}
    }
    if !is_target(target) {
        return Err(HeadError::BadTarget);
    }
    read_target(std::str::from_utf8(target).map_err(|_| HeadError::BadTarget)?, head)
}

/// Whether it can be a target: not empty, every byte a legal one, which a space is not.
fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().fold(true, |good, &byte| good & is_target_byte(byte))
}

pub(crate) fn is_standard_in_another_case(token: &str) -> bool {
    token.bytes().any(|byte| byte.is_ascii_lowercase())
        && !matches!(Method::from_token(&token.to_ascii_uppercase()), Method::Other(_))
}

/// The version; `None` when it is no version at all.
pub(crate) fn read_version(bytes: &[u8]) -> Option<Result<Version, HeadError>> {
    match bytes {
        b"HTTP/1.1" => Some(Ok(Version::Http11)),
        b"HTTP/1.0" => Some(Ok(Version::Http10)),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Some(Err(HeadError::VersionNotSupported))
        }
        _ => None,
    }
}

pub(crate) const fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && byte != b'#'
}

/// Reads a target of legal bytes. True when it has its own authority.
pub(crate) fn read_target(target: &str, head: &mut RequestHead) -> Result<bool, HeadError> {
    if target.starts_with('/') {
        push_target(target, head)?;
        return Ok(false);
    }
    if target == "*" && head.method == Method::Options {
        push_asterisk(head);
        return Ok(false);
    }
    let rest = strip_scheme(target, "http://").or_else(|| strip_scheme(target, "https://"));
    let rest = rest.ok_or(HeadError::BadTarget)?;
    let end = rest.find(['/', '?', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    push_authority(authority.as_bytes(), &mut head.authority)?;
    match path.as_bytes().first() {
        Some(b'/') => push_target(path, head)?,
        // RFC 9112, section 3.2.4: the last proxy turns this into the asterisk form.
        None if head.method == Method::Options => push_asterisk(head),
        None => push_target("/", head)?,
        Some(b'?') => {
            head.target.push('/');
            head.path_len = 1;
            head.target.push_str(path);
        }
        Some(_) => return Err(HeadError::BadTarget),
    }
    Ok(true)
}

fn strip_scheme<'a>(target: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn push_asterisk(head: &mut RequestHead) {
    head.target.push('*');
    head.path_len = 1;
}

fn push_target(target: &str, head: &mut RequestHead) -> Result<(), HeadError> {
    let query = memchr::memchr(b'?', target.as_bytes()).unwrap_or(target.len());
    let (path, query) = target.split_at(query);
    let path = normalize_path(path).map_err(HeadError::BadPath)?;
    head.target.push_str(&path);
    head.path_len = path.len();
    head.target.push_str(query);
    Ok(())
}
