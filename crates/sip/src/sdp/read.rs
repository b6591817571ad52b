//! What a description says about its audio stream.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringtrue_ice::ComponentId;
use sdp_types::{Attribute, Media, Session};

use super::codec::{codecs, values};
use super::crypto::{self, Crypto};
use super::security::{self, LocalSecurity, Profile};
use super::{AnswerRefused, Direction, ExtendedReports, RemoteMedia, SessionDescription, ice};
use crate::syntax::is_token;

/// A default destination. The address is none when the description gives a domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Destination {
    pub address: Option<SocketAddr>,
    /// For RTCP: `a=rtcp` names it, it is not merely the next port.
    pub is_written: bool,
}

impl Destination {
    /// The address; the unspecified one for a name, which only ICE can replace.
    pub fn or_unspecified(self) -> SocketAddr {
        self.address
            .unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 9))
    }
}

/// What an offer says about the audio stream that [`super::answer`] would accept, formats
/// aside: whether it uses ICE, for one.
pub fn read_offer(offer: &SessionDescription) -> Result<RemoteMedia, AnswerRefused> {
    let (_, media) = first_audio(&offer.session, |_| true)?;
    Ok(remote_media(&offer.session, media, false))
}

/// The same of the stream that is protected as we want it.
pub fn read_offer_for(
    offer: &SessionDescription,
    security: &LocalSecurity,
    crypto: &[Crypto],
) -> Result<RemoteMedia, AnswerRefused> {
    let (_, media) = first_audio_for(&offer.session, Some((security, crypto)), |_| true)?;
    Ok(remote_media(&offer.session, media, false))
}

/// The first audio stream with a profile and an address that we can use and that `suits`.
pub(super) fn first_audio(
    session: &Session,
    suits: impl Fn(&Media) -> bool,
) -> Result<(usize, &Media), AnswerRefused> {
    first_audio_for(session, None, suits)
}

/// The same, protected as we want it.
pub(super) fn first_audio_for<'a>(
    session: &'a Session,
    security: Option<(&LocalSecurity, &[Crypto])>,
    suits: impl Fn(&Media) -> bool,
) -> Result<(usize, &'a Media), AnswerRefused> {
    let mut refused = AnswerRefused::NoAudio;
    for (at, media) in session.medias.iter().enumerate() {
        if !media.media.eq_ignore_ascii_case("audio") || media.port == 0 {
            continue;
        }
        let unsuited = security.filter(|(ours, crypto)| !ours.suits(crypto, session, media));
        let reason = if Profile::of(&media.proto).is_none() {
            AnswerRefused::Profile(media.proto.clone())
        } else if let Some((ours, crypto)) = unsuited {
            AnswerRefused::Security(match ours {
                LocalSecurity::Off => "the peer wants it and it is switched off here",
                _ if crypto.is_empty() && crypto::of(media).next().is_some() => {
                    "the peer's keys are in the description, which did not come by TLS"
                }
                LocalSecurity::Optional(_) => "the peer gives no fingerprint for its keys",
                LocalSecurity::Required(_) => "it is required here and the peer has none",
            })
        } else if !is_reachable(session, media) {
            AnswerRefused::NoAddress
        } else if suits(media) {
            return Ok((at, media));
        } else {
            AnswerRefused::NoCodec
        };
        // Of several refusals, the first tells most.
        if refused == AnswerRefused::NoAudio {
            refused = reason;
        }
    }
    Err(refused)
}

/// A name will do only when ICE replaces it; a group never does.
fn is_reachable(session: &Session, media: &Media) -> bool {
    match connection_ip(session, media) {
        Some(ip) => !ip.is_multicast(),
        None => {
            has_connection(session, media)
                && values(&media.attributes, "ice-ufrag")
                    .chain(values(&session.attributes, "ice-ufrag"))
                    .next()
                    .is_some()
        }
    }
}

fn has_connection(session: &Session, media: &Media) -> bool {
    !media.connections.is_empty() || session.connection.is_some()
}

fn connection_ip(session: &Session, media: &Media) -> Option<IpAddr> {
    let connection = media.connections.first().or(session.connection.as_ref())?;
    connection.try_address().ok().map(|address| address.ip)
}

