//! Offers and answers (RFC 3264).

use ringtrue_ice::{ComponentId, IceDescription, Trickle};
use sdp_types::{Attribute, Connection, Media, MediaType, Origin, Session, TransportProto};

use super::codec::{codecs, payload_types};
use super::crypto::{self, Crypto, NegotiatedCrypto};
use super::read::{first_audio, first_audio_for, mid, remote_media};
use super::security::LocalSecurity::{self, Required};
use super::security::{self, NegotiatedDtls, Setup};
use super::{
    AnswerRefused, Direction, IceSupport, LocalMedia, Negotiated, RemoteMedia, RtpCodec,
    SessionDescription, ice,
};

const BOTH: &[ComponentId] = &[ComponentId::Rtp, ComponentId::Rtcp];
const RTP_ONLY: &[ComponentId] = &[ComponentId::Rtp];

/// An offer of one audio stream. With rtcp-mux both components are offered all the same, for
/// the peer that refuses it (RFC 5761 section 5.1.3).
pub fn offer(local: &LocalMedia) -> Vec<u8> {
    let mut session = new_session(local, local.ice.as_ref());
    session.medias.push(offered_media(local));
    SessionDescription { session }.to_bytes()
}

/// An offer later in the dialog. `last` is the last description that either side sent: its
/// streams keep their places and the audio stream its profile, the others are refused (RFC 3264
/// section 8). For the payload numbers see [`LocalMedia::continuing`].
pub fn subsequent_offer(last: &SessionDescription, local: &LocalMedia) -> Vec<u8> {
    let mut session = new_session(local, local.ice.as_ref());
    session.medias = last.session.medias.iter().map(refused_media).collect();
    let kept = first_audio(&last.session, |_| true)
        .ok()
        .and_then(|(_, media)| mid(media));
    let mut ours = offered_media(local);
    let at = first_audio(&last.session, |_| true).map_or(0, |(at, media)| {
        ours.proto.clone_from(&media.proto);
        at
    });
    match session.medias.get_mut(at) {
        Some(media) => {
            // RFC 5888 section 9.1: a stream keeps its tag.
            if let Some(kept) = kept {
                ours.attributes.retain(|own| own.attribute != "mid");
                ours.add_attribute_with_value("mid", kept);
            }
            *media = ours;
        }
        None => session.medias.push(ours),
    }
    SessionDescription { session }.to_bytes()
}

impl LocalMedia {
    /// The same with payload numbers that go on from `last`, the last description that either
    /// side sent: a format keeps its number, and a number is not given to another format
    /// (RFC 3264 section 8.3.2).
    pub fn continuing(mut self, last: &SessionDescription) -> Self {
        let Ok((_, media)) = first_audio(&last.session, |_| true) else {
            return self;
        };
        let known = codecs(media);
        let mut taken: Vec<u8> = known.iter().map(|c| c.payload_type).collect();
        for codec in &mut self.codecs {
            if let Some(same) = known.iter().find(|known| known.is_same_format(codec)) {
                codec.payload_type = same.payload_type;
            } else if taken.contains(&codec.payload_type) {
                let free = (96..128).find(|number| !taken.contains(number));
                codec.payload_type = free.unwrap_or(codec.payload_type);
            }
            taken.push(codec.payload_type);
        }
        self
    }
}

