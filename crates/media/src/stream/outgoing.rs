//! The sending half of a stream.

use std::time::{Duration, Instant};

use rtp_types::RtpPacketBuilder;

use crate::channels::{self, Channels, Sides};
use crate::codec::{Codec, EXPECTED_LOSS, Encoder, OpusSettings, libopus};
use crate::pool::Pool;
use crate::redundancy::RedundancyTypes;
use crate::redundancy::sender::{Sender, Spending};
use crate::redundancy::trace::Reported;
use crate::rtcp::SenderInfo;
use crate::stream::StreamConfig;
use crate::stream::congestion::MOST;
use crate::stream::pauses::{COEFFICIENTS, Pauses, Sent, Verdict};
use crate::telephone_event::KeySender;
use crate::{FRAME_TIME, SAMPLE_RATE};

/// After a pause of this length the timestamps leap by it (RFC 3550 section 5.1: they follow the
/// sampling clock, also when nothing is sent).
const PAUSE: Duration = Duration::from_millis(200);
/// The most loss, in percent, that the encoder is told of: beyond it, FEC would take all the bits.
const MOST_LOSS: f64 = 25.0;
/// From this loss on, in percent, DRED is sent,
const DRED_FROM: f64 = 6.0;
/// until so many reports in a row have told of less: bursts are seconds apart.
const DRED_CALM: u32 = 10;
/// So much of it, in milliseconds: more costs too many bits.
const DRED_SENT: u32 = 200;

/// Buffers of packets that are kept: more are on their way only when the owner falls behind.
const SPARE: usize = 8;

/// Samples of a millisecond.
const SAMPLES_PER_MS: usize = SAMPLE_RATE as usize / 1_000;

/// Turns captured sound into RTP packets.
#[derive(Debug)]
pub(super) struct Outgoing {
    encoder: Encoder,
    codec: Codec,
    payload_type: u8,
    clock_rate: u32,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    ptime: Duration,
    channels: Channels,
    /// Captured samples that do not yet fill a packet: of all channels in turns.
    pending: Vec<i16>,
    /// Room for the next payload.
    payload: Vec<u8>,
    /// What packets are written to.
    pool: Pool,
    last: Option<Instant>,
    /// The next packet begins a talk-spurt (RFC 3551 section 4.1).
    begins: bool,
    pub(super) packets: u64,
    pub(super) octets: u64,
    expected_loss: f64,
    redundancy: Option<Sender>,
    spending: Spending,
    /// The bits a second that the encoder was told of last.
    told: i32,
    /// Bits a second of payload that may be sent with one channel, redundancy included.
    budget: f64,
    /// Packets are all of one size (RFC 6562), until the network has the bit rate changed.
    constant: bool,
    pauses: Pauses,
    /// How much DRED the peer can use, and how much the encoder was told to send, in milliseconds.
    dred_most: u32,
    dred: u32,
    /// Reports in a row that tell of little loss.
    calm: u32,
    telephone_event: Option<u8>,
    keys: KeySender,
}

