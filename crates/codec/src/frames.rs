//! A meter of HTTP/2 frame headers: counts what the `h2` crate answers without showing it, and says when a peer sends too
//! much of it.
//!
//! PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, unknown frames, tiny DATA and CONTINUATION cost their sender a few
//! bytes and the receiver a reaction (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316). The meter looks at the nine
//! bytes of each frame header (RFC 9113, section 4.1) and at no payload but the length of padding. It keeps no frame and
//! judges no syntax: that is `h2`'s. Time is an argument, asked for only when something is counted.

use std::time::{Duration, Instant};

/// Bytes of a frame header.
const HEADER: usize = 9;
/// Type of the frames that carry bodies.
const DATA: u8 = 0;
/// Bytes of the connection preface of a client.
const PREFACE: usize = 24;

/// How many frames of each kind a peer may send. Rates are of token buckets: so many at once, and as many per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// RST_STREAM per second; from a server those beyond one for each 9 bytes that were sent to it. Default 100.
    pub resets: u32,
    /// PING per second, and one more for each 4 KiB that were sent to the peer (gRPC measures bandwidth with them). Default 20.
    pub pings: u32,
    /// SETTINGS and GOAWAY per second. Default 10.
    pub settings: u32,
    /// PRIORITY, unknown frames, and what a peer has reason to send only so often: WINDOW_UPDATE beyond one for each 32 bytes
    /// that were sent to it; DATA that ends no stream and is empty or, from a client, has at most 4 bytes and comes oftener than
    /// one for each 9 bytes that were sent to it; requests that were refused. Per second, all together. Default 100.
    pub glitches: u32,
    /// CONTINUATION frames of one header block. Default 8.
    pub continuations: u32,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { resets: 100, pings: 20, settings: 10, glitches: 100, continuations: 8 }
    }
}

/// Which limit a peer has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameFlood {
    /// RST_STREAM.
    Resets,
    /// PING.
    Pings,
    /// SETTINGS or GOAWAY.
    Settings,
    /// PRIORITY, unknown frames, tiny DATA, WINDOW_UPDATE, refused requests.
    Glitches,
    /// CONTINUATION.
    Continuations,
}

impl FrameFlood {
    /// The reason as one sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resets => "too many streams were reset",
            Self::Pings => "too many PING frames",
            Self::Settings => "too many SETTINGS or GOAWAY frames",
            Self::Glitches => "too many refused requests, or PRIORITY, WINDOW_UPDATE, unknown or tiny DATA frames",
            Self::Continuations => "too many CONTINUATION frames in one header block",
        }
    }
}

/// Bytes sent to the peer for which it may send one PING more.
const BYTES_PER_PING: u64 = 4096;
/// Bytes sent to the peer for which it may send one WINDOW_UPDATE. One with a window of a hundred bytes opens it, and that of the
/// connection, after each frame.
const BYTES_PER_WINDOW_UPDATE: u64 = 32;
/// DATA of a client of at most so many bytes without padding is tiny: less than an empty message of gRPC, which has five, or of
/// WebSocket, which has six. That of a server is what a client asked for, however small its messages are.
const TINY_DATA: usize = 4;
/// Bytes sent to the peer for which it may send one tiny DATA, or a server one RST_STREAM, a frame for a frame: echoes of a
/// terminal are answered, streams were asked for, and a flood is neither.
const BYTES_PER_FRAME: u64 = HEADER as u64;
/// Such frames that a peer may have saved up.
const MOST_FRAMES: u64 = 500;

/// Meters what one peer of a connection sends.
#[derive(Debug)]
pub struct FrameMeter {
    limits: FrameLimits,
    header: [u8; HEADER],
    have: usize,
    /// Bytes that are passed over before the next frame header.
    skip: usize,
    /// The next payload byte is the length of padding: the whole length of the frame, until it is known.
    padded: Option<usize>,
    continuations: u32,
    heads: u32,
    data_frames: u32,
    resets: Bucket,
    pings: Bucket,
    settings: Bucket,
    glitches: Bucket,
    of_server: bool,
    ping_credit: u64,
    window_credit: u64,
    frame_credit: u64,
}

impl FrameMeter {
    /// A meter at the beginning of what a client sends, its connection preface included.
    pub fn of_client(limits: FrameLimits) -> Self {
        Self { skip: PREFACE, of_server: false, ..Self::of_server(limits) }
    }

