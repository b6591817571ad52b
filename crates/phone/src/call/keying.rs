//! The keys of a dialog's media (RFC 5763, RFC 5764): a DTLS handshake that begins with the first
//! valid pair, and the protection that comes of it; or keys that came with the descriptions (RFC
//! 4568).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringtrue_ice::{ComponentId, PacketKind, Path};
use ringtrue_media::secure::{
    Dtls, DtlsEvent, DtlsFailure, DtlsRole, Fingerprint, FingerprintHash, Identity, KeyError,
    MasterKey, Refused, Srtp, SrtpKeys, SrtpProfile,
};
use ringtrue_sip::sdp::{
    Crypto, CryptoSuite, DtlsDescription, Negotiated, NegotiatedCrypto, NegotiatedDtls,
};

use crate::desk::Desk;
use crate::event::KeySource;

/// A peer from which no DTLS has come so long after its path was proven begins after the answer: it
/// is rung without keys.
pub(super) const LATE_STARTER: Duration = Duration::from_secs(1);

/// The handshake of one component.
struct Association {
    component: ComponentId,
    state: State,
}

enum State {
    /// We begin, once there is a path.
    Idle,
    /// Under way, or awaited from the peer.
    Handshake(Box<Dtls>),
    /// There are keys. The association still answers a peer that repeats its last flight.
    Ready { dtls: Box<Dtls>, srtp: Box<Srtp> },
    /// There are keys from the descriptions.
    Given(Box<Srtp>),
    /// There will be none; the peer is yet to be told.
    Failing(Box<Dtls>, DtlsFailure),
    /// There will be none.
    Failed(DtlsFailure),
}

/// What has become of the keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum News {
    /// They are there.
    Secured(KeySource, SrtpProfile),
    /// They will not be.
    Failed(DtlsFailure),
}

/// Where the keys come from.
enum Agreed {
    /// A handshake.
    Dtls(Arc<Identity>, NegotiatedDtls),
    /// The descriptions themselves (RFC 4568).
    Sdes(NegotiatedCrypto),
}

/// The keys of one dialog.
pub(super) struct Keys {
    agreed: Agreed,
    /// Where the peer without ICE wants RTP and RTCP.
    destinations: (SocketAddr, SocketAddr),
    /// RTP's first; RTCP has its own where it has a port of its own (RFC 5764 section 4.1).
    associations: Vec<Association>,
    /// Whether any DTLS has come from the peer.
    heard: bool,
    told: bool,
    pending_told: bool,
}

/// What a phone needs beside the `Ring` before it alerts: the keys, or a reason to do without them
/// for now. There is no other way to one than asking [`Keys`].
pub(super) struct Go {
    pub(super) keys_pending: bool,
}

impl Go {
    /// For a ring after the proof: once the keys are there, or the peer is a late starter.
    pub(super) fn after_proof(keys: Option<&Keys>, due: Instant, now: Instant) -> Option<Self> {
        let keys_pending = keys.is_some_and(|keys| !keys.is_ready());
        let may_go = !keys_pending || keys.is_some_and(|keys| keys.is_late_starter(due, now));
        may_go.then_some(Self { keys_pending })
    }

    /// For a ring without a proof, which cannot wait for keys either.
    pub(super) fn unverified(keys: Option<&Keys>) -> Self {
        let keys_pending = keys.is_some_and(|keys| !keys.is_ready());
        Self { keys_pending }
    }
}

impl Keys {
    /// The keys that an agreement asks for; none when media is clear.
    pub(super) fn new(desk: &Desk, now: Instant, negotiated: &Negotiated) -> Option<Self> {
        let destinations = (negotiated.remote_rtp, negotiated.remote_rtcp);
        if let Some(crypto) = &negotiated.crypto {
            return Some(Self::given(crypto.clone(), destinations));
        }
        let agreed = negotiated.dtls.clone()?;
        let active = agreed.active;
        let identity = Arc::clone(desk.identity.as_ref()?);
        let components: &[ComponentId] = if negotiated.rtcp_mux {
            &[ComponentId::Rtp]
        } else {
            &[ComponentId::Rtp, ComponentId::Rtcp]
        };
        let mut keys = Self::of(Agreed::Dtls(identity, agreed), destinations);
        for component in components {
            // The passive side listens from the start, the active one begins with the path.
            let state = if active {
                State::Idle
            } else {
                keys.begin(now, DtlsRole::Passive, None)
            };
            keys.associations.push(Association {
                component: *component,
                state,
            });
        }
        Some(keys)
    }