/// All that the stream's description says; under `muxed` its second component is left out.
pub(super) fn remote_media(session: &Session, media: &Media, muxed: bool) -> RemoteMedia {
    let ip = connection_ip(session, media);
    let rtp = Destination {
        address: ip.map(|ip| SocketAddr::new(ip, media.port)),
        is_written: true,
    };
    let rtcp = rtcp_destination(media, rtp);
    let destinations: &[_] = if muxed {
        &[(ComponentId::Rtp, rtp)]
    } else {
        &[(ComponentId::Rtp, rtp), (ComponentId::Rtcp, rtcp)]
    };
    let rtcp_mux = has_flag(&media.attributes, "rtcp-mux");
    let ice = if rtcp_mux && !muxed {
        with_optional_rtcp(session, media, destinations)
    } else {
        ice::support(session, media, destinations)
    };
    RemoteMedia {
        codecs: codecs(media),
        direction: direction(session, media, &ice, rtp),
        rtcp_mux,
        rtp: rtp.or_unspecified(),
        rtcp: if muxed {
            rtp.or_unspecified()
        } else {
            rtcp.or_unspecified()
        },
        ice,
        mid: mid(media),
        ptime: values(&media.attributes, "ptime").find_map(|v| v.trim().parse().ok()),
        profile: Profile::of(&media.proto).unwrap_or(Profile::Avp),
        dtls: security::read(session, media),
        crypto: crypto::read(crypto::of(media)),
        extended_reports: ExtendedReports::read(session, media),
        maxptime: values(&media.attributes, "maxptime").find_map(|v| v.trim().parse().ok()),
    }
}

/// The identification tag, a token (RFC 5888 section 4).
pub(super) fn mid(media: &Media) -> Option<String> {
    let mid = values(&media.attributes, "mid").next()?.trim();
    is_token(mid.as_bytes()).then(|| mid.to_owned())
}

/// An offer with rtcp-mux whose RTCP part does not fit is no mismatch as long as nobody has
/// refused the mux: `a=rtcp:9` and the RTP port repeated are common.
fn with_optional_rtcp(
    session: &Session,
    media: &Media,
    destinations: &[(ComponentId, Destination)],
) -> super::IceSupport {
    match ice::support(session, media, destinations) {
        super::IceSupport::Mismatch => {
            ice::support(session, media, destinations.get(..1).unwrap_or_default())
        }
        other => other,
    }
}

/// RFC 3605: `a=rtcp:port [IN IP4 address]`; else the next port (RFC 3264 section 5.1).
fn rtcp_destination(media: &Media, rtp: Destination) -> Destination {
    let written = values(&media.attributes, "rtcp").find_map(|value| {
        let mut words = value.split_ascii_whitespace();
        let port: u16 = words.next()?.parse().ok()?;
        let address = match words.nth(2) {
            Some(host) => host.parse().ok().map(|ip| SocketAddr::new(ip, port)),
            None => rtp.address.map(|rtp| SocketAddr::new(rtp.ip(), port)),
        };
        Some(Destination {
            address,
            is_written: true,
        })
    });
    written.unwrap_or(Destination {
        address: rtp
            .address
            .map(|rtp| SocketAddr::new(rtp.ip(), rtp.port().checked_add(1).unwrap_or(rtp.port()))),
        is_written: false,
    })
}

fn direction(
    session: &Session,
    media: &Media,
    ice: &super::IceSupport,
    rtp: Destination,
) -> Direction {
    const ALL: [Direction; 4] = [
        Direction::SendRecv,
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ];
    let of = |list: &[Attribute]| {
        let mut names = list.iter().map(|a| a.attribute.as_str());
        names.find_map(|name| {
            ALL.into_iter()
                .find(|d| d.as_str().eq_ignore_ascii_case(name))
        })
    };
    let said = of(&media.attributes)
        .or_else(|| of(&session.attributes))
        .unwrap_or_default();
    // RFC 3264 section 8.4: the unspecified address is the old way to put a call on hold;
    // with ICE it only means that no default is known yet.
    let on_hold = !matches!(ice, super::IceSupport::Supported(_))
        && rtp.address.is_some_and(|rtp| rtp.ip().is_unspecified());
    if on_hold {
        Direction::new(said.sends(), false)
    } else {
        said
    }
}

/// Whether a value-less attribute of that name is there.
pub(super) fn has_flag(list: &[Attribute], name: &str) -> bool {
    list.iter().any(|a| a.attribute.eq_ignore_ascii_case(name))
}