/// The answer to `remote_offer`: the first audio stream that has a format in common is
/// accepted, all others have port 0, and the streams stay in their places.
pub fn answer(
    remote_offer: &SessionDescription,
    local: &LocalMedia,
) -> Result<(Vec<u8>, Negotiated), AnswerRefused> {
    let offered = &remote_offer.session;
    let (at, media) = first_audio_for(offered, protection(local), |media| {
        !common(&codecs(media), local).0.is_empty()
    })?;
    let muxed = local.rtcp_mux && super::read::has_flag(&media.attributes, "rtcp-mux");
    let remote = remote_media(offered, media, muxed);
    let (send, receive) = common(&remote.codecs, local);
    let dtls = security::agree_on_answer(&local.security, remote.dtls.clone());
    // DTLS comes first where there are both: no server on the way has its keys.
    let crypto = match &dtls {
        Some(_) => None,
        None => crypto::agree_on_answer(&local.crypto, &remote.crypto),
    };

    let ice = local.ice.as_ref().map(|ours| (ours, &remote.ice));
    let ours =
        ice.and_then(|(ours, theirs)| matches!(theirs, IceSupport::Supported(_)).then_some(ours));
    let mut session = new_session(local, ours);
    session.medias = offered.medias.iter().map(refused_media).collect();
    if let Some(accepted) = session.medias.get_mut(at) {
        let direction = local.direction.limited_by(remote.direction);
        *accepted = described_media(local, &receive, &media.proto, direction);
        // RFC 5888 section 9.1: the answer has the offer's tag.
        if let Some(mid) = &remote.mid {
            accepted.add_attribute_with_value("mid", mid);
        }
        if muxed {
            accepted.add_attribute_from_str("rtcp-mux");
        } else {
            write_rtcp(local, accepted);
        }
        match ice {
            Some((ours, IceSupport::Supported(_))) => {
                let components = if muxed { RTP_ONLY } else { BOTH };
                ice::write_media(ours, components, &mut accepted.attributes);
            }
            Some((_, IceSupport::Mismatch)) => accepted.add_attribute_from_str("ice-mismatch"),
            Some((_, IceSupport::Absent)) | None => {}
        }
        // RFC 3611 section 5.2: each side asks for itself, whatever the other one wants.
        local.extended_reports.write(&mut accepted.attributes);
        if let Some((ours, _)) = &dtls {
            security::write(ours, ours.setup, &mut accepted.attributes);
        }
        if let Some(agreed) = &crypto {
            crypto::write(&agreed.local, &mut accepted.attributes);
        }
    }
    let keys = (dtls.map(|(_, agreed)| agreed), crypto);
    let negotiated = negotiated(local, remote, (send, receive), muxed, keys);
    Ok((SessionDescription { session }.to_bytes(), negotiated))
}

/// What the answer to our `offer` comes to.
pub fn read_answer(
    offer: &LocalMedia,
    answer: &SessionDescription,
) -> Result<Negotiated, AnswerRefused> {
    let session = &answer.session;
    let send = |media: &Media| common(&answered_codecs(media, offer), offer).0;
    let (_, media) = first_audio_for(session, protection(offer), |media| !send(media).is_empty())?;
    let muxed = offer.rtcp_mux && super::read::has_flag(&media.attributes, "rtcp-mux");
    let mut remote = remote_media(session, media, muxed);
    remote.codecs = answered_codecs(media, offer);
    let (send, _) = common(&remote.codecs, offer);
    remote.mid = remote.mid.or_else(|| offered_mid(offer).map(str::to_owned));
    // RFC 3264 section 7: all that was offered may be on its way.
    let formats = (send, offer.codecs.clone());
    let dtls = security::agree_on_offer(&offer.security, remote.dtls.clone());
    let crypto = match &dtls {
        Some(_) => None,
        None => crypto::agree_on_offer(&offer.crypto, &remote.crypto),
    };
    let needs_keys = remote.profile.is_secure() || matches!(offer.security, Required(_));
    if needs_keys && dtls.is_none() && crypto.is_none() {
        let why = "its keys are for nothing that was offered";
        return Err(AnswerRefused::Security(why));
    }
    Ok(negotiated(offer, remote, formats, muxed, (dtls, crypto)))
}

/// How we want a stream protected.
fn protection(local: &LocalMedia) -> Option<(&LocalSecurity, &[Crypto])> {
    Some((&local.security, &local.crypto))
}

/// The answer's formats; a dynamic number without an rtpmap means what the offer said.
fn answered_codecs(media: &Media, offer: &LocalMedia) -> Vec<RtpCodec> {
    let described = codecs(media);
    payload_types(media)
        .into_iter()
        .filter_map(|number| {
            let of = |list: &[RtpCodec]| list.iter().find(|c| c.payload_type == number).cloned();
            of(&described).or_else(|| of(&offer.codecs).map(|c| RtpCodec { fmtp: None, ..c }))
        })
        .collect()
}

