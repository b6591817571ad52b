//! The connected call: media both ways, until somebody hangs up or the path is lost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringtrue_ice::{
    ComponentId, ForkId, Gate, IceSession, PacketKind, Path, PathProof, Ring, classify,
};
use ringtrue_media::{Channel, CircuitBreaker, FRAME, MediaEvent, MediaStream};
use ringtrue_sip::DialogId;
use ringtrue_sip::sdp::{IceSupport, LocalMedia};

use super::inviting::bye;
use super::keying::Keys;
use super::offer::components;
use super::restart::Restart;
use super::secured::EarlyDtls;
use super::silence::Silence;
use super::terms::Terms;
use super::{Call, End, Stage, open_sound};
use crate::desk::Desk;
use crate::event::{EndReason, EndedBy, EventKind, MediaDirection, MediaFigures, Outcome};
use crate::gathering::MediaSockets;
use crate::io::{Frame, Sides};

/// How often figures are told.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// Whether anything may reach the user's ear.
enum Sound {
    /// Not before the proof; `until` is when the patience for it ends.
    Shut { gate: Option<Gate>, until: Instant },
    /// Consent is lost (RFC 7675): not before a new proof. Microphone and speaker stay open, and
    /// silence is played.
    Muted {
        gate: Option<Gate>,
        since: Instant,
        until: Instant,
    },
    /// What the open speaker cost.
    Open { _ring: Ring },
}

/// Where a re-INVITE stands.
pub(super) enum Subsequent {
    /// None is under way.
    Idle,
    /// Ours is out.
    Ours { local: Box<LocalMedia> },
    /// The peer's waits until our own check of the pair that it selected is done.
    Theirs { body: Vec<u8> },
    /// Our offer went in the 200 to a re-INVITE without one; the answer comes in the ACK.
    InAnswer { local: Box<LocalMedia> },
}

/// The media of a connected call.
pub(super) enum Media {
    /// Our offer went in the 200; the answer comes in the ACK.
    Offered(Box<LocalMedia>),
    /// Agreed.
    Agreed(Box<Terms>),
}

/// 10 ms for the speaker.
pub(super) struct Heard {
    pub(super) frame: Frame,
    /// Both sides, where there are two channels.
    pub(super) sides: Option<Box<Sides>>,
    /// How much longer it should last, or shorter.
    pub(super) pace: f64,
}

/// A connected call.
pub(super) struct Talking {
    pub(super) dialog: DialogId,
    pub(super) fork: ForkId,
    pub(super) media: Media,
    sound: Sound,
    since: Instant,
    /// Re-INVITEs may be sent.
    pub(super) confirmed: bool,
    next_stats: Instant,
    /// Octets sent and received when figures were told last, and when that was.
    told: ((u64, u64), Instant),
    hang_up_at: Option<Instant>,
    /// The first source of media from a peer without ICE that is not where its SDP says.
    latched: Option<SocketAddr>,
    pub(super) subsequent: Subsequent,
    pub(super) offer_updated: bool,
    /// Caller: the user has not been told of the ringing and the answer; the proof is awaited so
    /// long.
    pub(super) untold: Option<Instant>,
    pub(super) restart: Restart,
    pub(super) silence: Silence,
    /// The host has addresses that the peer does not know, and that media is to move to.
    pub(super) moved: bool,
    /// So long keys are waited for, where media is to be encrypted.
    pub(super) keys_until: Instant,
}

impl Talking {
    pub(super) fn agreed(
        desk: &Desk,
        now: Instant,
        dialog: DialogId,
        fork: ForkId,
        terms: Terms,
        ring: Option<Ring>,
    ) -> Self {
        Self::new(
            desk,
            now,
            dialog,
            fork,
            Media::Agreed(Box::new(terms)),
            ring,
        )
    }

    pub(super) fn offered(
        desk: &Desk,
        now: Instant,
        dialog: DialogId,
        fork: ForkId,
        local: LocalMedia,
        ring: Ring,
    ) -> Self {
        Self::new(
            desk,
            now,
            dialog,
            fork,
            Media::Offered(Box::new(local)),
            Some(ring),
        )
    }

