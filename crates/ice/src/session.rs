//! Every agent that shares one offer or answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::candidate::{ComponentId, Credentials, IceDescription};
use crate::event::{ForkId, IceEvent, Path, Role, StartRefused, Transmit, UpdatedRemote};
use crate::gate::Gate;
use crate::gather::Gathered;
use crate::pacer::Pacer;
use crate::seed::Seed;

/// How a session behaves.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Offerer: controlling; answerer: controlled.
    pub role: Role,
    /// Our Ta, 5 to 50 ms (`a=ice-pacing`). Default 20 ms.
    pub pacing: Duration,
    /// How long to try before [`IceEvent::Failed`]. Default 10 s.
    pub patience: Duration,
    /// For so long after the start, free pacing slots re-check unfinished pairs. Default 1 s.
    pub dense_period: Duration,
    /// At most so many such re-checks for all forks together. Default 50.
    pub dense_limit: usize,
    /// At most so many pairs on a checklist (RFC 8445 section 6.1.2.5). Default 100.
    pub pair_limit: usize,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            role: Role::Controlling,
            pacing: Duration::from_millis(20),
            patience: Duration::from_secs(10),
            dense_period: Duration::from_secs(1),
            dense_limit: 50,
            pair_limit: 100,
        }
    }
}

/// Every agent that shares one offer or answer: our credentials, candidates and sockets, and one
/// ICE agent per early dialog.
#[derive(Debug)]
pub struct IceSession {
    config: SessionConfig,
    gathered: Gathered,
}

impl IceSession {
    /// A session on gathered candidates.
    pub fn new(config: SessionConfig, gathered: Gathered, _seed: impl Into<Seed>) -> Self {
        Self { config, gathered }
    }

    /// Our side, for the SDP: candidates of both components.
    pub fn local_description(&self) -> IceDescription {
        IceDescription {
            credentials: Credentials {
                ufrag: String::new(),
                pwd: String::new(),
            },
            candidates: self.gathered.candidates().cloned().collect(),
            lite: false,
            ice2: true,
            pacing: Some(self.config.pacing),
            remote_candidates: Vec::new(),
        }
    }

    /// The peer's description is known: checks begin.
    ///
    /// # Errors
    /// [`StartRefused`].
    pub fn start(
        &mut self,
        _now: Instant,
        _fork: ForkId,
        _remote: IceDescription,
        _components: &[ComponentId],
    ) -> Result<(), StartRefused> {
        Ok(())
    }

    /// The gate that this fork's proof opens.
    pub fn gate(&self, _fork: ForkId) -> Option<Gate> {
        None
    }

    /// A STUN datagram has arrived on a base. True if it was this session's.
    pub fn handle_datagram(
        &mut self,
        _now: Instant,
        _base: SocketAddr,
        _from: SocketAddr,
        _payload: &[u8],
    ) -> bool {
        false
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, _now: Instant, _pacer: &mut Pacer) {}

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<(ForkId, IceEvent)> {
        None
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self, _pacer: &Pacer) -> Option<Instant> {
        None
    }

    /// Where media of a component goes now.
    pub fn path(&self, _fork: ForkId, _component: ComponentId) -> Option<Path> {
        None
    }

    /// Whether media that comes from there is the peer's: the far end of a pair of this fork that a
    /// check has validated, or from which a check keyed with our password has come.
    pub fn accepts_media(&self, _fork: ForkId, _base: SocketAddr, _from: SocketAddr) -> bool {
        false
    }

    /// After nomination: what a subsequent offer says (RFC 8839 section 4.4.1.2.2).
    pub fn nominated_description(&self, _fork: ForkId) -> Option<IceDescription> {
        None
    }

    /// Whether we control, are done, and selected another pair than the defaults of both SDPs
    /// (`remote_defaults` is what the peer's `c=`, `m=` and `a=rtcp` said).
    pub fn needs_updated_offer(
        &self,
        _fork: ForkId,
        _remote_defaults: &[(ComponentId, SocketAddr)],
    ) -> bool {
        false
    }

    /// The peer's subsequent offer has arrived.
    pub fn handle_updated_remote(
        &mut self,
        _now: Instant,
        _fork: ForkId,
        _remote: &IceDescription,
    ) -> UpdatedRemote {
        UpdatedRemote::NoAgent
    }

    /// Gives a fork a new patience, with every pair to be tried again: for a 2xx from a peer that
    /// checks no earlier than that.
    pub fn renew_patience(&mut self, _now: Instant, _fork: ForkId) {}

    /// Ends a fork's agent: its gate and its proof are void from now on.
    pub fn stop(&mut self, _fork: ForkId) {}

    /// Ends every agent.
    pub fn stop_all(&mut self) {}

    /// How many pairs this fork has checked.
    pub fn pairs_tried(&self, _fork: ForkId) -> usize {
        0
    }

    /// When this fork's transactions started: the first 1024.
    pub fn transaction_starts(&self, _fork: ForkId) -> &[Instant] {
        &[]
    }
}