/// What both sides know, in the remote side's order: with the remote parameters, for sending,
/// sound only; and with ours, for receiving, under the remote side's numbers, since an answer
/// keeps the numbers of the offer (RFC 3264 section 6.1). Nothing without sound.
fn common(remote: &[RtpCodec], local: &LocalMedia) -> (Vec<RtpCodec>, Vec<RtpCodec>) {
    let (mut send, mut receive) = (Vec::new(), Vec::new());
    for theirs in remote {
        let mut known = local.codecs.iter().chain(&local.accepted);
        if let Some(ours) = known.find(|ours| ours.is_same_format(theirs)) {
            if theirs.is_sound() {
                send.push(theirs.clone());
            }
            receive.push(RtpCodec {
                payload_type: theirs.payload_type,
                ..ours.clone()
            });
        }
    }
    renumber_red(&mut receive, &local.codecs);
    // RFC 3389 section 4: noise goes beside sound of its clock.
    receive.retain(|format| {
        let beside = |sound: &RtpCodec| sound.clock_rate == format.clock_rate;
        !format.is_comfort_noise() || send.iter().any(beside)
    });
    (send, receive)
}

/// The parameters of `red` are payload numbers (RFC 2198 section 5): ours become those that the
/// formats have here. Without one of them there is nothing that it could protect.
fn renumber_red(receive: &mut Vec<RtpCodec>, ours: &[RtpCodec]) {
    let here = receive.clone();
    let renumbered = |number: &str| {
        let number: u8 = number.trim().parse().ok()?;
        let format = ours.iter().find(|ours| ours.payload_type == number)?;
        let same = here.iter().find(|here| here.is_same_format(format))?;
        Some(same.payload_type.to_string())
    };
    for red in receive.iter_mut().filter(|codec| codec.is_red()) {
        let numbers = red.fmtp.as_deref().unwrap_or_default().split('/');
        let numbers: Option<Vec<String>> = numbers.map(renumbered).collect();
        red.fmtp = numbers.map(|numbers| numbers.join("/"));
    }
    receive.retain(|codec| !codec.is_red() || codec.fmtp.is_some());
}

fn negotiated(
    local: &LocalMedia,
    remote: RemoteMedia,
    (send, receive): (Vec<RtpCodec>, Vec<RtpCodec>),
    muxed: bool,
    (dtls, crypto): (Option<NegotiatedDtls>, Option<NegotiatedCrypto>),
) -> Negotiated {
    let telephone_event = telephone_event(&remote.codecs, &send, local);
    let comfort_noise = comfort_noise(&remote.codecs, &send, local);
    let known = |theirs: &&RtpCodec| {
        theirs.is_red() && local.codecs.iter().any(|ours| ours.is_same_format(theirs))
    };
    let redundancy = remote.codecs.iter().filter(known).cloned().collect();
    Negotiated {
        codecs: send,
        receive,
        telephone_event,
        comfort_noise,
        redundancy,
        direction: local.direction.limited_by(remote.direction),
        rtcp_mux: muxed,
        remote_rtp: remote.rtp,
        remote_rtcp: remote.rtcp,
        ice: if local.ice.is_some() {
            remote.ice
        } else {
            IceSupport::Absent
        },
        mid: remote.mid,
        ptime: remote.ptime,
        extended_reports: remote.extended_reports,
        dtls,
        crypto,
        maxptime: remote.maxptime,
    }
}

/// The digits' payload number: at the clock of the sound (RFC 4733 section 2.1), else any,
/// because many phones offer 8000 alone beside Opus and read the digit whatever its duration.
fn telephone_event(remote: &[RtpCodec], send: &[RtpCodec], local: &LocalMedia) -> Option<u8> {
    let knows_digits = local.codecs.iter().any(RtpCodec::is_telephone_event);
    let clock = send.first()?.clock_rate;
    let digits = || {
        remote
            .iter()
            .filter(|c| knows_digits && c.is_telephone_event())
    };
    let best = digits()
        .find(|c| c.clock_rate == clock)
        .or_else(|| digits().next());
    best.map(|c| c.payload_type)
}

