//! What all agents have in common: they gather, say what they found, check, and have a path.

use std::net::SocketAddr;
use std::time::Instant;

use ringtrue_ice::{ComponentId, IceDescription, Path, Role};
use ringtrue_testnet::Node;

/// Whose agent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Ours,
    Rice,
    Is,
}

/// What an agent is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    pub role: Role,
    /// A socket for each component.
    pub bases: Vec<(ComponentId, SocketAddr)>,
    pub stun_server: SocketAddr,
    pub seed: u64,
}

/// An agent that lives on a host.
pub trait Agent: Node {
    fn has_gathered(&self) -> bool;

    /// What its offer or answer says.
    fn describe(&mut self) -> IceDescription;

    /// The other's offer or answer has come.
    fn start(&mut self, now: Instant, remote: IceDescription);

    /// Where it would send media of this component; none before it has chosen.
    fn path(&self, component: ComponentId) -> Option<Path>;

    /// Whether it is one of ours and has made a proof.
    fn has_proof(&self) -> bool {
        false
    }

    /// Whether it is one of ours and has given up.
    fn has_failed(&self) -> bool {
        false
    }
}
