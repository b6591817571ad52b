//! Our side of offer and answer: what a call says about its media.

use std::net::SocketAddr;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use ringtrue_ice::{
    CandidateType, ComponentId, IceDescription, IceSession, TcpType, TransportProtocol,
};
use ringtrue_media::codec::{DRED, DRED_MS};
use ringtrue_media::comfort_noise::{CN, CN_CLOCK, CN_TYPE, ComfortNoise};
use ringtrue_media::redundancy::{PARITY, PARITY_TYPE, RED, RED_TYPE, Redundancy, RedundancyTypes};
use ringtrue_media::{Channels, Codec, OpusSettings, StreamConfig};
use ringtrue_sip::sdp::{
    CertificateFingerprint, Crypto, CryptoSuite, Direction, DtlsDescription, ExtendedReports,
    LocalMedia, LocalSecurity, Negotiated, RtpCodec, Setup,
};

use zeroize::Zeroizing;

use crate::desk::Desk;
use crate::gathering::MediaSockets;
use crate::settings::{Settings, SrtpUse};

/// The payload types of telephone-event that we offer, for the clocks of our codecs (RFC 4733
/// section 2.5.1.1: the event stream runs on the clock of the audio beside it).
const EVENTS: [(u8, u32); 2] = [(101, 48_000), (102, 8_000)];

/// The parameter of Opus that asks for pauses that are not sent (RFC 7587 section 6.1).
const USE_DTX: &str = ";usedtx=1";

/// Those by which we like to get two channels, and are likely to send them.
const STEREO: &str = ";stereo=1";
const SENDS_STEREO: &str = ";sprop-stereo=1";

/// The `o=` line of a call: its version rises with every description that differs.
pub(super) struct Session {
    id: u64,
    version: u64,
    /// How media is to be protected.
    pub(super) security: LocalSecurity,
    /// Keys to offer in the description; none unless signalling goes by TLS.
    pub(super) crypto: Vec<Crypto>,
    /// The first of these is what media is encrypted with.
    settled: bool,
}

impl Session {
    /// `by_tls`: nobody on the way reads what is said.
    pub(super) fn new(desk: &mut Desk, by_tls: bool) -> Self {
        // RFC 8866 section 5.2 wants them numeric; 31 bits fit every reader's signed integer, and an
        // INVITE has 1300 bytes in a datagram.
        let id = desk.seed() >> 33;
        Self {
            id,
            version: 1,
            security: security(desk),
            crypto: if by_tls { own_keys(desk) } else { Vec::new() },
            settled: false,
        }
    }

    /// Media is encrypted with keys of the descriptions: it stays so, and our key of this suite is
    /// said again. What was offered for other suites, perhaps to several peers, is not used again.
    pub(super) fn stay_with(&mut self, desk: &mut Desk, agreed: &Crypto) {
        if let LocalSecurity::Optional(dtls) = &self.security {
            self.security = LocalSecurity::Required(dtls.clone());
        }
        if self.crypto.first().map(|line| line.suite) == Some(agreed.suite) && self.settled {
            return;
        }
        self.settled = true;
        let fresh = own_keys(desk);
        let others = fresh.into_iter().filter(|line| line.suite != agreed.suite);
        self.crypto = std::iter::once(agreed.clone()).chain(others).collect();
        for (line, tag) in self.crypto.iter_mut().zip(1..) {
            line.tag = tag;
        }
    }

    /// Media is encrypted, and we have this role: no offer or answer takes that back without the
    /// user's leave.
    pub(super) fn stay_secure(&mut self, active: bool) {
        self.crypto.clear();
        let security = std::mem::take(&mut self.security);
        self.security = match security {
            LocalSecurity::Off => LocalSecurity::Off,
            LocalSecurity::Optional(dtls) | LocalSecurity::Required(dtls) => {
                let setup = if active {
                    Setup::Active
                } else {
                    Setup::Passive
                };
                LocalSecurity::Required(DtlsDescription { setup, ..dtls })
            }
        };
    }

    /// From now on media is encrypted or there is none: the next offer has a secure profile. False
    /// where that is so already, or media is never encrypted. No key that was offered is offered
    /// again: some peer has read it.
    pub(super) fn insist(&mut self, desk: &mut Desk) -> bool {
        let LocalSecurity::Optional(dtls) = &self.security else {
            return false;
        };
        self.security = LocalSecurity::Required(dtls.clone());
        if !self.crypto.is_empty() {
            self.crypto = own_keys(desk);
        }
        self.changed();
        true
    }