    /// A meter at the beginning of what a server sends.
    pub fn of_server(limits: FrameLimits) -> Self {
        Self {
            limits,
            header: [u8::MAX; HEADER],
            have: 0,
            skip: 0,
            padded: None,
            continuations: 0,
            heads: 0,
            data_frames: 0,
            resets: Bucket::default(),
            pings: Bucket::default(),
            settings: Bucket::default(),
            glitches: Bucket::default(),
            of_server: true,
            ping_credit: 0,
            window_credit: 0,
            frame_credit: 0,
        }
    }

    /// How many HEADERS frames came so far; wraps around.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    /// How many DATA frames came so far; wraps around.
    pub fn data_frames(&self) -> u32 {
        self.data_frames
    }

    /// Whether the last frame that began is DATA.
    pub fn is_in_data(&self) -> bool {
        self.have <= 3 && self.header[3] == DATA
    }

    /// So many bytes were sent to the peer: it has reason to answer them.
    pub fn sent(&mut self, bytes: usize) {
        self.ping_credit = self.ping_credit.saturating_add(bytes as u64).min(BYTES_PER_PING * 1000);
        self.window_credit = self.window_credit.saturating_add(bytes as u64).min(BYTES_PER_WINDOW_UPDATE * 100_000);
        self.frame_credit = self.frame_credit.saturating_add(bytes as u64).min(BYTES_PER_FRAME * MOST_FRAMES);
    }

    /// A request of the peer was refused for what its head says. That was no fault of its frames, and costs more than one of them.
    ///
    /// # Errors
    /// As [`FrameMeter::observe`].
    pub fn refused(&mut self, now: Instant) -> Result<(), FrameFlood> {
        self.glitch(&|| now)
    }

    /// Looks at the next bytes that the peer sent, however they are split. `now` is asked when something is counted.
    ///
    /// # Errors
    /// [`FrameFlood`]: a limit is broken. The connection should end; the meter does not recover by itself.
    pub fn observe(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), FrameFlood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                if let (Some(length), Some(&padding)) = (self.padded.take(), bytes.first()) {
                    self.data(length.saturating_sub(1 + usize::from(padding)), &now)?;
                }
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER {
                self.have = 0;
                self.frame(&now)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: &impl Fn() -> Instant) -> Result<(), FrameFlood> {
        const HEADERS: u8 = 1;
        const RST_STREAM: u8 = 3;
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        const GOAWAY: u8 = 7;
        const WINDOW_UPDATE: u8 = 8;
        const CONTINUATION: u8 = 9;
        const END_STREAM: u8 = 0x1;
        const ACK: u8 = 0x1;
        const PADDED: u8 = 0x8;
        let [high, middle, low, kind, flags, ..] = self.header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.skip = length;
        self.data_frames = self.data_frames.wrapping_add(u32::from(kind == DATA));
        match kind {
            DATA if flags & END_STREAM != 0 => Ok(()),
            DATA if flags & PADDED != 0 && length > 0 => {
                self.padded = Some(length);
                Ok(())
            }
            DATA => self.data(length, now),
            HEADERS => {
                self.heads = self.heads.wrapping_add(1);
                self.continuations = 0;
                Ok(())
            }
            CONTINUATION => {
                self.continuations += 1;
                if self.continuations > self.limits.continuations { Err(FrameFlood::Continuations) } else { Ok(()) }
            }
            // A service may break off what was asked of it; each stream cost us a frame.
            RST_STREAM if self.of_server && spend(&mut self.frame_credit, BYTES_PER_FRAME) => Ok(()),
            RST_STREAM => self.resets.take(self.limits.resets, now()).ok_or(FrameFlood::Resets),
            PING if flags & ACK != 0 => Ok(()),
            PING if spend(&mut self.ping_credit, BYTES_PER_PING) => Ok(()),
            PING => self.pings.take(self.limits.pings, now()).ok_or(FrameFlood::Pings),
            SETTINGS | GOAWAY => self.settings.take(self.limits.settings, now()).ok_or(FrameFlood::Settings),
            WINDOW_UPDATE if spend(&mut self.window_credit, BYTES_PER_WINDOW_UPDATE) => Ok(()),
            _ => self.glitch(now),
        }
    }