    fn of(agreed: Agreed, destinations: (SocketAddr, SocketAddr)) -> Self {
        Self {
            agreed,
            destinations,
            associations: Vec::new(),
            heard: false,
            told: false,
            pending_told: false,
        }
    }

    /// Keys that came with offer and answer, one for RTP and RTCP together.
    fn given(agreed: NegotiatedCrypto, destinations: (SocketAddr, SocketAddr)) -> Self {
        let srtp = srtp_keys(&agreed).and_then(|keys| Srtp::new(&keys));
        let state = match srtp {
            Ok(srtp) => State::Given(Box::new(srtp)),
            Err(_) => State::Failed(DtlsFailure::Unacceptable("its SRTP keys")),
        };
        let mut keys = Self::of(Agreed::Sdes(agreed), destinations);
        keys.associations.push(Association {
            component: ComponentId::Rtp,
            state,
        });
        keys
    }

    fn begin(&self, now: Instant, role: DtlsRole, round_trip: Option<Duration>) -> State {
        let Agreed::Dtls(identity, agreed) = &self.agreed else {
            return State::Failed(DtlsFailure::Unacceptable("no certificate"));
        };
        let peer = fingerprints(&agreed.remote);
        match Dtls::new(now, identity, role, peer, round_trip) {
            Ok(dtls) => State::Handshake(Box::new(dtls)),
            Err(_) => State::Failed(DtlsFailure::Unacceptable("there is no randomness")),
        }
    }

    /// Whether we began the handshake; none where there was none.
    pub(super) fn active(&self) -> Option<bool> {
        match &self.agreed {
            Agreed::Dtls(_, agreed) => Some(agreed.active),
            Agreed::Sdes(_) => None,
        }
    }

    /// Our line of the description, where the keys are there.
    pub(super) fn own_line(&self) -> Option<&Crypto> {
        match &self.agreed {
            Agreed::Dtls(..) => None,
            Agreed::Sdes(agreed) => Some(&agreed.local),
        }
    }

    fn source(&self) -> KeySource {
        match &self.agreed {
            Agreed::Dtls(..) => KeySource::DtlsSrtp,
            Agreed::Sdes(_) => KeySource::Sdes,
        }
    }

    /// Whether these go on under what was agreed on now: the same certificate, and the same
    /// association where the peer names it (RFC 8842 section 4); or the same key of ours, beside
    /// which the peer's may be a new one (RFC 4568 section 7.1.4).
    pub(super) fn go_on_under(&mut self, negotiated: &Negotiated) -> bool {
        match (&mut self.agreed, &negotiated.dtls, &negotiated.crypto) {
            (Agreed::Dtls(_, old), Some(new), _) => {
                let (old, new) = (&old.remote, &new.remote);
                let same_association = new.tls_id.is_none() || old.tls_id == new.tls_id;
                old.fingerprints == new.fingerprints && same_association
            }
            (Agreed::Sdes(old), None, Some(new)) => {
                let own = (&old.local.suite, old.local.key());
                if own != (&new.local.suite, new.local.key()) {
                    return false;
                }
                let changed =
                    (old.remote.suite, old.remote.key()) != (new.remote.suite, new.remote.key());
                if changed {
                    let mut states = self.associations.iter_mut().map(|found| &mut found.state);
                    let Some(State::Given(srtp)) = states.next() else {
                        return false;
                    };
                    let set = srtp_keys(new).and_then(|keys| srtp.set_remote(&keys));
                    if set.is_err() {
                        return false;
                    }
                }
                *old = new.clone();
                true
            }
            _ => false,
        }
    }

    /// Whether media can be sent and taken.
    pub(super) fn is_ready(&self) -> bool {
        self.srtp(ComponentId::Rtp).is_some()
    }