    /// The next description differs from the last.
    pub(super) fn changed(&mut self) {
        self.version += 1;
    }

    /// What we say with these sockets: with ICE all candidates, without only the default one.
    pub(super) fn describe(
        &self,
        desk: &Desk,
        sockets: &MediaSockets,
        ice: Option<&IceSession>,
        direction: Direction,
    ) -> LocalMedia {
        let default_of = |component| {
            sockets
                .gathered
                .default_candidate(component)
                .map(|candidate| candidate.address)
        };
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 9));
        LocalMedia {
            origin_user: "-".to_owned(),
            session_id: self.id,
            session_version: self.version,
            rtp: default_of(ComponentId::Rtp).unwrap_or(nowhere),
            rtcp: default_of(ComponentId::Rtcp),
            ice: ice.map(IceSession::local_description),
            codecs: offered(&desk.settings),
            accepted: vec![comfort_noise()],
            direction,
            rtcp_mux: true,
            ptime: Some(desk.settings.ptime.as_millis() as u32),
            brief: false,
            security: self.security.clone(),
            crypto: self.crypto.clone(),
            extended_reports: ExtendedReports::ALL,
        }
    }

    /// What we say after nomination: the selected addresses alone (RFC 8839 section 4.4.1.2.2).
    pub(super) fn describe_selected(
        &self,
        desk: &Desk,
        sockets: &MediaSockets,
        selected: IceDescription,
        direction: Direction,
    ) -> LocalMedia {
        let mut local = self.describe(desk, sockets, None, direction);
        let address_of = |component| {
            let mut of_component = selected.candidates.iter();
            of_component
                .find(|candidate| candidate.component == component)
                .map(|candidate| candidate.address)
        };
        local.rtp = address_of(ComponentId::Rtp).unwrap_or(local.rtp);
        local.rtcp = address_of(ComponentId::Rtcp);
        local.rtcp_mux = local.rtcp.is_none();
        local.ice = Some(selected);
        local
    }
}

/// Makes an offer shorter until the request with it fits a datagram: first by what every reader knows,
/// then by what a call is as good without, the wish for VoIP metrics (docs/decisions/0024), then TCP
/// candidates are left out (docs/decisions/0013):
/// first the active ones, which the peer learns from the connections themselves, then those of
/// simultaneous open that reach no further than the passive one, then that one, at last what only
/// simultaneous open reaches; but this one stays in what fits no datagram either way, and so does the wish. `fits` is asked
/// about the result last. Our own checks go by TCP all the same.
pub(super) fn shorten(offer: &mut LocalMedia, mut fits: impl FnMut(&LocalMedia) -> bool) {
    let order = [
        (TcpType::Active, CandidateType::Host),
        (TcpType::SimultaneousOpen, CandidateType::Host),
        (TcpType::Passive, CandidateType::Host),
        (TcpType::SimultaneousOpen, CandidateType::ServerReflexive),
    ];
    if fits(offer) {
        return;
    }
    be_brief(offer);
    if fits(offer) {
        return;
    }
    let wanted = std::mem::take(&mut offer.extended_reports);
    if !fits(offer)
        && offer.rtcp_mux
        && let Some(ice) = &mut offer.ice
    {
        // Hardly anybody refuses the mux, and fewer still where only TCP passes.
        ice.candidates.retain(|candidate| {
            !candidate.protocol.is_tcp() || candidate.component == ComponentId::Rtp
        });
    }
    let mut longer = offer.clone();
    for (tcp_type, kind) in order {
        if fits(offer) {
            return;
        }
        longer = offer.clone();
        if let Some(ice) = &mut offer.ice {
            let out = (TransportProtocol::Tcp(tcp_type), kind);
            ice.candidates
                .retain(|candidate| (candidate.protocol, candidate.kind) != out);
        }
    }
    if !fits(offer) {
        *offer = longer;
        offer.extended_reports = wanted;
        fits(offer);
    }
}