    fn new(
        desk: &Desk,
        now: Instant,
        dialog: DialogId,
        fork: ForkId,
        media: Media,
        ring: Option<Ring>,
    ) -> Self {
        Self {
            dialog,
            fork,
            media,
            sound: match ring {
                Some(ring) => Sound::Open { _ring: ring },
                None => Sound::Shut {
                    gate: None,
                    until: now + desk.settings.patience,
                },
            },
            since: now,
            confirmed: false,
            next_stats: now + STATS_INTERVAL,
            told: ((0, 0), now),
            hang_up_at: desk.settings.duration.map(|duration| now + duration),
            latched: None,
            subsequent: Subsequent::Idle,
            offer_updated: false,
            untold: None,
            restart: Restart::Idle,
            silence: Silence::NotAwaited,
            moved: false,
            keys_until: now + desk.settings.patience,
        }
    }

    /// The gate that a proof still to come opens.
    pub(super) fn await_proof(&mut self, proof_gate: Option<Gate>) {
        if let Sound::Shut { gate, .. } | Sound::Muted { gate, .. } = &mut self.sound {
            *gate = proof_gate;
        }
    }

    /// Consent is lost: nothing is sent or heard until a new proof, for which the patience begins.
    pub(super) fn mute(&mut self, now: Instant, patience: Duration) {
        if self.has_sound() {
            self.sound = Sound::Muted {
                gate: None,
                since: now,
                until: now + patience,
            };
        }
    }

    /// A new patience for the proof, now that the peer is known to try.
    pub(super) fn renew_patience(&mut self, ends: Instant) {
        if let Sound::Shut { until, .. } | Sound::Muted { until, .. } = &mut self.sound {
            *until = ends;
        }
    }

    /// Since when a path that stood is lost.
    pub(super) fn muted_since(&self) -> Option<Instant> {
        match self.sound {
            Sound::Muted { since, .. } => Some(since),
            Sound::Shut { .. } | Sound::Open { .. } => None,
        }
    }

    /// Whether a path stood and was lost.
    pub(super) fn is_muted(&self) -> bool {
        self.muted_since().is_some()
    }

    /// Whether microphone and speaker were opened.
    pub(super) fn has_devices(&self) -> bool {
        matches!(self.sound, Sound::Open { .. } | Sound::Muted { .. })
    }

    pub(super) fn has_sound(&self) -> bool {
        matches!(self.sound, Sound::Open { .. })
    }

