//! One audio stream of one call: RTP and RTCP in both directions.

mod congestion;
mod incoming;
mod outgoing;
mod pauses;
mod renegotiation;
mod stats;
mod voip;

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::comfort_noise::ComfortNoise;
use crate::playout::PayloadTypes;
use crate::quality::Remote;
use crate::reception::Block;
use crate::redundancy::Redundancy;
use crate::rtcp::{self, Report};
use crate::{Channels, Codec, FRAME, OpusSettings, Sides};

use self::congestion::{Congestion, Heard, Sent};
use self::incoming::{Incoming, Received};
use self::outgoing::Outgoing;

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
    /// The channels that Opus sends: two if the peer likes to get them (`stereo` of its `a=fmtp`). The other
    /// codecs have one.
    pub send_channels: Channels,
    /// The channels that what comes is played with, as far as the codec has them, whatever the peer sends.
    pub receive_channels: Channels,
    /// How much sound a packet of ours holds: 10, 20 (by default), 40 or 60 ms.
    pub ptime: Duration,
    /// Redundancy beside Opus (RFC 2198), if it was agreed.
    pub redundancy: Redundancy,
    /// How Opus is sent.
    pub opus: OpusSettings,
    /// Pauses are not sent as sound: with Opus hardly anything (DTX), with the other codecs comfort
    /// noise, if that was agreed.
    pub dtx: bool,
    /// Comfort noise beside G.711 and G.722 (RFC 3389).
    pub comfort_noise: ComfortNoise,
    /// The peer wants to know how it is heard: reports of ours hold VoIP metrics (RFC 3611 section
    /// 4.7). So they do once it has sent some itself. What the peer says of that kind is read in any case.
    pub voip_metrics: bool,
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
            send_channels: Channels::Mono,
            receive_channels: Channels::Mono,
            ptime: PTIME,
            redundancy: Redundancy::default(),
            opus: OpusSettings::default(),
            dtx: false,
            comfort_noise: ComfortNoise::default(),
            voip_metrics: false,
        }
    }

    /// How what comes in is read.
    fn payload_types(&self) -> PayloadTypes {
        PayloadTypes {
            codecs: self.receive.clone(),
            comfort_noise: self.comfort_noise.receive,
            channels: self.receive_channels,
        }
    }

    fn check(&self) -> Result<(), StreamError> {
        if !PTIMES.contains(&self.ptime) {
            return Err(StreamError::PacketTime(self.ptime));
        }
        let receive = self.receive.iter().map(|(payload_type, _)| *payload_type);
        let redundancy = [self.redundancy.send, self.redundancy.receive]
            .into_iter()
            .flatten();
        let redundancy = redundancy.flat_map(|types| [Some(types.red), types.parity]);
        let mut used = receive
            .chain([self.send.1])
            .chain(self.telephone_event)
            .chain(self.comfort_noise.send)
            .chain(self.comfort_noise.receive)
            .chain(redundancy.flatten());
        let forbidden = |payload_type: &u8| {
            *payload_type > 127 || (self.rtcp_mux && (64..=95).contains(payload_type))
        };
        match used.find(forbidden) {
            Some(payload_type) => Err(StreamError::PayloadType(payload_type)),
            None => Ok(()),
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
    /// Sending has ceased, by RFC 8083; the user has to know. It begins again when the path changes, and
    /// after [`CircuitBreaker::Reports`] also as soon as anything is heard.
    CircuitBreaker(CircuitBreaker),
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
    /// A packet time that is not among those of [`StreamConfig::ptime`].
    #[error("packets of {0:?} cannot be sent")]
    PacketTime(Duration),
}

/// How much sound a packet holds when nothing else is agreed (RFC 3551 section 4.2).
const PTIME: Duration = Duration::from_millis(20);
/// What a packet may hold: whole frames, of lengths that Opus has.
pub const PTIMES: [Duration; 4] = [
    Duration::from_millis(10),
    PTIME,
    Duration::from_millis(40),
    Duration::from_millis(60),
];
/// The first report follows the first packet by about this (RFC 3550 section 6.2 lets a unicast
/// session begin at once; a few packets later there is something to report).
const FIRST_REPORT: Duration = Duration::from_millis(500);
/// The interval of reports, before randomisation: shorter than RFC 3550 section 6.2's minimum, since the
/// sender's redundancy follows them (docs/deviations.md).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A first loss is reported about so long after it (RFC 4585 section 3.5 calls that early feedback): by
/// then it is sure that the packet was not just overtaken.
const EARLY: Duration = Duration::from_millis(150);
/// Losses this long after the last report's are a first loss.
const FIRST_LOSS: Duration = Duration::from_secs(2);
/// The compensation for the randomisation (RFC 3550 section 6.3.1): e - 3/2.
const COMPENSATION: f64 = 1.218_28;
/// A round trip longer than this is nonsense.
const LONGEST_ROUND_TRIP_MS: f64 = 60_000.0;
/// So long after anything was heard of the peer, sending ceases, if it had reported before. RFC 8083 section
/// 4.2 would have three of its intervals; by this time consent (RFC 7675) has run out as well.
const UNHEARD: Duration = Duration::from_secs(30);
/// Packets and events that wait for an owner who does not fetch them.
const QUEUE: usize = 256;

pub use self::congestion::CircuitBreaker;
pub use self::stats::StreamStats;

/// One audio stream, sans-IO. The order of polling stands in the [crate's doc](crate).
#[derive(Debug)]
pub struct MediaStream {
    config: StreamConfig,
    began: Instant,
    wall: SystemTime,
    rng: ChaCha8Rng,
    outgoing: Outgoing,
    incoming: Incoming,
    transmits: VecDeque<MediaTransmit>,
    events: VecDeque<MediaEvent>,
    /// RTP packets sent under SSRCs that we left, and their octets.
    sent_before: (u64, u64),
    /// Our SSRC was someone else's, too.
    collided: bool,
    /// When the next report is due.
    report_at: Option<Instant>,
    /// When packets of the peer's were missing last.
    loss_at: Option<Instant>,
    /// RTP packets that were sent when the last two reports went out (RFC 3550 section 6.4: a
    /// sender report if there were any since the last but one).
    sent_at_reports: [u64; 2],
    /// What the peer reported last about us, and the round trip that it gave.
    heard: Option<Block>,
    round_trip_ms: Option<f64>,
    /// How the peer says that it hears us, and when it is told the same of us next.
    remote: Remote,
    voip_at: Option<Instant>,
    left: Option<u32>,
    closed: bool,
    congestion: Congestion,
    /// When anything came from the peer last.
    heard_at: Option<Instant>,
    ceased: Option<CircuitBreaker>,
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
        config.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let begin = [rng.next_u32(), rng.next_u32(), rng.next_u32()];
        let mut outgoing =
            Outgoing::new(&config, begin).map_err(|error| StreamError::Opus(error.to_string()))?;
        outgoing.set_telephone_event(config.telephone_event);
        outgoing
            .configure(&config.opus)
            .and_then(|()| outgoing.set_dtx(config.dtx, config.comfort_noise.send))
            .map_err(|error| StreamError::Opus(error.to_string()))?;
        outgoing.set_dred(config.opus.dred_ms);
        Ok(MediaStream {
            began: now,
            wall,
            rng,
            outgoing,
            incoming: Incoming::new(
                config.payload_types(),
                config.telephone_event,
                config.redundancy.receive,
                noise_seed(seed),
            ),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            sent_before: (0, 0),
            collided: false,
            report_at: None,
            loss_at: None,
            sent_at_reports: [0; 2],
            heard: None,
            round_trip_ms: None,
            remote: Remote::default(),
            voip_at: None,
            left: None,
            closed: false,
            congestion: Congestion::new(),
            heard_at: None,
            ceased: None,
            config,
        })
    }

    /// What the stream was made with.
    pub fn config(&self) -> &StreamConfig {
        &self.config
    }

    /// Sound from the microphone, by rights a frame of 10 ms ([`FRAME`] samples): as soon as there
    /// is enough for a packet, it is encoded and queued. Of a stream that sends two channels, both get it.
    pub fn handle_capture(&mut self, now: Instant, frame: &[i16]) {
        if self.closed || self.ceased.is_some() {
            return;
        }
        self.outgoing.capture(now, frame);
        self.send_captured(now);
    }

    /// The same with two sides, which are mixed where the stream sends one channel.
    pub fn handle_capture_sides(&mut self, now: Instant, sides: &Sides) {
        if self.closed || self.ceased.is_some() {
            return;
        }
        self.outgoing.capture_sides(now, sides);
        self.send_captured(now);
    }

    fn send_captured(&mut self, now: Instant) {
        while let Some(payload) = self.outgoing.packet() {
            if self.outgoing.packets + self.sent_before.0 == 1 {
                self.event(MediaEvent::FirstSent);
            }
            self.transmit(Channel::Rtp, payload);
            self.expect_first_report(now);
        }
    }

    /// Presses a key, `0`–`9`, `*`, `#` or `A`–`D`, for 100 ms of captured sound, in whose place the
    /// peer is told of it (RFC 4733); after those that were pressed before. `false` if it is no key, if
    /// no telephone-event was agreed, or if 32 wait.
    pub fn press_key(&mut self, key: char) -> bool {
        !self.closed && self.outgoing.press(key)
    }

    /// A datagram that came by the RTP path. RTCP among it (RFC 5761) is recognised. The owner
    /// passes on only what came over a path that was proven to lead to the peer.
    pub fn handle_rtp(&mut self, now: Instant, datagram: &[u8]) {
        // RFC 5761 section 4: RTCP's packet types are where RTP would have the marker and payload
        // types 64 to 95.
        if datagram
            .get(1)
            .is_some_and(|kind| (192..=223).contains(kind))
        {
            return self.handle_rtcp(now, datagram);
        }
        if self.closed {
            return;
        }
        let before = self.incoming.packets;
        match self.incoming.handle(now, datagram, self.outgoing.ssrc()) {
            Received::Nothing => return,
            Received::OwnSsrc => return self.collide(now),
            Received::Key(key) => self.event(MediaEvent::Digit(key)),
            Received::Sound => {}
        }
        self.expect_early_report(now);
        self.hear(now);
        if before == 0 {
            // Before the digit that the first packet may have brought.
            self.events.push_front(MediaEvent::FirstReceived);
        }
        self.expect_first_report(now);
    }

    /// A datagram that came by the RTCP path.
    pub fn handle_rtcp(&mut self, now: Instant, datagram: &[u8]) {
        if self.closed {
            return;
        }
        let Some(heard) = rtcp::read(datagram) else {
            return;
        };
        self.hear(now);
        for (ssrc, ntp) in heard.senders {
            self.incoming.sender_report(now, ssrc, ntp);
        }
        for (ssrc, block) in heard.blocks {
            if ssrc == self.outgoing.ssrc() {
                self.handle_block(now, block);
            }
        }
        for (ssrc, reported) in heard.fates {
            if ssrc == self.outgoing.ssrc() {
                let budget = self.congestion.budget();
                self.outgoing.reported_fates(&reported, budget);
            }
        }
        for (ssrc, metrics) in heard.voip {
            if ssrc == self.outgoing.ssrc() {
                self.remote.hear(&metrics);
                // Who tells what it hears knows what it is told, even where an offer had no room to say so.
                self.config.voip_metrics = true;
            }
        }
        let source = self.incoming.ssrc();
        if source.is_some_and(|ssrc| heard.byes.contains(&ssrc)) && self.left != source {
            self.left = source;
            self.event(MediaEvent::Bye);
        }
    }

    /// The peer reports how it hears us.
    fn handle_block(&mut self, now: Instant, block: Block) {
        if self
            .heard
            .is_none_or(|before| before.highest != block.highest)
        {
            self.outgoing.reported_loss(block.fraction_lost);
        }
        if block.last_report != 0 {
            // RFC 3550 section 6.4.1, figure 2: in units of 1/65536 s, modulo 2^32.
            let middle = (self.ntp(now) >> 16) as u32;
            let units = middle
                .wrapping_sub(block.last_report)
                .wrapping_sub(block.delay_since);
            let ms = f64::from(units as i32) * 1e3 / 65_536.0;
            // A shade below zero is the rounding of both sides.
            if (-1.0..LONGEST_ROUND_TRIP_MS).contains(&ms) {
                self.round_trip_ms = Some(ms.max(0.0));
            }
        }
        let fresh = self.heard.is_none_or(|before| before != block);
        self.heard = Some(block);
        if fresh {
            self.judge(now, block);
        }
    }

    /// What the report says about the path.
    fn judge(&mut self, now: Instant, block: Block) {
        let heard = Heard {
            loss: f64::from(block.fraction_lost) / 256.0,
            round_trip_ms: self.round_trip_ms,
            highest: block.highest,
        };
        let sent = Sent {
            packets: self.outgoing.packets,
            octets: self.outgoing.octets,
        };
        let broken = self.congestion.report(now, heard, sent);
        self.outgoing.set_budget(self.congestion.budget());
        if let Some(why) = broken {
            self.cease(why);
        }
    }

    fn cease(&mut self, why: CircuitBreaker) {
        if self.ceased.replace(why).is_none() {
            self.event(MediaEvent::CircuitBreaker(why));
        }
    }

    /// The peer is there.
    fn hear(&mut self, now: Instant) {
        self.heard_at = Some(now);
        if self.ceased == Some(CircuitBreaker::Reports) {
            self.ceased = None;
        }
    }

    /// Media goes another way now: delays, round trips and losses of before say nothing any more.
    pub fn path_changed(&mut self) {
        self.congestion.path_changed();
        self.ceased = None;
        self.incoming.path_changed();
    }

    /// Does what is due at `now`: RTCP reports.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed || self.report_at.is_none_or(|at| now < at) {
            return;
        }
        self.report(now, false);
        let unheard = |at: Instant| now.saturating_duration_since(at) > UNHEARD;
        if self.heard.is_some() && self.heard_at.is_some_and(unheard) {
            self.cease(CircuitBreaker::Reports);
        }
        let interval = self.randomised(REPORT_INTERVAL).div_f64(COMPENSATION);
        self.report_at = Some(now + interval);
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<MediaTransmit> {
        self.transmits.pop_front()
    }

    /// Takes the payload of a packet back when it was sent, to be written to again: an owner who gives them
    /// back has nothing allocated for what it sends. Others just drop them.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.outgoing.recycle(payload);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.report_at
    }

    /// The next 10 ms to be heard: to be called every 10 ms, as steadily as the owner can. `None`
    /// before anything came (and while the first packets are held against jitter): play silence. Of two
    /// channels it is the mix.
    pub fn playout(&mut self, now: Instant) -> Option<[i16; FRAME]> {
        self.incoming.frame(now)
    }

    /// Both sides of what the last [`playout`](Self::playout) gave; `None` if that has one channel only.
    pub fn sides(&self) -> Option<&Sides> {
        self.incoming.sides.as_ref()
    }

    /// How much longer the sound of the last [`playout`](Self::playout) should last (above 1), or
    /// shorter, than it does: by up to 0.3 %, if the owner's speaker can do that. So the playout comes
    /// to where it should be, and follows a peer whose clock is not ours, without a seam. Where it is
    /// not done, stretches of sound are left out or repeated now and then.
    pub fn pace(&self) -> f64 {
        self.incoming.pace()
    }

    /// Ends the stream: queues a last report with RTCP BYE. Nothing is sent afterwards.
    pub fn close(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        // Who never sent anything says no BYE either (RFC 3550 section 6.3.7).
        if self.report_at.is_some() {
            self.report(now, true);
        }
        self.report_at = None;
        self.closed = true;
    }

    /// Someone else has our SSRC (RFC 3550 section 8.2): we leave it to him, once. If it comes
    /// again under the new one, our own packets are being looped back to us.
    fn collide(&mut self, now: Instant) {
        if self.collided || self.outgoing.packets == 0 {
            return;
        }
        self.collided = true;
        self.report(now, true);
        self.leave_ssrc();
    }

    /// Sends under another SSRC from now on.
    fn leave_ssrc(&mut self) {
        self.sent_before.0 += self.outgoing.packets;
        self.sent_before.1 += self.outgoing.octets;
        self.sent_at_reports = [0; 2];
        self.outgoing.change_ssrc(self.rng.next_u32());
    }

    fn report(&mut self, now: Instant, bye: bool) {
        let sent = self.outgoing.packets;
        let sender =
            (sent > self.sent_at_reports[0]).then(|| self.outgoing.info(now, self.ntp(now)));
        self.sent_at_reports = [self.sent_at_reports[1], sent];
        let mut extended = match bye {
            true => Vec::new(),
            false => self.incoming.extended(),
        };
        self.add_voip_metrics(now, bye, &mut extended);
        let report = Report {
            ssrc: self.outgoing.ssrc(),
            cname: &self.config.cname,
            sender,
            block: self.incoming.block(now),
            extended: &extended,
            bye,
        };
        let payload = report.write();
        let channel = match self.config.rtcp_mux {
            true => Channel::Rtp,
            false => Channel::Rtcp,
        };
        self.transmit(channel, payload);
    }

    fn expect_first_report(&mut self, now: Instant) {
        if self.report_at.is_none() {
            self.report_at = Some(now + self.randomised(FIRST_REPORT));
        }
    }

    /// Brings the next report forward when packets are missing after a time without losses.
    fn expect_early_report(&mut self, now: Instant) {
        if self.incoming.lossy() != Some(now) {
            return;
        }
        let known = self
            .loss_at
            .replace(now)
            .is_some_and(|at| now.saturating_duration_since(at) < FIRST_LOSS);
        if !known {
            let early = now + self.randomised(EARLY);
            self.report_at = self.report_at.map(|at| at.min(early));
        }
    }

    /// Between a half and one and a half of the interval (RFC 3550 section 6.3.1).
    fn randomised(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(0.5 + f64::from(self.rng.next_u32()) / f64::from(u32::MAX))
    }

    fn ntp(&self, now: Instant) -> u64 {
        rtcp::ntp(self.wall + now.saturating_duration_since(self.began))
    }

    fn transmit(&mut self, channel: Channel, payload: Vec<u8>) {
        if self.transmits.len() >= QUEUE
            && let Some(unsent) = self.transmits.pop_front()
        {
            self.recycle(unsent.payload);
        }
        self.transmits.push_back(MediaTransmit { channel, payload });
    }

    fn event(&mut self, event: MediaEvent) {
        if self.events.len() < QUEUE {
            self.events.push_back(event);
        }
    }
}

/// The seed of the noise that is made in the peer's pauses.
fn noise_seed(seed: u64) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1);
    rng.next_u64()
}

#[cfg(test)]
mod pause_tests;
#[cfg(test)]
mod tests;