    /// Why there will never be keys.
    pub(super) fn failure(&self) -> Option<DtlsFailure> {
        self.associations.iter().find_map(|association| {
            let is_rtp = association.component == ComponentId::Rtp;
            match association.state {
                State::Failed(why) if is_rtp => Some(why),
                _ => None,
            }
        })
    }

    /// Whether the peer seems to begin after the answer only.
    pub(super) fn is_late_starter(&self, due: Instant, now: Instant) -> bool {
        !self.heard && now >= due
    }

    /// Whether any DTLS has come.
    pub(super) fn is_heard(&self) -> bool {
        self.heard
    }

    /// Whether the user is to be told, for the first time, that keys are awaited.
    pub(super) fn take_pending(&mut self) -> bool {
        !self.is_ready() && !std::mem::replace(&mut self.pending_told, true)
    }

    fn srtp(&self, component: ComponentId) -> Option<&Srtp> {
        let mut associations = self.associations.iter();
        let found = associations.find(|association| association.component == component)?;
        match &found.state {
            State::Ready { srtp, .. } | State::Given(srtp) => Some(srtp),
            _ => None,
        }
    }

    fn srtp_mut(&mut self, kind: PacketKind) -> Option<&mut Srtp> {
        let component = match kind {
            PacketKind::Rtcp if self.associations.len() > 1 => ComponentId::Rtcp,
            _ => ComponentId::Rtp,
        };
        let mut associations = self.associations.iter_mut();
        let found = associations.find(|association| association.component == component)?;
        match &mut found.state {
            State::Ready { srtp, .. } | State::Given(srtp) => Some(srtp),
            _ => None,
        }
    }

    /// A packet of ours as it may leave; none while there are no keys.
    pub(super) fn protect(&mut self, kind: PacketKind, packet: &[u8]) -> Option<Vec<u8>> {
        let srtp = self.srtp_mut(kind)?;
        let protected = match kind {
            PacketKind::Rtcp => srtp.protect_rtcp(packet),
            _ => srtp.protect_rtp(packet),
        };
        protected.ok()
    }

    /// A packet of the peer's, if it is one; none while there are no keys.
    pub(super) fn unprotect(&mut self, kind: PacketKind, packet: &[u8]) -> Option<Vec<u8>> {
        let srtp = self.srtp_mut(kind)?;
        let unprotected = match kind {
            PacketKind::Rtcp => srtp.unprotect_rtcp(packet),
            _ => srtp.unprotect_rtp(packet),
        };
        unprotected.ok()
    }

    /// How many packets were refused.
    pub(super) fn refused(&self) -> Refused {
        let mut sum = Refused::default();
        for component in [ComponentId::Rtp, ComponentId::Rtcp] {
            if let Some(srtp) = self.srtp(component) {
                sum.forged += srtp.refused().forged;
                sum.replayed += srtp.refused().replayed;
            }
        }
        sum
    }

    /// A datagram of DTLS, from the peer as far as ICE can tell.
    pub(super) fn handle_packet(&mut self, now: Instant, component: ComponentId, packet: &[u8]) {
        self.heard = true;
        let own = self.associations.len() > 1 && component == ComponentId::Rtcp;
        let at = usize::from(own);
        if let Some(association) = self.associations.get_mut(at)
            && let State::Handshake(dtls) | State::Ready { dtls, .. } = &mut association.state
        {
            dtls.handle_packet(now, packet);
        }
    }

    /// Goes on as far as possible. `path` says where the packets of a component go now, and how
    /// long they take there and back. What is to be sent comes out.
    pub(super) fn run(
        &mut self,
        now: Instant,
        path: impl Fn(ComponentId, SocketAddr) -> Option<(Path, Option<Duration>)>,
    ) -> Vec<(Path, Vec<u8>)> {
        let mut out = Vec::new();
        for at in 0..self.associations.len() {
            let Some(component) = self.associations.get(at).map(|found| found.component) else {
                continue;
            };
            let destination = match component {
                ComponentId::Rtp => self.destinations.0,
                ComponentId::Rtcp => self.destinations.1,
            };
            let way = path(component, destination);
            let idle = |found: &Association| matches!(found.state, State::Idle);
            if let (true, Some((_, round_trip))) =
                (self.associations.get(at).is_some_and(idle), way)
            {
                let state = self.begin(now, DtlsRole::Active, round_trip);
                if let Some(association) = self.associations.get_mut(at) {
                    association.state = state;
                }
            }
            if let Some(association) = self.associations.get_mut(at) {
                association.run(now);
                let way = way.map(|(path, _)| path);
                out.extend(association.transmits(way));
            }
        }
        out
    }