    fn data(&mut self, length: usize, now: &impl Fn() -> Instant) -> Result<(), FrameFlood> {
        let tiny = if self.of_server { 0 } else { TINY_DATA };
        if length > tiny || spend(&mut self.frame_credit, BYTES_PER_FRAME) { Ok(()) } else { self.glitch(now) }
    }

    fn glitch(&mut self, now: &impl Fn() -> Instant) -> Result<(), FrameFlood> {
        self.glitches.take(self.limits.glitches, now()).ok_or(FrameFlood::Glitches)
    }
}

/// Takes `price` out of `credit`, when there is so much.
fn spend(credit: &mut u64, price: u64) -> bool {
    let rest = credit.checked_sub(price);
    *credit = rest.unwrap_or(*credit);
    rest.is_some()
}

/// A token bucket that holds as many tokens as it gains in a second. It is full at first.
#[derive(Debug, Default)]
struct Bucket {
    /// When it was full for the last time, had it been emptied evenly since: tokens are time.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes a token out of a bucket of `per_second`; `None` when it is empty. 0 per second lets nothing through.
    fn take(&mut self, per_second: u32, now: Instant) -> Option<()> {
        let price = Duration::from_secs(1).checked_div(per_second)?;
        let spent_until = self.full_at.map_or(now, |at| at.max(now)) + price;
        if spent_until.saturating_duration_since(now) > Duration::from_secs(1) {
            return None;
        }
        self.full_at = Some(spent_until);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len();
        let mut bytes = vec![(length >> 16) as u8, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    /// How many frames of this kind pass at one moment.
    fn passes(kind: u8, flags: u8, payload: &[u8], start: Instant) -> usize {
        let mut meter = FrameMeter::of_server(FrameLimits::default());
        let bytes = frame(kind, flags, payload);
        (0..100_000).take_while(|_| meter.observe(&bytes, || start).is_ok()).count()
    }

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
        Instant::now()
    }

    #[test]
    fn each_kind_passes_as_often_as_its_limit_says() {
        let at = start();
        assert_eq!(passes(3, 0, &[0; 4], at), 100, "RST_STREAM");
        assert_eq!(passes(6, 0, &[0; 8], at), 20, "PING");
        assert_eq!(passes(4, 0, &[], at), 10, "SETTINGS");
        assert_eq!(passes(7, 0, &[0; 8], at), 10, "GOAWAY");
        assert_eq!(passes(2, 0, &[0; 5], at), 100, "PRIORITY");
        assert_eq!(passes(8, 0, &[0; 4], at), 100, "WINDOW_UPDATE");
        assert_eq!(passes(0xbe, 0, &[0; 40], at), 100, "unknown");
        assert_eq!(passes(0, 0, &[], at), 100, "empty DATA");
        assert_eq!(passes(0, 0, &[1], at), 100_000, "tiny DATA of a server");
        let mut padded = vec![0; 256];
        padded[0] = 255;
        assert_eq!(passes(0, 8, &padded, at), 100, "DATA of nothing but padding");
        assert_eq!(passes(9, 0, &[0; 9], at), 8, "CONTINUATION");
        assert_eq!(passes(0, 0, &[0; 9], at), 100_000, "DATA with something in it");
        assert_eq!(passes(0, 1, &[0; 2], at), 100_000, "DATA that ends a stream");
        assert_eq!(passes(6, 1, &[0; 8], at), 100_000, "answers to our PING");
        assert_eq!(passes(1, 4, &[0; 10], at), 100_000, "HEADERS");
    }

    #[test]
    fn refused_requests_share_the_budget_of_glitches() {
        let at = start();
        let mut meter = FrameMeter::of_client(FrameLimits::default());
        assert!(meter.observe(&[&[0; PREFACE][..], &frame(0xbe, 0, &[]).repeat(40)].concat(), || at).is_ok());
        let refused = (0..1000).take_while(|_| meter.refused(at).is_ok()).count();
        assert_eq!(refused, 60);
        assert_eq!(meter.observe(&frame(0xbe, 0, &[]), || at), Err(FrameFlood::Glitches));
    }

    #[test]
    fn tiny_data_of_a_client_passes_as_often_as_it_is_answered() {
        let at = start();
        let (key, call) = (frame(0, 0, &[0; 4]), frame(0, 0, &[0; 5]));
        let mut meter = FrameMeter::of_client(FrameLimits::default());
        assert!(meter.observe(&[0; PREFACE], || at).is_ok());
        for number in 0..10_000 {
            assert!(meter.observe(&call, || at).is_ok(), "an empty message of gRPC is not tiny, {number}");
        }
        for number in 0..10_000 {
            assert!(meter.observe(&key, || at).is_ok(), "key {number}");
            meter.sent(HEADER + 4);
        }
        assert_eq!(meter.data_frames(), 20_000);
        let flood = (0..10_000).take_while(|_| meter.observe(&key, || at).is_ok()).count();
        assert_eq!(flood, 599, "what was saved up, and what was left of the budget");
    }

    #[test]
    fn a_peer_with_a_small_window_opens_it_after_each_frame() {
        let (at, update) = (start(), frame(8, 0, &[0; 4]));
        let mut meter = FrameMeter::of_server(FrameLimits::default());
        for number in 0..10_000 {
            meter.sent(HEADER + 100);
            for _ in 0..2 {
                assert!(meter.observe(&update, || at).is_ok(), "frame {number}");
            }
        }
    }

    #[test]
    fn heads_are_counted_and_the_kind_of_the_last_frame_is_known() {
        let mut meter = FrameMeter::of_server(FrameLimits::default());
        assert!(!meter.is_in_data(), "nothing came");
        for (kind, payload, heads, in_data) in
            [(1, 100, 1, false), (0, 100, 1, true), (9, 10, 1, false), (1, 0, 2, false), (0, 0, 2, true)]
        {
            meter.observe(&frame(kind, 0, &vec![0; payload]), start).unwrap();
            assert_eq!((meter.heads(), meter.is_in_data()), (heads, in_data));
        }
    }

    #[test]
    fn a_server_may_reset_as_many_streams_as_it_was_asked_for() {
        let at = start();
        let (reset, mut meter) = (frame(3, 0, &[0; 4]), FrameMeter::of_server(FrameLimits::default()));
        for number in 0..10_000 {
            meter.sent(HEADER + 20);
            assert!(meter.observe(&reset, || at).is_ok(), "stream {number}");
        }
        let flood = (0..10_000).take_while(|_| meter.observe(&reset, || at).is_ok()).count();
        assert_eq!(flood, 599, "what was saved up, less the last, and the budget");
    }

    /// How many of the pings that are sent at these times (in milliseconds) pass, after `sent` bytes were sent.
    fn pings_that_pass(times: &[u64], sent: usize) -> usize {
        let begin = start();
        let mut meter = FrameMeter::of_server(FrameLimits::default());
        meter.sent(sent);
        let ping = frame(6, 0, &[0; 8]);
        times.iter().take_while(|at| meter.observe(&ping, || begin + Duration::from_millis(**at)).is_ok()).count()
    }

    #[test]
    fn a_budget_comes_back_with_time_and_with_what_was_sent() {
        assert_eq!(pings_that_pass(&[0; 30], 0), 20);
        let mut times = vec![0; 20];
        times.extend([50; 10]);
        assert_eq!(pings_that_pass(&times, 0), 21, "one token in 50 ms");
        assert_eq!(pings_that_pass(&[0; 30], 3 * 4096), 23);
        let steady: Vec<u64> = (0..1000).map(|number| number * 50).collect();
        assert_eq!(pings_that_pass(&steady, 0), 1000);
    }

    proptest! {
        #[test]
        fn the_split_of_the_bytes_makes_no_difference(
            frames in prop::collection::vec((0u8..12, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..400),
            cuts in prop::collection::vec(1usize..60, 1..50),
        ) {
            let begin = start();
            let mut bytes = vec![0; PREFACE];
            frames.iter().for_each(|(kind, flags, payload)| bytes.extend(frame(*kind, *flags, payload)));
            let whole = FrameMeter::of_client(FrameLimits::default()).observe(&bytes, || begin);
            let mut meter = FrameMeter::of_client(FrameLimits::default());
            let mut split = Ok(());
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || split.is_err() {
                    break;
                }
                let (piece, others) = rest.split_at((*cut).min(rest.len()));
                split = meter.observe(piece, || begin);
                rest = others;
            }
            prop_assert_eq!(whole, split);
        }
    }
}
