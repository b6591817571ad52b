//! The DTLS of somebody else's phone: it begins when the test says so, or never.

use std::sync::Arc;
use std::time::Instant;

use ringtrue_media::secure::{
    Dtls, DtlsEvent, DtlsRole, Fingerprint, FingerprintHash, Identity, Srtp,
};
use ringtrue_sip::sdp::{SessionDescription, read_offer};

/// Its certificate, and what becomes of it.
pub struct ForeignKeys {
    identity: Arc<Identity>,
    dtls: Option<Dtls>,
    srtp: Option<Srtp>,
    pub keyed_at: Option<Instant>,
    pub failed: bool,
    /// Datagrams of DTLS that came, also those that it did not listen to.
    pub came: usize,
}

impl ForeignKeys {
    pub fn new() -> Self {
        Self {
            identity: Arc::new(Identity::generate().unwrap()),
            dtls: None,
            srtp: None,
            keyed_at: None,
            failed: false,
            came: 0,
        }
    }

    /// The lines of its SDP.
    pub fn lines(&self, setup: &str) -> String {
        let digest = self.identity.fingerprint().digest;
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        format!(
            "a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
            pairs.join(":")
        )
    }

    /// It listens, or begins, from now on; the peer is who this SDP says.
    pub fn start(&mut self, now: Instant, role: DtlsRole, sdp: &str) {
        let remote = read_offer(&SessionDescription::parse(sdp.as_bytes()).unwrap()).unwrap();
        let fingerprints = remote.dtls.unwrap().fingerprints.into_iter();
        let peer = fingerprints.map(|fingerprint| Fingerprint {
            hash: FingerprintHash::Sha256,
            digest: fingerprint.digest,
        });
        self.dtls = Dtls::new(now, &self.identity, role, peer.collect(), None).ok();
    }

    pub fn handle(&mut self, now: Instant, payload: &[u8]) {
        self.came += 1;
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_packet(now, payload);
        }
        self.tick(now);
    }

    pub fn tick(&mut self, now: Instant) {
        let Some(dtls) = &mut self.dtls else { return };
        dtls.handle_timeout(now);
        match dtls.poll_event() {
            Some(DtlsEvent::Keys(keys)) => {
                self.srtp = Srtp::new(&keys).ok();
                self.keyed_at = Some(now);
            }
            Some(DtlsEvent::Failed(_)) => self.failed = true,
            None => {}
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.dtls.as_ref()?.poll_timeout()
    }

    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.dtls.as_mut()?.poll_transmit()
    }

    pub fn protect(&mut self, rtcp: bool, packet: &[u8]) -> Option<Vec<u8>> {
        let srtp = self.srtp.as_mut()?;
        let protected = if rtcp {
            srtp.protect_rtcp(packet)
        } else {
            srtp.protect_rtp(packet)
        };
        protected.ok()
    }

    pub fn unprotect(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        self.srtp.as_mut()?.unprotect_rtp(packet).ok()
    }
}
