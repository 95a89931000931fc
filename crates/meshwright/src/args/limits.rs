//! The limits that are on by default, as flags. What each refuses with is in `docs/limits.md`.

use std::time::Duration;

use clap::Args;
use meshwright_wire::Limits;

use super::value;

/// Limits against hostile or broken clients; every one has a default, none is off.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Connections from clients at one time, all listeners together [default: from the limit on open files]
    #[arg(long, value_name = "N", value_parser = value::positive, env = "MESHWRIGHT_MAX_CONNECTIONS")]
    pub max_connections: Option<u32>,

    /// Connections from one source at one time: an IPv4 address, or a /64 network [default: nine tenths of --max-connections, all when those are fewer than 100]
    #[arg(
        long,
        value_name = "N",
        value_parser = value::positive,
        env = "MESHWRIGHT_MAX_CONNECTIONS_PER_SOURCE"
    )]
    pub max_connections_per_source: Option<u32>,

    /// Resident memory from which new connections are turned away, and from a tenth more on new requests too [default: 80 % of
    /// the memory of the container or machine]
    #[arg(long, value_name = "SIZE", value_parser = value::size, env = "MESHWRIGHT_MAX_MEMORY")]
    pub max_memory: Option<u64>,

    /// Time for a whole request head, from its first byte or, on a new connection, from its accept
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        value_parser = value::timeout,
        env = "MESHWRIGHT_HEADER_TIMEOUT"
    )]
    pub header_timeout: Duration,

    /// Time that a client may keep a connection open between requests
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1h",
        value_parser = value::timeout,
        env = "MESHWRIGHT_IDLE_TIMEOUT"
    )]
    pub idle_timeout: Duration,

    /// Time without any progress while bytes of a body are awaited from, or queued for, a client
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = value::timeout,
        env = "MESHWRIGHT_STALL_TIMEOUT"
    )]
    pub stall_timeout: Duration,

    /// Time without a byte in either direction of an upgraded connection
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1h",
        value_parser = value::timeout,
        env = "MESHWRIGHT_TUNNEL_IDLE_TIMEOUT"
    )]
    pub tunnel_idle_timeout: Duration,

    /// Length of the request line
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "8KiB",
        value_parser = value::head_size,
        env = "MESHWRIGHT_MAX_REQUEST_LINE"
    )]
    pub max_request_line: usize,

    /// Length of one header line
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16KiB",
        value_parser = value::head_size,
        env = "MESHWRIGHT_MAX_HEADER_LINE"
    )]
    pub max_header_line: usize,

    /// Size of all headers: names, values and 32 bytes for each
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "32KiB",
        value_parser = value::head_size,
        env = "MESHWRIGHT_MAX_HEADER_BYTES"
    )]
    pub max_header_bytes: usize,

    /// Number of headers
    #[arg(
        long,
        value_name = "N",
        default_value = "100",
        value_parser = value::field_count,
        env = "MESHWRIGHT_MAX_HEADERS"
    )]
    pub max_headers: usize,

    /// Length of the extensions of one chunk of a body
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "256",
        value_parser = value::part_size,
        env = "MESHWRIGHT_MAX_CHUNK_EXTENSION"
    )]
    pub max_chunk_extension: usize,

    /// Size of all trailers
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "8KiB",
        value_parser = value::head_size,
        env = "MESHWRIGHT_MAX_TRAILER_BYTES"
    )]
    pub max_trailer_bytes: usize,

    /// Number of trailers
    #[arg(
        long,
        value_name = "N",
        default_value = "32",
        value_parser = value::field_count,
        env = "MESHWRIGHT_MAX_TRAILERS"
    )]
    pub max_trailers: usize,

    /// Bytes of an unread request body that are read and dropped after an early answer, to keep the connection
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64KiB",
        value_parser = value::size,
        env = "MESHWRIGHT_MAX_DISCARD"
    )]
    pub max_discard: u64,

    /// Streams that one HTTP/2 connection of a client may have open
    #[arg(long, value_name = "N", default_value = "100", value_parser = value::positive, env = "MESHWRIGHT_MAX_STREAMS")]
    pub max_streams: u32,

    /// As --stall-timeout, for one stream of HTTP/2
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        value_parser = value::timeout,
        env = "MESHWRIGHT_STREAM_STALL_TIMEOUT"
    )]
    pub stream_stall_timeout: Duration,

    /// Streams that are reset because of what an HTTP/2 client did, over the life of its connection
    #[arg(
        long,
        value_name = "N",
        default_value = "200",
        value_parser = value::positive,
        env = "MESHWRIGHT_MAX_STREAM_ERRORS"
    )]
    pub max_stream_errors: u32,

    /// Streams that an HTTP/2 client may reset, per second
    #[arg(
        long,
        value_name = "N",
        default_value = "100",
        value_parser = value::positive,
        env = "MESHWRIGHT_MAX_RESETS_PER_SECOND"
    )]
    pub max_resets_per_second: u32,

    /// PING frames of an HTTP/2 client per second, and one more for each 4 KiB sent to it
    #[arg(
        long,
        value_name = "N",
        default_value = "20",
        value_parser = value::positive,
        env = "MESHWRIGHT_MAX_PINGS_PER_SECOND"
    )]
    pub max_pings_per_second: u32,

    /// SETTINGS and GOAWAY frames of an HTTP/2 client per second
    #[arg(
        long,
        value_name = "N",
        default_value = "10",
        value_parser = value::positive,
        env = "MESHWRIGHT_MAX_SETTINGS_PER_SECOND"
    )]
    pub max_settings_per_second: u32,

    /// PRIORITY, unknown, tiny DATA, unasked WINDOW_UPDATE frames and refused requests of an HTTP/2 client per second
    #[arg(
        long,
        value_name = "N",
        default_value = "100",
        value_parser = value::positive,
        env = "MESHWRIGHT_MAX_GLITCHES_PER_SECOND"
    )]
    pub max_glitches_per_second: u32,

    /// CONTINUATION frames of one HTTP/2 header block
    #[arg(
        long,
        value_name = "N",
        default_value = "8",
        value_parser = value::positive,
        env = "MESHWRIGHT_MAX_CONTINUATIONS"
    )]
    pub max_continuations: u32,
}