    pub(super) fn connected(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    fn terms(&self) -> Option<&Terms> {
        match &self.media {
            Media::Agreed(terms) => Some(terms),
            Media::Offered(_) => None,
        }
    }

    fn terms_mut(&mut self) -> Option<&mut Terms> {
        match &mut self.media {
            Media::Agreed(terms) => Some(terms),
            Media::Offered(_) => None,
        }
    }

    pub(super) fn keys(&self) -> Option<&Keys> {
        self.terms()?.keys.as_ref()
    }

    pub(super) fn keys_mut(&mut self) -> Option<&mut Keys> {
        self.terms_mut()?.keys.as_mut()
    }

    /// Encryption was agreed on, and there are no keys: no media goes either way.
    fn awaits_keys(&self) -> bool {
        self.keys().is_some_and(|keys| !keys.is_ready())
    }

    /// The figures, the bit rates over what was sent and received since `octets` of both, in
    /// `time`.
    fn figures_since(&self, octets: (u64, u64), time: Duration) -> MediaFigures {
        let Some(terms) = self.terms() else {
            return MediaFigures::default();
        };
        let stats = terms.stream.stats();
        MediaFigures {
            tx_packets: stats.tx_packets,
            rx_packets: stats.rx_packets,
            lost: stats.lost,
            jitter_ms: stats.jitter_ms,
            rtt_ms: stats.rtt_ms,
            srtp_forged: terms.keys.as_ref().map(|keys| keys.refused().forged),
            srtp_replayed: terms.keys.as_ref().map(|keys| keys.refused().replayed),
            codec: Some(terms.stream.config().send.0),
            tx_bitrate: bitrate(stats.tx_octets, octets.0, time),
            rx_bitrate: bitrate(stats.rx_octets, octets.1, time),
            late: stats.late,
            discarded: stats.discarded,
            duplicates: stats.duplicates,
            recovered: stats.recovered,
            concealed_ms: stats.concealed_ms,
            loss_percent: stats.loss_percent,
            burst_packets: stats.burst_packets,
            burst_ms: stats.burst_ms,
            gap_ms: stats.gap_ms,
            burst_density: stats.burst_density,
            gap_density: stats.gap_density,
            buffer_ms: stats.buffer_ms,
            target_ms: stats.target_ms,
            remote_lost: stats.remote_lost,
            remote_jitter_ms: stats.remote_jitter_ms,
            r_factor: stats.r_factor,
            mos: stats.mos,
            remote_mos: stats.remote_mos,
            remote_r_factor: stats.remote_r_factor,
            remote_loss_percent: stats.remote_loss_percent,
            remote_burst_ms: stats.remote_burst_ms,
            remote_burst_density: stats.remote_burst_density,
            remote_buffer_ms: stats.remote_buffer_ms,
            ..MediaFigures::default()
        }
    }

    /// The figures of the call so far.
    pub(super) fn figures(&self, now: Instant) -> MediaFigures {
        self.figures_since((0, 0), self.connected(now))
    }

    /// The figures, with the bit rates of the last second.
    fn figures_of_second(&mut self, now: Instant) -> MediaFigures {
        let (octets, told) = self.told;
        let figures = self.figures_since(octets, now.saturating_duration_since(told));
        if let Some(terms) = self.terms() {
            let stats = terms.stream.stats();
            self.told = ((stats.tx_octets, stats.rx_octets), now);
        }
        figures
    }

    /// Whether media from there is the peer's. With ICE only the far ends of checked pairs count.
    pub(super) fn accepts(&mut self, ice: Option<&IceSession>, path: Path) -> bool {
        if let Some(ice) = ice {
            return ice.accepts_media(self.fork, path);
        }
        let from = path.remote;
        let Some(terms) = self.terms() else {
            return false;
        };
        let (rtp, rtcp) = (terms.negotiated.remote_rtp, terms.negotiated.remote_rtcp);
        if from == rtp || from == rtcp {
            return true;
        }
        // A peer without ICE behind a NAT sends from elsewhere than it says: take the first source.
        *self.latched.get_or_insert(from) == from
    }

    pub(super) fn handle_media(&mut self, now: Instant, kind: PacketKind, payload: &[u8]) {
        if !self.has_sound() {
            return;
        }
        let clear;
        let payload = match self.keys_mut() {
            None => payload,
            Some(keys) => {
                let Some(unprotected) = keys.unprotect(kind, payload) else {
                    return;
                };
                clear = unprotected;
                &clear
            }
        };
        if kind == PacketKind::Rtp {
            self.hear(now);
        }
        if let Some(terms) = self.terms_mut() {
            match kind {
                PacketKind::Rtcp => terms.stream.handle_rtcp(now, payload),
                _ => terms.stream.handle_rtp(now, payload),
            }
        }
    }

    pub(super) fn handle_captured(&mut self, now: Instant, frame: &Frame) {
        if let Some(stream) = self.sending() {
            stream.handle_capture(now, frame);
        }
    }

    pub(super) fn handle_captured_sides(&mut self, now: Instant, sides: &Sides) {
        if let Some(stream) = self.sending() {
            stream.handle_capture_sides(now, sides);
        }
    }

    /// The stream, while the peer is to hear us.
    fn sending(&mut self) -> Option<&mut MediaStream> {
        let open = self.has_sound() && !self.awaits_keys();
        let terms = self.terms_mut().filter(|_| open)?;
        let sends = terms.negotiated.direction.sends();
        sends.then_some(&mut terms.stream)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let sound = match &self.sound {
            Sound::Shut { until, .. } | Sound::Muted { until, .. } => Some(*until),
            Sound::Open { .. } => None,
        };
        let stream = self.terms().and_then(|terms| terms.stream.poll_timeout());
        let own = [
            sound,
            self.awaits_keys().then_some(self.keys_until),
            Some(self.next_stats),
            self.hang_up_at,
            self.untold,
            self.restart.poll_timeout(),
            self.silence.poll_timeout(),
        ];
        own.into_iter().flatten().chain(stream).min()
    }

    /// The next frame for the speaker, if there is one: silence where nothing came.
    pub(super) fn playout(&mut self, now: Instant) -> Option<Heard> {
        if !self.has_devices() {
            return None;
        }
        let open = self.has_sound();
        let terms = self.terms_mut().filter(|_| open);
        let played = terms.and_then(|terms| {
            Some(Heard {
                frame: terms.stream.playout(now)?,
                sides: terms.stream.sides().copied().map(Box::new),
                pace: terms.stream.pace(),
            })
        });
        Some(played.unwrap_or(Heard {
            frame: [0; FRAME],
            sides: None,
            pace: 1.0,
        }))
    }

    /// Says goodbye by RTCP, while the path still stands.
    pub(super) fn close(
        &mut self,
        desk: &mut Desk,
        ice: Option<&IceSession>,
        sockets: Option<&mut MediaSockets>,
        now: Instant,
    ) {
        if let Some(terms) = self.terms_mut() {
            terms.stream.close(now);
        }
        self.send(desk, ice, sockets, now);
    }

    /// Sends what the stream has ready, where media goes now; drops it while there is no path.
    fn send(
        &mut self,
        desk: &mut Desk,
        ice: Option<&IceSession>,
        sockets: Option<&mut MediaSockets>,
        now: Instant,
    ) {
        let fork = self.fork;
        let (Some(terms), Some(sockets)) = (self.terms_mut(), sockets) else {
            return;
        };
        while let Some(transmit) = terms.stream.poll_transmit() {
            let component = match transmit.channel {
                Channel::Rtp => ComponentId::Rtp,
                Channel::Rtcp => ComponentId::Rtcp,
            };
            let way = match ice {
                Some(ice) => ice.path(fork, component),
                None => {
                    let to = match component {
                        ComponentId::Rtp => terms.negotiated.remote_rtp,
                        ComponentId::Rtcp => terms.negotiated.remote_rtcp,
                    };
                    let base = sockets.base_towards(to, component);
                    base.map(|base| Path::udp(base, to))
                }
            };
            // Encrypted or not at all.
            let payload = match &mut terms.keys {
                None => Some(transmit.payload),
                Some(keys) => {
                    let payload = keys.protect(classify(&transmit.payload), &transmit.payload);
                    terms.stream.recycle(transmit.payload);
                    payload
                }
            };
            if let (Some(path), Some(payload)) = (way, payload) {
                sockets.send_media(desk, now, path, payload);
            }
        }
    }

    /// Whether media is to come.
    pub(super) fn receives(&self) -> bool {
        self.terms()
            .is_some_and(|terms| terms.negotiated.direction.receives())
    }

    /// Whether media was to come and none did.
    fn heard_nothing(&self) -> bool {
        self.terms().is_none_or(|terms| {
            terms.negotiated.direction.receives() && terms.stream.stats().rx_packets == 0
        })
    }
}

/// Bits a second.
fn bitrate(octets: u64, before: u64, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| octets.saturating_sub(before) as f64 * 8.0 / seconds)
}