/// Leaves out what every reader knows, and what none needs: where a candidate was sent from (RFC 8839
/// section 5.1 lets it be said that way), and packets that Opus allows anyway (RFC 7587 section 6.1). DRED goes
/// too: it is of use to peers without `red` alone; and that we are likely to send stereo, since who can play it
/// sees it in every packet.
fn be_brief(offer: &mut LocalMedia) {
    offer.brief = true;
    for codec in &mut offer.codecs {
        codec.fmtp = codec
            .fmtp
            .take()
            .map(|fmtp| fmtp.replace("minptime=10;", "").replace(USE_DTX, ""))
            .map(|fmtp| fmtp.replace(SENDS_STEREO, ""))
            .map(|fmtp| fmtp.replace(&format!("{DRED}={DRED_MS};"), ""));
    }
    let candidates = offer.ice.iter_mut().flat_map(|ice| &mut ice.candidates);
    for related in candidates.filter_map(|candidate| candidate.related.as_mut()) {
        *related = match related.is_ipv4() {
            true => SocketAddr::from(([0; 4], 9)),
            false => SocketAddr::from(([0; 16], 9)),
        };
    }
}

/// A key of ours for each suite, where the settings want encryption.
fn own_keys(desk: &mut Desk) -> Vec<Crypto> {
    if desk.identity.is_none() {
        return Vec::new();
    }
    let mut random = ChaCha20Rng::from_seed(desk.long_seed());
    let lines = CryptoSuite::ALL.into_iter().zip(1..);
    let lines = lines.filter_map(|(suite, tag)| {
        let mut key = Zeroizing::new(vec![0; suite.key_len()]);
        random.fill_bytes(&mut key);
        Crypto::new(tag, suite, &key)
    });
    lines.collect()
}

/// What the settings say about encryption.
fn security(desk: &mut Desk) -> LocalSecurity {
    let Some(identity) = desk.identity.clone() else {
        return LocalSecurity::Off;
    };
    let own = identity.fingerprint();
    let dtls = DtlsDescription {
        fingerprints: vec![CertificateFingerprint {
            hash: own.hash.name().to_owned(),
            digest: own.digest,
        }],
        setup: Setup::ActPass,
        // RFC 8842 section 4: at least 120 bits of randomness.
        tls_id: Some(format!("{:016x}{:016x}", desk.seed(), desk.seed())),
    };
    match desk.settings.srtp {
        SrtpUse::Off => LocalSecurity::Off,
        SrtpUse::Optional => LocalSecurity::Optional(dtls),
        SrtpUse::Required => LocalSecurity::Required(dtls),
    }
}

/// The codecs of the settings as they stand in an offer.
fn offered(settings: &Settings) -> Vec<RtpCodec> {
    let codecs = &settings.codecs;
    let audio = codecs.iter().map(|codec| RtpCodec {
        payload_type: codec.default_payload_type(),
        name: codec.name().to_owned(),
        clock_rate: codec.clock_rate(),
        channels: codec.channels(),
        fmtp: codec.fmtp().map(|fmtp| match codec {
            Codec::Opus => {
                let cbr = if settings.opus_cbr { ";cbr=1" } else { "" };
                let dtx = if settings.dtx { USE_DTX } else { "" };
                let [stereo, sends] = match settings.stereo {
                    true => [STEREO, SENDS_STEREO],
                    false => ["", ""],
                };
                format!("{fmtp};{DRED}={DRED_MS};{PARITY}={PARITY_TYPE}{cbr}{dtx}{stereo}{sends}")
            }
            _ => fmtp.to_owned(),
        }),
    });
    let events = EVENTS
        .into_iter()
        .filter(|(_, clock)| codecs.iter().any(|codec| codec.clock_rate() == *clock))
        .map(|(payload_type, clock_rate)| RtpCodec {
            payload_type,
            name: "telephone-event".to_owned(),
            clock_rate,
            channels: 1,
            // RFC 4733 section 2.4.1: the events 0 to 15 are what nothing means.
            fmtp: None,
        });
    let beside = |codec: &Codec| codec.clock_rate() == CN_CLOCK;
    let noise = (settings.dtx && codecs.iter().any(beside)).then(comfort_noise);
    audio
        .chain(events)
        .chain(noise)
        .chain(redundancy(codecs))
        .collect()
}

/// Comfort noise (RFC 3389), under its static number.
fn comfort_noise() -> RtpCodec {
    RtpCodec {
        payload_type: CN_TYPE,
        name: CN.to_owned(),
        clock_rate: CN_CLOCK,
        channels: 1,
        fmtp: None,
    }
}

/// The payload types of comfort noise. What nobody agreed on is understood under the static number: no
/// other codec has it.
fn noise_types(negotiated: &Negotiated) -> ComfortNoise {
    let ours = negotiated
        .receive
        .iter()
        .find(|format| format.is_comfort_noise() && format.clock_rate == CN_CLOCK);
    ComfortNoise {
        send: negotiated.comfort_noise,
        receive: Some(ours.map_or(CN_TYPE, |format| format.payload_type)),
    }
}