/// The number of the noise beside what we send: it has the same clock (RFC 3389 section 4).
fn comfort_noise(remote: &[RtpCodec], send: &[RtpCodec], local: &LocalMedia) -> Option<u8> {
    let clock = send.first()?.clock_rate;
    let noise = remote
        .iter()
        .find(|theirs| theirs.is_comfort_noise() && theirs.clock_rate == clock)?;
    let mut known = local.codecs.iter().chain(&local.accepted);
    known
        .any(|ours| ours.is_same_format(noise))
        .then_some(noise.payload_type)
}

fn new_session(local: &LocalMedia, ice: Option<&IceDescription>) -> Session {
    let ip = local.rtp.ip();
    let mut origin = Origin::with_ip_addr(local.session_id, local.session_version, ip);
    // A space would shift the fields of `o=`.
    let user: String = local
        .origin_user
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    origin.username = (!user.is_empty()).then_some(user);
    let mut session = Session::new(origin, "-");
    session.connection = Some(Connection::from_ip_addr(ip));
    session.times.push(sdp_types::Time::new(0, 0));
    if let Some(ice) = ice {
        ice::write_session(ice, &mut session.attributes);
    }
    session
}

fn offered_media(local: &LocalMedia) -> Media {
    let profile = local.security.offered(&local.crypto).as_str();
    let mut media = described_media(local, &local.codecs, profile, local.direction);
    write_rtcp(local, &mut media);
    if local.rtcp_mux {
        media.add_attribute_from_str("rtcp-mux");
    }
    local.extended_reports.write(&mut media.attributes);
    if let Some(mid) = offered_mid(local) {
        media.add_attribute_with_value("mid", mid);
    }
    if let Some(ice) = &local.ice {
        ice::write_media(ice, BOTH, &mut media.attributes);
        ice::write_remote_candidates(ice, &mut media.attributes);
    }
    if let Some(dtls) = local.security.dtls() {
        security::write(dtls, Setup::ActPass, &mut media.attributes);
    }
    for line in &local.crypto {
        crypto::write(line, &mut media.attributes);
    }
    media
}

/// The tag that our offers give the stream, for candidates that are trickled (RFC 8840 section 4.4).
fn offered_mid(local: &LocalMedia) -> Option<&'static str> {
    let ice = local.ice.as_ref()?;
    (ice.trickle != Trickle::Unsupported).then_some("0")
}

fn described_media(
    local: &LocalMedia,
    codecs: &[RtpCodec],
    profile: &str,
    direction: Direction,
) -> Media {
    let numbers: Vec<String> = codecs.iter().map(|c| c.payload_type.to_string()).collect();
    let mut media = Media::new(
        MediaType::Audio,
        local.rtp.port(),
        TransportProto::RtpAvp,
        numbers.join(" "),
    );
    media.proto = profile.to_owned();
    for codec in codecs {
        if !(local.brief && codec.is_static()) {
            media.add_attribute_with_value("rtpmap", codec.rtpmap());
        }
        if let Some(fmtp) = &codec.fmtp {
            media.add_attribute_with_value("fmtp", format!("{} {fmtp}", codec.payload_type));
        }
    }
    if let Some(ptime) = local.ptime.filter(|ptime| !(local.brief && *ptime == 20)) {
        media.add_attribute_with_value("ptime", ptime);
    }
    // RFC 8866 section 6.7: sendrecv is what nothing means. An INVITE has 1300 bytes in a datagram.
    if direction != Direction::SendRecv {
        media.add_attribute_from_str(direction.as_str());
    }
    media
}

/// RFC 3605; the address only when it is another than that of `c=`.
fn write_rtcp(local: &LocalMedia, media: &mut Media) {
    let Some(rtcp) = local.rtcp else { return };
    let value = if rtcp.ip() == local.rtp.ip() {
        rtcp.port().to_string()
    } else {
        let family = if rtcp.is_ipv4() { "IP4" } else { "IP6" };
        format!("{} IN {family} {}", rtcp.port(), rtcp.ip())
    };
    media.attributes.push(Attribute::with_value("rtcp", value));
}

/// RFC 3264 section 6: a refused stream keeps its line, with port 0.
fn refused_media(offered: &Media) -> Media {
    Media {
        port: 0,
        num_ports: None,
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
        ..offered.clone()
    }
}