impl Call {
    /// The user presses a key.
    pub(crate) fn send_digit(&mut self, digit: char) {
        if let Stage::Talking(talking) = &mut self.stage
            && let Some(terms) = talking.terms_mut()
        {
            // The user hears from the peer whether it took the key.
            let _ = terms.stream.press_key(digit);
        }
    }

    pub(super) fn talking_timeout(&mut self, desk: &mut Desk, now: Instant) {
        self.restart_timeout(desk, now);
        self.silence_timeout(desk, now);
        let Stage::Talking(talking) = &mut self.stage else {
            return;
        };
        if let Sound::Shut { until, .. } | Sound::Muted { until, .. } = talking.sound
            && now >= until
        {
            self.end_unproven(desk, now);
            return;
        }
        if talking.awaits_keys() && now >= talking.keys_until {
            self.end_unkeyed(desk, now, None);
            return;
        }
        if talking.untold.is_some_and(|until| now >= until) {
            self.tell_untold(desk, now, false);
        }
        let Stage::Talking(talking) = &mut self.stage else {
            return;
        };
        if talking.hang_up_at.is_some_and(|at| now >= at) {
            let end = End::new(EndReason::DurationOver, EndedBy::Local, Outcome::Completed);
            self.hang_up_talk(desk, now, end);
            return;
        }
        if let Some(terms) = talking.terms_mut() {
            terms.stream.handle_timeout(now);
        }
        if now >= talking.next_stats {
            talking.next_stats = now + STATS_INTERVAL;
            let figures = talking.figures_of_second(now);
            self.tell(desk, now, EventKind::Stats(Box::new(figures)));
            self.let_connections_go(now);
            // Checks that fail one by one tell nothing of their own.
            self.answer_waiting_reinvite(desk, now);
        }
        self.run_media(desk, now);
    }