/// Whether pauses are not sent: because we want it, or because the peer would rather have Opus so (RFC
/// 7587 section 6.1). Who wants packets of one size in an encrypted call hides when somebody speaks, and
/// pauses would tell (RFC 6562 section 3).
fn dtx(settings: &Settings, negotiated: &Negotiated, cbr: bool, wished: bool) -> bool {
    let encrypted = negotiated.dtls.is_some() || negotiated.crypto.is_some();
    (settings.dtx || wished) && !(cbr && encrypted)
}

/// Redundancy beside Opus (RFC 2198), as browsers offer it.
fn redundancy(codecs: &[Codec]) -> Option<RtpCodec> {
    let opus = Codec::Opus.default_payload_type();
    codecs.contains(&Codec::Opus).then(|| RtpCodec {
        payload_type: RED_TYPE,
        name: RED.to_owned(),
        clock_rate: Codec::Opus.clock_rate(),
        channels: Codec::Opus.channels(),
        fmtp: Some(format!("{opus}/{opus}")),
    })
}

/// The payload types of redundancy among these formats, if it protects this one, which is Opus.
fn redundancy_types(formats: &[RtpCodec], opus: &RtpCodec) -> Option<RedundancyTypes> {
    let protects = |red: &&RtpCodec| {
        let mut numbers = red.fmtp.as_deref().unwrap_or_default().split('/');
        red.is_red() && numbers.all(|number| number.trim().parse() == Ok(opus.payload_type))
    };
    Some(RedundancyTypes {
        red: formats.iter().find(protects)?.payload_type,
        parity: parity_type(opus),
    })
}

/// The number of parity blocks, a parameter of Opus: a format of its own would need three lines.
fn parity_type(opus: &RtpCodec) -> Option<u8> {
    let parameters = opus.fmtp.as_deref()?.split(';');
    let value = parameters
        .filter_map(|parameter| parameter.trim().split_once('='))
        .find_map(|(name, value)| (name == PARITY).then_some(value))?;
    value
        .parse()
        .ok()
        .filter(|number| (96..128).contains(number))
}

fn codec_of(codec: &RtpCodec) -> Option<Codec> {
    Codec::from_rtpmap(&codec.name, codec.clock_rate, codec.channels)
}

/// The redundancy of both directions, `first` being what we send. An answerer that does not take it will
/// not send it either; parity needs both sides.
fn redundancy_of(negotiated: &Negotiated, first: &RtpCodec) -> Redundancy {
    let is_opus = |format: &&RtpCodec| codec_of(format) == Some(Codec::Opus);
    let send = Some(first)
        .filter(is_opus)
        .and_then(|opus| redundancy_types(&negotiated.redundancy, opus));
    let receive = negotiated
        .receive
        .iter()
        .find(is_opus)
        .filter(|_| send.is_some())
        .and_then(|opus| redundancy_types(&negotiated.receive, opus))
        .map(|types| RedundancyTypes {
            parity: types.parity.filter(|_| parity_type(first).is_some()),
            ..types
        });
    Redundancy { send, receive }
}

/// The stream that an agreement asks for; `None` when it names no codec that we speak.
pub(super) fn stream_config(
    settings: &Settings,
    negotiated: &Negotiated,
    cname: String,
) -> Option<StreamConfig> {
    let (first, codec) = negotiated
        .codecs
        .iter()
        .find_map(|codec| Some((codec, codec_of(codec)?)))?;
    let receive: Vec<(u8, Codec)> = negotiated
        .receive
        .iter()
        .filter_map(|codec| Some((codec.payload_type, codec_of(codec)?)))
        .collect();
    let redundancy = redundancy_of(negotiated, first);
    let number = |name| fmtp_number(first.fmtp.as_deref(), name);
    let cbr = settings.opus_cbr || number("cbr") == Some(1);
    let wished = codec == Codec::Opus && number("usedtx") == Some(1);
    let channels = |two: bool| match settings.stereo && two {
        true => Channels::Stereo,
        false => Channels::Mono,
    };
    Some(StreamConfig {
        send: (codec, first.payload_type),
        // RFC 7587 section 7.1: what each side likes to get is its own affair.
        send_channels: channels(codec == Codec::Opus && number("stereo") == Some(1)),
        // Whatever the peer says of what it sends: packets tell, and a voice is played on both sides.
        receive_channels: channels(true),
        receive,
        telephone_event: negotiated.telephone_event,
        rtcp_mux: negotiated.rtcp_mux,
        send_fec: number("useinbandfec") != Some(0),
        ptime: packet_time(settings.ptime, negotiated, number("minptime")),
        opus: OpusSettings {
            complexity: settings.opus_complexity,
            cbr,
            max_bitrate: number("maxaveragebitrate"),
            max_playback_rate: number("maxplaybackrate"),
            dred_ms: number(DRED).unwrap_or(0),
        },
        redundancy,
        dtx: dtx(settings, negotiated, cbr, wished),
        comfort_noise: noise_types(negotiated),
        voip_metrics: negotiated.extended_reports.voip_metrics,
        ..StreamConfig::new(codec, cname)
    })
}