    /// The passive side asks the peer to begin: without checks nothing else has opened the way for
    /// what it sends.
    pub(super) fn knock(&mut self) {
        let passive = self.active() == Some(false);
        for association in &mut self.associations {
            if let State::Handshake(dtls) = &mut association.state
                && passive
            {
                dtls.knock();
            }
        }
    }

    /// The call is answered, and a late starter begins now.
    pub(super) fn hurry(&mut self, now: Instant) {
        for association in &mut self.associations {
            if let State::Handshake(dtls) = &mut association.state {
                dtls.hurry(now);
            }
        }
    }

    /// What is new about the keys of RTP, once.
    pub(super) fn take_news(&mut self) -> Option<News> {
        if self.told {
            return None;
        }
        let news = match (self.srtp(ComponentId::Rtp), self.failure()) {
            (Some(srtp), _) => News::Secured(self.source(), srtp.profile()),
            (None, Some(why)) => News::Failed(why),
            (None, None) => return None,
        };
        self.told = true;
        Some(news)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timers = self.associations.iter().map(|found| match &found.state {
            State::Handshake(dtls) => dtls.poll_timeout(),
            _ => None,
        });
        timers.flatten().min()
    }
}

impl Association {
    fn run(&mut self, now: Instant) {
        let (State::Handshake(dtls) | State::Ready { dtls, .. }) = &mut self.state else {
            return;
        };
        dtls.handle_timeout(now);
        let event = dtls.poll_event();
        let keys = match event {
            None => return,
            Some(DtlsEvent::Failed(why)) => Err(why),
            Some(DtlsEvent::Keys(keys)) => {
                Srtp::new(&keys).map_err(|_| DtlsFailure::Unacceptable("its SRTP keys"))
            }
        };
        let state = std::mem::replace(&mut self.state, State::Idle);
        self.state = match (state, keys) {
            (State::Handshake(dtls), Ok(srtp)) => State::Ready {
                dtls,
                srtp: Box::new(srtp),
            },
            (State::Handshake(dtls), Err(why)) => State::Failing(dtls, why),
            (other, _) => other,
        };
    }

    /// What is to be sent, once there is a path.
    fn transmits(&mut self, path: Option<Path>) -> Vec<(Path, Vec<u8>)> {
        let mut out = Vec::new();
        if let (
            Some(path),
            State::Handshake(dtls) | State::Ready { dtls, .. } | State::Failing(dtls, _),
        ) = (path, &mut self.state)
        {
            while let Some(datagram) = dtls.poll_transmit() {
                out.push((path, datagram));
            }
        }
        if let State::Failing(_, why) = self.state {
            self.state = State::Failed(why);
        }
        out
    }
}

fn srtp_keys(agreed: &NegotiatedCrypto) -> Result<SrtpKeys, KeyError> {
    let profile = match agreed.local.suite {
        CryptoSuite::AeadAes256Gcm => SrtpProfile::AeadAes256Gcm,
        CryptoSuite::AeadAes128Gcm => SrtpProfile::AeadAes128Gcm,
        CryptoSuite::AesCm128HmacSha1_80 => SrtpProfile::Aes128CmSha1_80,
        CryptoSuite::AesCm128HmacSha1_32 => SrtpProfile::Aes128CmSha1_32,
    };
    let local = MasterKey::new(profile, agreed.local.key())?;
    let remote = MasterKey::new(profile, agreed.remote.key())?;
    Ok(SrtpKeys::new(profile, local, remote))
}

fn fingerprints(remote: &DtlsDescription) -> Vec<Fingerprint> {
    let known = remote.fingerprints.iter().filter_map(|fingerprint| {
        Some(Fingerprint {
            hash: FingerprintHash::from_name(&fingerprint.hash)?,
            digest: fingerprint.digest.clone(),
        })
    });
    known.collect()
}