    /// Sends what the stream has ready and tells what it says.
    pub(super) fn run_media(&mut self, desk: &mut Desk, now: Instant) {
        let Stage::Talking(talking) = &mut self.stage else {
            return;
        };
        talking.send(desk, self.ice.as_ref(), self.sockets.as_mut(), now);
        let mut told = Vec::new();
        while let Some(event) = talking
            .terms_mut()
            .and_then(|terms| terms.stream.poll_event())
        {
            told.extend(match event {
                MediaEvent::FirstSent => Some(EventKind::Media {
                    direction: MediaDirection::Sent,
                }),
                MediaEvent::FirstReceived => Some(EventKind::Media {
                    direction: MediaDirection::Received,
                }),
                MediaEvent::Digit(digit) => Some(EventKind::Dtmf { digit }),
                MediaEvent::CircuitBreaker(why) => Some(EventKind::Error {
                    message: ceased(why).to_owned(),
                }),
                // The end of a stream; the end of the call is for SIP to say.
                MediaEvent::Bye => None,
            });
        }
        for kind in told {
            self.tell(desk, now, kind);
        }
    }

    /// The proof of a call that was answered before it: now the speaker opens.
    pub(super) fn talk_proven(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        fork: ForkId,
        proof: PathProof,
    ) {
        let Stage::Talking(talking) = &mut self.stage else {
            return;
        };
        let was_muted = talking.is_muted();
        let (Sound::Shut { gate, .. } | Sound::Muted { gate, .. }) = &mut talking.sound else {
            return;
        };
        if talking.fork != fork {
            return;
        }
        if let Some(Ok(ring)) = gate.take().map(|gate| gate.open(proof)) {
            let opened = open_sound(self.key, &ring);
            talking.sound = Sound::Open { _ring: ring };
            if !was_muted {
                self.tell_untold(desk, now, true);
                desk.out(opened);
            }
        }
    }

    /// Media goes by the pair that was just selected.
    pub(super) fn media_path_changed(&mut self) {
        if let Stage::Talking(talking) = &mut self.stage
            && let Some(terms) = talking.terms_mut()
        {
            terms.stream.path_changed();
        }
    }

    /// Once media has its path no other binding of the NAT is needed.
    pub(super) fn let_bindings_go(&mut self, desk: &mut Desk, now: Instant) {
        if let (Stage::Talking(talking), Some(ice), Some(sockets)) =
            (&self.stage, &self.ice, &mut self.sockets)
            && ice.path(talking.fork, ComponentId::Rtp).is_some()
        {
            sockets.path_selected(desk, now);
        }
    }

    /// A 2xx without a path is ended (design: ACK, BYE, exit 3).
    pub(super) fn talk_path_failed(&mut self, desk: &mut Desk, now: Instant) {
        if let Stage::Talking(talking) = &self.stage
            && !talking.has_sound()
        {
            self.end_unproven(desk, now);
        }
    }

    fn end_unproven(&mut self, desk: &mut Desk, now: Instant) {
        if matches!(&self.stage, Stage::Talking(talking) if talking.is_muted()) {
            let end = End::new(
                EndReason::ConsentLost,
                EndedBy::Network,
                Outcome::NoMediaPath,
            );
            self.hang_up_talk(desk, now, end);
            return;
        }
        let end = End::new(EndReason::NoMediaPath, EndedBy::Local, Outcome::NoMediaPath);
        self.hang_up_talk(desk, now, end.with_status(200));
    }