impl Outgoing {
    pub(super) fn new(
        config: &StreamConfig,
        [ssrc, sequence, timestamp]: [u32; 3],
    ) -> Result<Outgoing, libopus::Error> {
        let ((codec, payload_type), ptime) = (config.send, config.ptime);
        let redundancy = protection(codec, payload_type, ptime, config.redundancy.send);
        Ok(Outgoing {
            encoder: encoder(config, redundancy.as_ref())?,
            redundancy,
            spending: Spending::new(),
            told: 0,
            budget: MOST,
            codec,
            payload_type,
            clock_rate: codec.clock_rate(),
            ssrc,
            // RFC 3711 section 3.3.1: the first packets may be lost before the number rolls over, and
            // then nobody can tell any more how often it did.
            sequence: (sequence & 0x7fff) as u16,
            timestamp,
            ptime,
            channels: codec.channels_of(config.send_channels),
            pending: Vec::new(),
            payload: Vec::new(),
            pool: Pool::new(SPARE),
            last: None,
            begins: true,
            packets: 0,
            octets: 0,
            expected_loss: f64::from(EXPECTED_LOSS),
            constant: false,
            pauses: Pauses::Sent,
            dred_most: 0,
            dred: 0,
            calm: 0,
            telephone_event: None,
            keys: KeySender::default(),
        })
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Goes on under another SSRC (RFC 3550 section 8.2).
    pub(super) fn change_ssrc(&mut self, ssrc: u32) {
        self.ssrc = ssrc;
        self.packets = 0;
        self.octets = 0;
    }

    /// Goes on with another codec, payload type, packet time or number of channels.
    pub(super) fn change(&mut self, config: &StreamConfig) -> Result<(), libopus::Error> {
        let ((codec, payload_type), ptime) = (config.send, config.ptime);
        let redundancy = protection(codec, payload_type, ptime, config.redundancy.send);
        self.encoder = encoder(config, redundancy.as_ref())?;
        let channels = codec.channels_of(config.send_channels);
        self.channels.convert(channels, &mut self.pending);
        self.channels = channels;
        self.redundancy = redundancy;
        self.told = 0;
        self.codec = codec;
        self.dred = 0;
        self.payload_type = payload_type;
        self.clock_rate = codec.clock_rate();
        self.ptime = ptime;
        Ok(())
    }

    /// Takes captured samples, of which [`packet`](Self::packet) makes packets.
    pub(super) fn capture(&mut self, now: Instant, samples: &[i16]) {
        self.hear(now);
        match self.channels {
            Channels::Mono => self.pending.extend_from_slice(samples),
            Channels::Stereo => {
                let both = samples.iter().flat_map(|&sample| [sample; 2]);
                self.pending.extend(both);
            }
        }
    }

    /// The same of both sides.
    pub(super) fn capture_sides(&mut self, now: Instant, sides: &Sides) {
        self.hear(now);
        match self.channels {
            Channels::Mono => self.pending.extend_from_slice(&channels::mix(sides)),
            Channels::Stereo => self.pending.extend(channels::interleaved(sides)),
        }
    }

    /// Sound comes now, perhaps after a pause.
    fn hear(&mut self, now: Instant) {
        let paused = self
            .last
            .map(|last| now.saturating_duration_since(last))
            .filter(|since| *since >= PAUSE);
        if let Some(since) = paused {
            let leap = self.waiting() + since.saturating_sub(FRAME_TIME);
            self.pending.clear();
            self.timestamp = self.timestamp.wrapping_add(self.ticks(leap));
        }
        self.begins |= paused.is_some();
        self.last = Some(now);
    }

    /// The next packet that is filled. Pauses fill none.
    pub(super) fn packet(&mut self) -> Option<Vec<u8>> {
        let samples = self.ptime.as_millis() as usize * SAMPLES_PER_MS * self.channels.count();
        loop {
            let sound = self.pending.get(..samples)?;
            let verdict = self.pauses.hear(sound, self.ptime);
            // The encoder hears what is said under a key, too, and goes on after it; but not in a pause,
            // so that it stands where the peer's decoder does when it is over.
            let mut payload = std::mem::take(&mut self.payload);
            let encoded =
                verdict == Verdict::Voice && self.encoder.encode(sound, &mut payload).is_ok();
            self.pending.drain(..samples);
            let packet = match (self.key_packet(), verdict) {
                (Some(packet), _) => Some(packet),
                (None, Verdict::Voice) if encoded => self.sound_packet(&payload),
                (
                    None,
                    Verdict::Noise {
                        payload_type,
                        noise,
                    },
                ) => {
                    self.begins = true;
                    noise.write(COEFFICIENTS, &mut payload);
                    self.write(false, payload_type, self.timestamp, &payload)
                }
                (None, Verdict::Pause | Verdict::Voice) => None,
            };
            self.payload = payload;
            self.timestamp = self.timestamp.wrapping_add(self.ticks(self.ptime));
            if packet.is_some() {
                return packet;
            }
        }
    }

    /// Takes a packet's buffer back.
    pub(super) fn recycle(&mut self, packet: Vec<u8>) {
        self.pool.give(packet);
    }

    /// Sound as a packet, unless it is a pause that the peer knows of.
    fn sound_packet(&mut self, primary: &[u8]) -> Option<Vec<u8>> {
        let sent = self.pauses.judge(primary, self.ptime);
        // With Opus something is sent in pauses, too: the talk-spurt begins after it.
        self.begins |= sent != Sent::Voice;
        if sent == Sent::Nothing {
            return None;
        }
        let marker = self.begins && sent == Sent::Voice;
        let mut redundancy = self.redundancy.take();
        let (payload_type, payload) = match &mut redundancy {
            Some(sender) => sender.wrap(primary, self.sequence, self.timestamp),
            None => (self.payload_type, primary),
        };
        let packet = self.write(marker, payload_type, self.timestamp, payload);
        let octets = payload.len();
        self.redundancy = redundancy;
        self.spend(octets);
        self.begins &= !marker;
        packet
    }

    /// Writes a packet.
    fn write(
        &mut self,
        marker: bool,
        payload_type: u8,
        timestamp: u32,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let mut packet = self.pool.take();
        RtpPacketBuilder::<&[u8], &[u8]>::new()
            .marker_bit(marker)
            .payload_type(payload_type)
            .sequence_number(self.sequence)
            .timestamp(timestamp)
            .ssrc(self.ssrc)
            .payload(payload)
            .write_into_vec(&mut packet)
            .ok()?;
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.octets += payload.len() as u64;
        Some(packet)
    }

    /// Keeps the bits a second, redundancy included, at what they may be.
    fn spend(&mut self, octets: usize) {
        let budget = self.budget * self.channels.bits();
        let boost = self
            .spending
            .spent(octets, budget / 8.0 * self.ptime.as_secs_f64());
        let primary = match &self.redundancy {
            Some(sender) => sender.primary_bitrate(budget),
            None => budget,
        };
        // Packets of one size follow the network, and not what is said.
        let boost = if self.constant { 1.0 } else { boost };
        let most = match (&self.redundancy, self.channels) {
            (Some(sender), Channels::Stereo) => sender.most_bitrate(),
            _ => f64::MAX,
        };
        let bitrate = (primary * boost).min(most) as i32;
        // libopus recomputes much for every new figure.
        if bitrate.abs_diff(self.told) > self.told.unsigned_abs() / 50 {
            self.told = bitrate;
            // An encoder that refuses keeps what it had.
            let _ = self.encoder.set_bitrate(bitrate);
        }
    }

    /// From now on so many bits a second may be sent with one channel, and in proportion with two.
    pub(super) fn set_budget(&mut self, budget: f64) {
        self.budget = budget;
    }

    /// The peer told which packets arrived. Plans are weighed by what one channel would have.
    pub(super) fn reported_fates(&mut self, reported: &Reported, budget: f64) {
        if let Some(sender) = &mut self.redundancy {
            sender.reported(reported, budget);
        }
    }

    /// How Opus is sent.
    pub(super) fn configure(&mut self, opus: &OpusSettings) -> Result<(), libopus::Error> {
        self.constant = opus.cbr;
        self.encoder.configure(opus)
    }

    /// How pauses are sent: as sound, or not (DTX), beside comfort noise under this number.
    pub(super) fn set_dtx(&mut self, dtx: bool, noise: Option<u8>) -> Result<(), libopus::Error> {
        self.pauses = Pauses::new(dtx, self.codec, noise);
        self.encoder.set_dtx(dtx)
    }

    /// Presses a key: `false` if it is none, if the peer takes none, or if too many wait.
    pub(super) fn press(&mut self, key: char) -> bool {
        self.telephone_event.is_some() && self.keys.press(key)
    }

    /// The packet about a key that goes in place of the next one of sound.
    fn key_packet(&mut self) -> Option<Vec<u8>> {
        let payload_type = self.telephone_event?;
        let ticks = self.ticks(self.ptime);
        let key = self.keys.step(self.timestamp, ticks, self.clock_rate)?;
        self.write(key.marker, payload_type, key.timestamp, &key.payload)
    }

    /// From now on the peer takes keys under this payload type.
    pub(super) fn set_telephone_event(&mut self, payload_type: Option<u8>) {
        self.telephone_event = payload_type;
    }

    /// The sender's part of a report (RFC 3550 section 6.4.1).
    pub(super) fn info(&self, now: Instant, ntp: u64) -> SenderInfo {
        // `timestamp` is the first waiting sample's; the frame captured last began a frame ago.
        let since = self
            .last
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let moment = self
            .timestamp
            .wrapping_add(self.ticks(self.waiting() + since));
        SenderInfo {
            ntp,
            rtp_timestamp: moment.wrapping_sub(self.ticks(FRAME_TIME)),
            packets: self.packets as u32,
            octets: self.octets as u32,
        }
    }

    /// The peer reports that it lost this share (of 256) of our packets.
    pub(super) fn reported_loss(&mut self, fraction: u8) {
        let percent = f64::from(fraction) * 100.0 / 256.0;
        self.expected_loss = (self.expected_loss + percent) / 2.0;
        self.calm = match percent < DRED_FROM {
            true => self.calm.saturating_add(1),
            false => 0,
        };
        self.tell_loss();
    }

    /// How much DRED the peer can use, in milliseconds.
    pub(super) fn set_dred(&mut self, ms: u32) {
        self.dred_most = ms;
        self.tell_loss();
    }

    /// Tells the encoder of the loss. From some loss on, DRED goes along, where nothing better does
    /// (docs/decisions/0026).
    fn tell_loss(&mut self) {
        let lossy = match self.dred {
            0 => self.expected_loss >= DRED_FROM,
            _ => self.calm < DRED_CALM,
        };
        let dred = match lossy && self.redundancy.is_none() {
            true => self.dred_most.min(DRED_SENT),
            false => 0,
        };
        // libopus gives DRED its bits by the loss that it is told of.
        let expected = match dred {
            0 => self
                .expected_loss
                .clamp(f64::from(EXPECTED_LOSS), MOST_LOSS),
            _ => MOST_LOSS,
        };
        // An encoder that refuses keeps what it had.
        let _ = self.encoder.expect_loss(expected.round() as u8);
        if dred != self.dred && self.encoder.set_dred(dred).is_ok() {
            tracing::debug!(dred, loss = self.expected_loss, "DRED changes");
            self.dred = dred;
        }
    }

    /// What the encoder adds to the way, a packet's length aside.
    pub(super) fn look_ahead(&self) -> Duration {
        self.encoder.look_ahead()
    }

    /// How much sound waits for a packet to be full.
    fn waiting(&self) -> Duration {
        let samples = self.pending.len() / self.channels.count();
        Duration::from_secs(samples as u64) / SAMPLE_RATE
    }

    fn ticks(&self, time: Duration) -> u32 {
        (time.as_nanos() * u128::from(self.clock_rate) / 1_000_000_000) as u32
    }
}

/// The encoder beside this redundancy.
fn encoder(config: &StreamConfig, beside: Option<&Sender>) -> Result<Encoder, libopus::Error> {
    // In-band FEC beside better redundancy costs bits and brings nothing.
    let fec = config.send_fec && beside.is_none();
    Encoder::new(config.send.0, fec, config.send_channels)
}

/// What protects the packets of this codec: redundancy was agreed for Opus alone.
fn protection(
    codec: Codec,
    payload_type: u8,
    ptime: Duration,
    types: Option<RedundancyTypes>,
) -> Option<Sender> {
    let ticks = ptime.as_millis() as u32 * (codec.clock_rate() / 1_000);
    types
        .filter(|_| codec == Codec::Opus)
        .map(|types| Sender::new(types, payload_type, ptime, ticks))
}