/// A number among the parameters of `a=fmtp`, as `name=number` between semicolons.
fn fmtp_number(fmtp: Option<&str>, name: &str) -> Option<u32> {
    let mut parameters = fmtp?.split(';').filter_map(|part| part.split_once('='));
    parameters.find_map(|(known, value)| {
        let same = known.trim().eq_ignore_ascii_case(name);
        same.then(|| value.trim().parse().ok())?
    })
}

/// What our packets hold: what the peer asks for, else what we wish; within what it can take, and
/// of the lengths that we have the next shorter one.
fn packet_time(wish: Duration, negotiated: &Negotiated, minptime: Option<u32>) -> Duration {
    let wish = u32::try_from(wish.as_millis()).unwrap_or(u32::MAX);
    let wanted = negotiated.ptime.unwrap_or(wish);
    let wanted = wanted.max(minptime.unwrap_or(0));
    let wanted = wanted.min(negotiated.maxptime.unwrap_or(u32::MAX));
    let fitting = [60, 40, 20, 10].into_iter().find(|ms| *ms <= wanted);
    Duration::from_millis(fitting.unwrap_or(10).into())
}

/// The components that the checks are about: one under rtcp-mux (RFC 5761 section 5.1.3).
pub(super) fn components(negotiated: &Negotiated) -> &'static [ComponentId] {
    if negotiated.rtcp_mux {
        &[ComponentId::Rtp]
    } else {
        &[ComponentId::Rtp, ComponentId::Rtcp]
    }
}

#[cfg(test)]
mod tests {
    use ringtrue_sip::sdp::{self, SessionDescription};

    use super::*;

    /// What an offer comes to that has so many octets.
    fn shortened(offer: &LocalMedia, room: usize) -> LocalMedia {
        let (mut offer, mut last) = (offer.clone(), Vec::new());
        shorten(&mut offer, |offer| {
            last = sdp::offer(offer);
            last.len() <= room
        });
        assert_eq!(
            last,
            sdp::offer(&offer),
            "it is asked about the result last"
        );
        offer
    }

    #[test]
    fn the_wish_for_voip_metrics_goes_before_candidates_and_after_what_all_know() {
        let full = LocalMedia {
            extended_reports: ExtendedReports::ALL,
            ..local(&Settings::default())
        };
        let length = |offer: &LocalMedia| sdp::offer(offer).len();
        assert_eq!(shortened(&full, length(&full)), full);
        let brief = shortened(&full, length(&full) - 1);
        assert!(brief.brief && brief.extended_reports.voip_metrics);
        let without = shortened(&full, length(&brief) - 1);
        assert_eq!(
            length(&without),
            length(&brief) - "a=rtcp-xr:voip-metrics\r\n".len()
        );
        // What fits no datagram need not do without it.
        let stream = shortened(&full, length(&without) - 1);
        assert_eq!(stream, brief);
    }