    pub(super) fn hang_up_talk(&mut self, desk: &mut Desk, now: Instant, end: End) {
        if let Stage::Talking(talking) = &self.stage {
            let dialog = talking.dialog.clone();
            let text = match end.reason {
                EndReason::NoMediaPath => Some("No media path"),
                EndReason::ConsentLost => Some("Media path lost"),
                EndReason::KeysFailed => Some("No keys for the media"),
                _ => None,
            };
            bye(desk, now, &dialog, text);
        }
        self.finish_talk(desk, now, end);
    }

    /// The peer's BYE.
    pub(super) fn handle_bye(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        dialog: &DialogId,
        words: Option<String>,
    ) {
        match &self.stage {
            Stage::Talking(talking) if talking.dialog == *dialog => {
                let end = if talking.is_cut_off(now) {
                    // By BYE or not: what ended the call is that nothing came through any more.
                    let (reason, by) = (EndReason::ConsentLost, EndedBy::Network);
                    End::new(reason, by, Outcome::NoMediaPath)
                } else {
                    End::new(EndReason::HungUp, EndedBy::Remote, Outcome::Completed)
                };
                self.finish_talk(desk, now, end.with_words(words));
            }
            Stage::Holding(_) | Stage::Alerting(_) | Stage::GatheringToAnswer { .. } => {
                self.handle_cancelled(desk, now);
            }
            _ => {}
        }
    }

    /// A call that ended in order, but in which nothing was heard, did not take place.
    fn finish_talk(&mut self, desk: &mut Desk, now: Instant, mut end: End) {
        if let Stage::Talking(talking) = &self.stage
            && end.outcome == Outcome::Completed
            && talking.heard_nothing()
        {
            end.reason = EndReason::NothingHeard;
            end.outcome = Outcome::NoMediaPath;
        }
        self.finish(desk, now, end);
    }

    /// The ACK has come; with the answer, if the 200 held our offer.
    pub(super) fn handle_confirmed(
        &mut self,
        desk: &mut Desk,
        now: Instant,
        dialog: &DialogId,
        body: Option<Vec<u8>>,
    ) {
        let Stage::Talking(talking) = &mut self.stage else {
            return;
        };
        if talking.dialog != *dialog {
            return;
        }
        if matches!(talking.subsequent, Subsequent::InAnswer { .. }) {
            self.handle_answer_to_restart(desk, now, body);
            return;
        }
        talking.confirmed = true;
        if let Media::Offered(local) = &talking.media {
            let local = local.clone();
            let fork = talking.fork;
            let terms = body
                .as_deref()
                .map(|body| Terms::of_answer(desk, now, &local, body));
            let terms = match terms {
                Some(Ok(terms)) => terms,
                unusable => {
                    let why = unusable.and_then(Result::err);
                    let end = End::new(EndReason::Incompatible, EndedBy::Local, Outcome::Refused);
                    self.hang_up_talk(desk, now, end.with_words(why));
                    return;
                }
            };
            match (&terms.negotiated.ice, &mut self.ice) {
                (IceSupport::Supported(description), Some(ice)) => {
                    let components = components(&terms.negotiated);
                    // Refused only for a fork that was started already; this one was not.
                    let _ = ice.start(now, fork, description.clone(), components);
                }
                _ => self.ice = None,
            }
            talking.media = Media::Agreed(Box::new(terms));
            talking.keys_until = now + desk.settings.patience;
            self.begin_keys(desk, now, EarlyDtls::default());
        }
        self.run_ice(desk, now);
        self.update_offer(desk, now);
    }
}

/// What the user is told when sending ceases (RFC 8083).
fn ceased(why: CircuitBreaker) -> &'static str {
    match why {
        CircuitBreaker::Media => {
            "the other side hears nothing of us: sending has ceased until the path changes"
        }
        CircuitBreaker::Reports => {
            "nothing is heard of the other side: sending has ceased until something is"
        }
        CircuitBreaker::Congestion => {
            "the network is overloaded: sending has ceased until the path changes"
        }
    }
}
