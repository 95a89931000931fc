//! Why a head or a body was refused, each as one sentence that is safe to log: it repeats nothing that was sent.
//!
//! Knows no status codes: [`HeadErrorClass`] says what kind of answer fits. Read next: `request`, `body`.

use std::fmt;

use crate::PathError;

/// What kind of answer a refused request gets. A refused response is a bad gateway whatever its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadErrorClass {
    /// 400
    BadRequest,
    /// 414
    UriTooLong,
    /// 431
    HeadersTooLarge,
    /// 505
    VersionNotSupported,
    /// 501
    UnsupportedTransferCoding,
    /// 417
    ExpectationFailed,
    /// 405, for CONNECT: this is no tunnel.
    MethodNotAllowed,
}

/// Why a head was refused. After any of these the connection cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadError {
    /// The request line is not `method SP target SP version`.
    BadRequestLine,
    /// More than two empty lines precede the request line.
    LeadingEmptyLines,
    /// The method is not a token, or a standard method in another case.
    BadMethod,
    /// CONNECT.
    ConnectRefused,
    /// The target has a wrong form or a byte that may not be there.
    BadTarget,
    /// The path has no normal form.
    BadPath(PathError),
    /// The request line is longer than the limit.
    UriTooLong,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    VersionNotSupported,
    /// The status line is not `version SP status [SP reason]`.
    BadStatusLine,
    /// A line ends with a bare LF.
    BareLineFeed,
    /// A line begins with white space (obs-fold).
    ObsoleteFold,
    /// A field name is empty or not a token, or its colon is missing.
    BadFieldName,
    /// White space between a field name and its colon.
    SpaceBeforeColon,
    /// A control byte, such as NUL or a bare CR, in a field value.
    BadFieldValue,
    /// More fields than the limit.
    TooManyHeaders,
    /// One field or the whole section is larger than the limit.
    HeadersTooLarge,
    /// HTTP/1.1 without Host.
    MissingHost,
    /// More than one Host.
    RepeatedHost,
    /// Host or the target's authority is not a host with an optional port.
    BadHost,
    /// Content-Length is not a decimal number below 2^64.
    BadContentLength,
    /// More than one Content-Length.
    RepeatedContentLength,
    /// Transfer-Encoding is malformed.
    BadTransferEncoding,
    /// More than one Transfer-Encoding.
    RepeatedTransferEncoding,
    /// A transfer coding other than chunked.
    UnsupportedTransferCoding,
    /// Transfer-Encoding in an HTTP/1.0 message.
    TransferEncodingInHttp10,
    /// Both framings in one message.
    ContentLengthAndTransferEncoding,
    /// A body in HTTP/1.0 whose end nothing tells.
    LengthRequired,
    /// `content_length` or `transfer_encoding`.
    FramingAlias,
    /// Connection is not a list of tokens, or has more than 64 elements.
    BadConnection,
    /// Connection nominates a field that carries framing, routing or trust.
    ForbiddenNomination,
    /// Upgrade is not a list of protocols, or a 101 answer lacks it.
    BadUpgrade,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// A field that HTTP/2 does not have, because it is about a connection (RFC 9113, section 8.2.2).
    ConnectionSpecific,
}

impl HeadError {
    /// What kind of answer fits.
    pub const fn class(self) -> HeadErrorClass {
        match self {
            Self::ConnectRefused => HeadErrorClass::MethodNotAllowed,
            Self::UriTooLong => HeadErrorClass::UriTooLong,
            Self::VersionNotSupported => HeadErrorClass::VersionNotSupported,
            Self::TooManyHeaders | Self::HeadersTooLarge => HeadErrorClass::HeadersTooLarge,
            Self::UnsupportedTransferCoding => HeadErrorClass::UnsupportedTransferCoding,
            Self::ExpectationFailed => HeadErrorClass::ExpectationFailed,
            Self::BadRequestLine
            | Self::LeadingEmptyLines
            | Self::BadMethod
            | Self::BadTarget
            | Self::BadPath(_)
            | Self::BadStatusLine
            | Self::BareLineFeed
            | Self::ObsoleteFold
            | Self::BadFieldName
            | Self::SpaceBeforeColon
            | Self::BadFieldValue
            | Self::MissingHost
            | Self::RepeatedHost
            | Self::BadHost
            | Self::BadContentLength
            | Self::RepeatedContentLength
            | Self::BadTransferEncoding
            | Self::RepeatedTransferEncoding
            | Self::TransferEncodingInHttp10
            | Self::ContentLengthAndTransferEncoding
            | Self::LengthRequired
            | Self::FramingAlias
            | Self::BadConnection
            | Self::ForbiddenNomination
            | Self::BadUpgrade
            | Self::ConnectionSpecific => HeadErrorClass::BadRequest,
        }
    }