impl LimitArgs {
    /// The limits as the data path takes them. Without `--max-connections` the number of connections is left as
    /// `Limits::default` has it.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.head.request_line = self.max_request_line;
        limits.head.field = self.max_header_line;
        limits.head.head = self.max_header_bytes;
        limits.head.fields = self.max_headers;
        limits.body.chunk_extension = self.max_chunk_extension;
        limits.body.trailers = self.max_trailer_bytes;
        limits.body.trailer_fields = self.max_trailers;
        limits.head_timeout = self.header_timeout;
        limits.idle_timeout = self.idle_timeout;
        limits.stall_timeout = self.stall_timeout;
        limits.tunnel_idle_timeout = self.tunnel_idle_timeout;
        limits.discard = self.max_discard;
        limits.streams = self.max_streams;
        limits.stream_stall_timeout = self.stream_stall_timeout;
        limits.stream_errors = usize::try_from(self.max_stream_errors).unwrap_or(usize::MAX);
        limits.frames.resets = self.max_resets_per_second;
        limits.frames.pings = self.max_pings_per_second;
        limits.frames.settings = self.max_settings_per_second;
        limits.frames.glitches = self.max_glitches_per_second;
        limits.frames.continuations = self.max_continuations;
        if let Some(connections) = self.max_connections {
            limits.connections = usize::try_from(connections).unwrap_or(usize::MAX);
        }
        if let Some(connections) = self.max_connections_per_source {
            limits.connections_per_source = usize::try_from(connections).unwrap_or(usize::MAX);
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitArgs,
    }

    #[test]
    fn the_defaults_of_the_flags_are_the_defaults_of_the_data_path() {
        let flags = Line::try_parse_from(["x"]).unwrap().limits.limits();
        assert_eq!(format!("{flags:?}"), format!("{:?}", Limits::default()));
    }

    #[test]
    fn a_flag_reaches_its_limit() {
        let line = "x --max-connections 7 --header-timeout 2s --max-headers 3 --max-request-line 1KiB --max-discard 0";
        let limits = Line::try_parse_from(line.split(' ')).unwrap().limits.limits();
        assert_eq!(limits.connections, 7);
        assert_eq!(limits.head_timeout, Duration::from_secs(2));
        assert_eq!((limits.head.fields, limits.head.request_line, limits.discard), (3, 1024, 0));
    }
}