    #[test]
    fn dred_is_offered_where_there_is_room_and_used_as_far_as_the_peer_can() {
        let offered = offered(&Settings::default());
        let opus = offered.iter().find(|codec| codec.name == "opus").unwrap();
        assert_eq!(fmtp_number(opus.fmtp.as_deref(), DRED), Some(300));
        let settings = Settings::default();
        let mut local = local(&settings);
        let agreed = |local: &LocalMedia, fmtp: &str| {
            let offer = format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                 m=audio 5004 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 {fmtp}\r\n"
            );
            let offer = SessionDescription::parse(offer.as_bytes()).unwrap();
            let (answer, negotiated) = sdp::answer(&offer, local).unwrap();
            let config = stream_config(&settings, &negotiated, "cname".to_owned()).unwrap();
            (String::from_utf8(answer).unwrap(), config.opus.dred_ms)
        };
        let (answer, used) = agreed(&local, "useinbandfec=1; ext32-dred-duration=120");
        assert!(answer.contains(";ext32-dred-duration=300;"), "{answer}");
        assert_eq!(used, 120);
        // Who does not ask for it, or asks for nonsense, gets none.
        for fmtp in [
            "useinbandfec=1",
            "ext32-dred-duration=-20",
            "sprop-ext32-dred-duration=200",
        ] {
            assert_eq!(agreed(&local, fmtp).1, 0, "{fmtp}");
        }
        let long = sdp::offer(&local).len();
        be_brief(&mut local);
        let brief = String::from_utf8(sdp::offer(&local)).unwrap();
        assert!(!brief.contains(DRED) && brief.contains(PARITY), "{brief}");
        assert!(brief.len() < long);
    }

    /// Two channels go where both want them, and only our own wish counts for what we hear.
    #[test]
    fn stereo_is_said_and_sent_where_it_is_wanted() {
        let settings = |stereo| Settings {
            stereo,
            ..Settings::default()
        };
        let (one, two) = (Channels::Mono, Channels::Stereo);
        for (ours, theirs, sent, heard) in [
            (true, "stereo=1;sprop-stereo=1", two, two),
            (true, "useinbandfec=1; Stereo=1", two, two),
            (true, "stereo=0;sprop-stereo=1", one, two),
            (true, "sprop-stereo=1", one, two),
            (true, "useinbandfec=1", one, two),
            (false, "stereo=1;sprop-stereo=1", one, one),
            (false, "useinbandfec=1", one, one),
        ] {
            let settings = settings(ours);
            let offer = format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                 m=audio 5004 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 {theirs}\r\n"
            );
            let offer = SessionDescription::parse(offer.as_bytes()).unwrap();
            let (answer, negotiated) = sdp::answer(&offer, &local(&settings)).unwrap();
            let config = stream_config(&settings, &negotiated, "cname".to_owned()).unwrap();
            let agreed = (config.send_channels, config.receive_channels);
            assert_eq!(agreed, (sent, heard), "{ours} {theirs}");
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(
                answer.contains(";stereo=1;sprop-stereo=1\r\n"),
                ours,
                "{answer}"
            );
            assert_eq!(answer.contains("stereo"), ours, "{answer}");
        }
        // Our own description is read as it was meant; a short one still says what we like to get.
        let mut described = local(&settings(true));
        for brief in [false, true] {
            if brief {
                be_brief(&mut described);
            }
            let offer = SessionDescription::parse(&sdp::offer(&described)).unwrap();
            let (_, negotiated) = sdp::answer(&offer, &local(&settings(true))).unwrap();
            let opus = negotiated.codecs.first().unwrap().fmtp.as_deref();
            assert_eq!(fmtp_number(opus, "stereo"), Some(1));
            let sends = fmtp_number(opus, "sprop-stereo").is_some();
            assert_eq!(sends, !brief, "{opus:?}");
        }
    }

    fn local(settings: &Settings) -> LocalMedia {
        LocalMedia {
            origin_user: "-".to_owned(),
            session_id: 1,
            session_version: 1,
            rtp: SocketAddr::from(([192, 0, 2, 2], 5_004)),
            rtcp: None,
            ice: None,
            codecs: offered(settings),
            accepted: Vec::new(),
            direction: Direction::SendRecv,
            rtcp_mux: true,
            ptime: Some(20),
            brief: false,
            security: LocalSecurity::Off,
            crypto: Vec::new(),
            extended_reports: ExtendedReports::default(),
        }
    }

    #[test]
    fn parameters_are_found_among_others() {
        let fmtp = Some("minptime=10; useinbandfec=0;CBR=1;maxplaybackrate=x");
        assert_eq!(fmtp_number(fmtp, "minptime"), Some(10));
        assert_eq!(fmtp_number(fmtp, "useinbandfec"), Some(0));
        assert_eq!(fmtp_number(fmtp, "cbr"), Some(1));
        assert_eq!(fmtp_number(fmtp, "maxplaybackrate"), None);
        assert_eq!(fmtp_number(fmtp, "ptime"), None);
        assert_eq!(fmtp_number(None, "cbr"), None);
    }
}
