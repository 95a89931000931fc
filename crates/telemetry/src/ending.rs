//! How one request ended, as far as its series tells. Bounded, so that no peer can make series without end.

/// A status that is no status code: written `other`.
pub(crate) const OTHER_STATUS: u16 = u16::MAX;

/// How one request ended, as its series tells.
#[derive(Clone, Copy, Debug, Eq)]
pub struct Ending {
    /// The status that was sent to the client; 0 (the client left first) is kept as Envoy reports it, others outside 100..=599
    /// count as `other`.
    pub status: u16,
    /// What was spoken.
    pub protocol: RequestProtocol,
    /// The response flags as in the access log, empty or `-` for none.
    pub flag: &'static str,
}

/// `request_protocol`, and what belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestProtocol {
    /// HTTP of any version.
    #[default]
    Http,
    /// gRPC with its status, when one was seen; those beyond the 17 that are defined count as none.
    Grpc(Option<u8>),
}

/// Nearly all requests have no flag, and two of those must not meet in `memcmp`: an empty text has no memory behind it, and a
/// masked load from there costs a processor with AVX-512 some two hundred cycles, although it loads nothing.
impl PartialEq for Ending {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.status == other.status
            && self.protocol == other.protocol
            && self.flag.is_empty() == other.flag.is_empty()
            && (self.flag.is_empty() || self.flag == other.flag)
    }
}

impl Ending {
    /// An end of plain HTTP.
    pub const fn http(status: u16, flag: &'static str) -> Self {
        Self { status, protocol: RequestProtocol::Http, flag }
    }

    /// With everything that would make series without bound taken out.
    pub(crate) fn bounded(self) -> Self {
        let status = if self.status == 0 || (100..600).contains(&self.status) { self.status } else { OTHER_STATUS };
        let protocol = match self.protocol {
            RequestProtocol::Grpc(Some(code)) if code > 16 => RequestProtocol::Grpc(None),
            protocol => protocol,
        };
        Self { status, protocol, flag: self.flag }
    }
}
