//! Response heads: status line, and how long a body is by status, request method and framing.
//!
//! Knows no retries and no pools: it says whether the peer keeps its connection, not what is done with it.
//! Read next: `fields`.

use std::time::Duration;

use meshwright_message::{BodyLength, HeaderName, ResponseHead, Version};

use crate::fields::{Hop, Protected, read_section, remove_nominated};
use crate::request::read_version;
use crate::scan::Verdict;
use crate::syntax::{Lines, decimal, elements, is_field_value};
use crate::{HeadError, HeadLimits, HeadScan, Progress};

/// Facts of the request that a response answers: without them the end of its body is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// The method was HEAD.
    pub head_request: bool,
    /// The method was CONNECT.
    pub connect: bool,
}

/// Parses a response head from the beginning of `input`. Calling convention as for [`crate::parse_request`].
///
/// - 1xx, 204, 304, answers to HEAD and 2xx answers to CONNECT have no body whatever their fields say. For HEAD and
///   304, Content-Length is kept as `announced_length`; on 1xx and 204 it is dropped.
/// - Otherwise the body is chunked, or sized, or lasts until the connection closes (then `keep_alive` is false).
/// - Both framings at once, a repeated one, and any coding but chunked are errors whatever the status.
/// - A 101 has its `upgrade`, or is an error. Upgrade on any other status is hop-by-hop and dropped.
/// - A Connection field that names a field of framing, routing, credentials or trust has no effect on it.
///
/// # Errors
/// [`HeadError`]: the sender cannot be trusted with another request on this connection.
pub fn parse_response(
    input: &[u8],
    scan: &mut HeadScan,
    limits: &HeadLimits,
    to: Answered,
    head: &mut ResponseHead,
) -> Result<Progress, HeadError> {
    if input.is_empty() {
        return Ok(Progress::Partial);
    }
    if scan.is_fresh()
        && let Ok(Some(consumed)) = read_response(input, limits, to, head)
    {
        return Ok(Progress::Complete { consumed });
    }
    match scan.advance(input, 0, limits, judge_status_line) {
        Verdict::Wait => Ok(Progress::Partial),
        Verdict::Judge => {
            let consumed = read_response(input, limits, to, head)?.ok_or(HeadError::BadStatusLine)?;
            *scan = HeadScan::default();
            Ok(Progress::Complete { consumed })
        }
    }
}

fn judge_status_line(line: &[u8], complete: bool) -> Result<(), HeadError> {
    if complete { read_status_line(line, &mut ResponseHead::default()) } else { judge_beginning(line) }
}

/// Whether this can be the beginning of a status line.
fn judge_beginning(line: &[u8]) -> Result<(), HeadError> {
    const START: &[u8; 5] = b"HTTP/";
    let fits = match line.first_chunk() {
        // A comparison of a known length needs no call.
        Some(start) => start == START,
        None => START.starts_with(line),
    };
    if fits { Ok(()) } else { Err(HeadError::BadStatusLine) }
}

fn read_response(
    input: &[u8],
    limits: &HeadLimits,
    to: Answered,
    head: &mut ResponseHead,
) -> Result<Option<usize>, HeadError> {
    head.clear();
    judge_beginning(input)?;
    let mut lines = Lines::new(input, 0);
    let Some(line) = lines.next(limits.request_line, HeadError::HeadersTooLarge)? else { return Ok(None) };
    read_status_line(line, head)?;
    let section_start = lines.position();
    let mut hop = Hop::default();
    let mut timeout = None;
    let complete = read_section(&mut lines, limits, &mut head.headers, &mut hop, |id, value| {
        if id != HeaderName::KeepAlive {
            return Ok(false);
        }
        timeout = timeout.or_else(|| keep_alive_timeout(value));
        Ok(true)
    })?;
    if !complete {
        return Ok(None);
    }
    let is_http11 = head.version == Version::Http11;
    read_framing(&hop, to, head)?;
    head.keep_alive = hop.persists(is_http11) && head.body != BodyLength::UntilClose;
    head.keep_alive_timeout = timeout;
    remove_nominated(&input[section_start..lines.position()], &hop, Protected::Keep, &mut head.headers)?;
    if head.status == 101 {
        head.upgrade = Some(hop.upgrade.ok_or(HeadError::BadUpgrade)?.into_boxed_str());
    }
    Ok(Some(lines.position()))
}

/// RFC 9112, section 6.3, rules 1 to 8 for responses.
fn read_framing(hop: &Hop, to: Answered, head: &mut ResponseHead) -> Result<(), HeadError> {
    if hop.chunked && hop.content_length.is_some() {
        return Err(HeadError::ContentLengthAndTransferEncoding);
    }
    if hop.chunked && head.version == Version::Http10 {
        return Err(HeadError::TransferEncodingInHttp10);
    }
    let tunnels = to.connect && (200..300).contains(&head.status);
    if tunnels {
        head.body = BodyLength::Empty;
    } else if let Some(announced) = without_body(head.status, to.head_request, hop.content_length) {
        head.body = BodyLength::Empty;
        head.announced_length = announced;
    } else if hop.chunked {
        head.body = BodyLength::Chunked;
    } else {
        head.body = hop.content_length.map_or(BodyLength::UntilClose, BodyLength::Sized);
    }
    Ok(())
}

/// For an answer that has no body whatever its fields say: the length that it announces. `None` when it may have a body.
pub(crate) fn without_body(status: u16, head_request: bool, content_length: Option<u64>) -> Option<Option<u64>> {
    match status {
        100..=199 | 204 => Some(None),
        304 => Some(content_length),
        _ => head_request.then_some(content_length),
    }
}

/// `timeout=N` of Keep-Alive. A field without a readable one says nothing.
fn keep_alive_timeout(value: &[u8]) -> Option<Duration> {
    elements(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked(8)?;
        let seconds = u32::try_from(decimal(seconds)?).unwrap_or(u32::MAX);
        name.eq_ignore_ascii_case(b"timeout=").then(|| Duration::from_secs(u64::from(seconds)))
    })
}

/// `HTTP-version SP status [SP reason]`. The space before an empty reason may be missing.
fn read_status_line(line: &[u8], head: &mut ResponseHead) -> Result<(), HeadError> {
    let (version, rest) = line.split_at_checked(8).ok_or(HeadError::BadStatusLine)?;
    head.version = read_version(version).ok_or(HeadError::BadStatusLine)??;
    let (status, reason) = match rest {
        [b' ', a, b, c] => ([*a, *b, *c], &[][..]),
        [b' ', a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
        _ => return Err(HeadError::BadStatusLine),
    };
    let digits = decimal(&status).filter(|&status| status >= 100).ok_or(HeadError::BadStatusLine)?;
    head.status = u16::try_from(digits).map_err(|_| HeadError::BadStatusLine)?;
    if !is_field_value(reason) {
        return Err(HeadError::BadStatusLine);
    }
    head.reason.extend_from_slice(reason);
    Ok(())
}
