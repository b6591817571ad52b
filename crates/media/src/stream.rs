//! One audio stream of one call: RTP and RTCP in both directions.

use std::time::{Instant, SystemTime};

use crate::{Codec, FRAME};

/// What offer and answer agreed on, and what else a stream needs.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// What we send: the codec and the peer's payload type for it.
    pub send: (Codec, u8),
    /// What we take: our payload types and their codecs.
    pub receive: Vec<(u8, Codec)>,
    /// Our payload type for `telephone-event` (RFC 4733), if it was agreed.
    pub telephone_event: Option<u8>,
    /// The CNAME of RTCP SDES (RFC 7022: a random, per-session name keeps the user's address private).
    pub cname: String,
    /// RTCP shares RTP's path (RFC 5761): every packet then leaves by [`Channel::Rtp`].
    pub rtcp_mux: bool,
    /// Opus sends in-band FEC (`useinbandfec` of the peer's `a=fmtp`, on by default).
    pub send_fec: bool,
}

impl StreamConfig {
    /// A stream of one codec in both directions, under its default payload type, with RTCP on
    /// RTP's path.
    pub fn new(codec: Codec, cname: impl Into<String>) -> StreamConfig {
        StreamConfig {
            send: (codec, codec.default_payload_type()),
            receive: vec![(codec.default_payload_type(), codec)],
            telephone_event: None,
            cname: cname.into(),
            rtcp_mux: true,
            send_fec: true,
        }
    }
}

/// The path by which a packet leaves: the ICE component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Component 1: RTP, and RTCP too under rtcp-mux.
    Rtp,
    /// Component 2: RTCP of its own port.
    Rtcp,
}

/// A packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaTransmit {
    /// The component that it leaves by.
    pub channel: Channel,
    /// The packet.
    pub payload: Vec<u8>,
}

/// What happened in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// The first RTP packet was handed out for sending.
    FirstSent,
    /// The first valid RTP packet of an agreed payload type came in.
    FirstReceived,
    /// The peer pressed a key: `0`–`9`, `*`, `#`, `A`–`D`; once for each press (RFC 4733).
    Digit(char),
    /// The peer's RTCP BYE: it stopped sending under that SSRC. Not the end of the call: that is
    /// for SIP to say.
    Bye,
}

/// Why a stream could not be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    /// libopus refused.
    #[error("the Opus codec could not be opened: {0}")]
    Opus(String),
    /// A payload type above 127, or one of 64 to 95 under rtcp-mux (RFC 5761 section 4).
    #[error("payload type {0} cannot be used here")]
    PayloadType(u8),
}

/// The figures of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamStats {
    /// RTP packets sent.
    pub tx_packets: u64,
    /// Octets of their payloads.
    pub tx_octets: u64,
    /// Valid RTP packets received (of all sources).
    pub rx_packets: u64,
    /// Octets of their payloads.
    pub rx_octets: u64,
    /// Packets expected but not received (RFC 3550 appendix A.3), never below zero here.
    pub lost: u64,
    /// Packets that came after their time to be played.
    pub late: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1), in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Round-trip time by LSR and DLSR (RFC 3550 section 6.4.1), in milliseconds: the latest.
    pub rtt_ms: Option<f64>,
    /// What the jitter buffer adds to the quickest packet's way now, in milliseconds.
    pub buffer_ms: Option<f64>,
    /// What it aims at, in milliseconds.
    pub target_ms: Option<f64>,
    /// Frames of 20 ms, rounded up, that had to be made up in place of missing sound.
    pub concealed: u64,
    /// Lost packets that Opus' in-band FEC brought back.
    pub recovered: u64,
    /// Packets that the peer says it lost of ours.
    pub remote_lost: Option<u64>,
    /// The jitter that the peer measured of ours, in milliseconds.
    pub remote_jitter_ms: Option<f64>,
}

/// One audio stream, sans-IO. The order of polling stands in the [crate's doc](crate).
#[derive(Debug)]
pub struct MediaStream {
    config: StreamConfig,
}

impl MediaStream {
    /// A stream that begins at `now`; `wall` is the same moment on the calendar, for RTCP's NTP
    /// timestamps; `seed` gives SSRC, first sequence number and timestamp, and RTCP's intervals.
    pub fn new(
        config: StreamConfig,
        seed: u64,
        now: Instant,
        wall: SystemTime,
    ) -> Result<MediaStream, StreamError> {
        let _ = (seed, now, wall);
        Ok(MediaStream { config })
    }

    /// What the stream was made with.
    pub fn config(&self) -> &StreamConfig {
        &self.config
    }

    /// Sound from the microphone, by rights a frame of 20 ms ([`FRAME`] samples): every full frame
    /// is encoded and queued as an RTP packet.
    pub fn handle_capture(&mut self, now: Instant, frame: &[i16]) {
        let _ = (now, frame);
    }

    /// A datagram that came by the RTP path. RTCP among it (RFC 5761) is recognised.
    pub fn handle_rtp(&mut self, now: Instant, datagram: &[u8]) {
        let _ = (now, datagram);
    }

    /// A datagram that came by the RTCP path.
    pub fn handle_rtcp(&mut self, now: Instant, datagram: &[u8]) {
        let _ = (now, datagram);
    }

    /// Does what is due at `now`: RTCP reports.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<MediaTransmit> {
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        None
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next 20 ms to be heard: to be called every 20 ms, as steadily as the owner can. `None`
    /// before anything came (and while the first packets are held against jitter): play silence.
    pub fn playout(&mut self, now: Instant) -> Option<[i16; FRAME]> {
        let _ = now;
        None
    }

    /// The figures so far.
    pub fn stats(&self) -> StreamStats {
        StreamStats::default()
    }

    /// Ends the stream: queues a last report with RTCP BYE. Nothing is sent afterwards.
    pub fn close(&mut self, now: Instant) {
        let _ = now;
    }
}