    /// The reason as one sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequestLine => "the request line is not a method, a target and a version",
            Self::LeadingEmptyLines => "more than two empty lines precede the request line",
            Self::BadMethod => "the method is not a valid token, or a standard method in lower case",
            Self::ConnectRefused => "CONNECT is not allowed here",
            Self::BadTarget => "the request target has a form or a character that is not allowed",
            Self::BadPath(error) => error.as_str(),
            Self::UriTooLong => "the request line is longer than the limit",
            Self::VersionNotSupported => "the version is neither HTTP/1.0 nor HTTP/1.1",
            Self::BadStatusLine => "the status line is malformed",
            Self::BareLineFeed => "a line of the head ends with LF instead of CRLF",
            Self::ObsoleteFold => "a line of the head begins with white space",
            Self::BadFieldName => "a header name is empty, has a character that is not allowed, or lacks its colon",
            Self::SpaceBeforeColon => "a header has white space before its colon",
            Self::BadFieldValue => "a header value has a control character",
            Self::TooManyHeaders => "there are more headers than the limit",
            Self::HeadersTooLarge => "the headers are larger than the limit",
            Self::MissingHost => "the Host header is missing",
            Self::RepeatedHost => "there is more than one Host header",
            Self::BadHost => "the host is not a valid name or address with an optional port",
            Self::BadContentLength => "Content-Length is not a valid number",
            Self::RepeatedContentLength => "there is more than one Content-Length",
            Self::BadTransferEncoding => "Transfer-Encoding is malformed",
            Self::RepeatedTransferEncoding => "there is more than one Transfer-Encoding header",
            Self::UnsupportedTransferCoding => "the transfer coding is not supported (only chunked is)",
            Self::TransferEncodingInHttp10 => "Transfer-Encoding is not allowed in HTTP/1.0",
            Self::ContentLengthAndTransferEncoding => "both Content-Length and Transfer-Encoding are present",
            Self::LengthRequired => "an HTTP/1.0 request with a body needs a Content-Length",
            Self::FramingAlias => "a header imitates a framing header with an underscore",
            Self::BadConnection => "the Connection header is malformed",
            Self::ForbiddenNomination => "the Connection header names a header that may not be removed",
            Self::BadUpgrade => "the Upgrade header is malformed or missing",
            Self::ExpectationFailed => "the expectation is not supported (only 100-continue is)",
            Self::ConnectionSpecific => "a header is about the connection, which HTTP/2 does not allow",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for HeadError {}

/// Why a body was refused. After any of these the connection cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyError {
    /// A chunk size is not 1 to 16 hexadecimal digits.
    BadChunkSize,
    /// A chunk size is 2^63 or more.
    ChunkTooLarge,
    /// A chunk extension is empty or has a byte that may not be there.
    BadChunkExtension,
    /// Chunk extensions are longer than the limit.
    ChunkExtensionTooLong,
    /// CRLF is missing after a chunk size or after a chunk's data.
    BadChunkEnd,
    /// A trailer field is malformed.
    BadTrailer,
    /// Trailers are larger or more than the limit.
    TrailersTooLarge,
    /// The peer closed before the body's end.
    Truncated,
}

impl BodyError {
    /// The reason as one sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadChunkSize => "a chunk size is malformed",
            Self::ChunkTooLarge => "a chunk size is too large",
            Self::BadChunkExtension => "a chunk extension is malformed",
            Self::ChunkExtensionTooLong => "chunk extensions are longer than the limit",
            Self::BadChunkEnd => "a chunk does not end with CRLF",
            Self::BadTrailer => "a trailer field is malformed",
            Self::TrailersTooLarge => "the trailers are larger than the limit",
            Self::Truncated => "the connection was closed before the end of the body",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for BodyError {}
