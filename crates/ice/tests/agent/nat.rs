//! What stands between a phone and the Internet.

use std::net::{IpAddr, SocketAddr};

/// RFC 4787's terms: what a mapping or a filter depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependence {
    Endpoint,
    Address,
    AddressAndPort,
}

/// What stands between a phone and the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Open,
    Nat {
        mapping: Dependence,
        filtering: Dependence,
    },
    /// Eats every UDP packet.
    Blocked,
}

pub const FULL_CONE: Access = Access::Nat {
    mapping: Dependence::Endpoint,
    filtering: Dependence::Endpoint,
};
pub const ADDRESS_RESTRICTED: Access = Access::Nat {
    mapping: Dependence::Endpoint,
    filtering: Dependence::Address,
};
pub const PORT_RESTRICTED: Access = Access::Nat {
    mapping: Dependence::Endpoint,
    filtering: Dependence::AddressAndPort,
};
pub const SYMMETRIC: Access = Access::Nat {
    mapping: Dependence::AddressAndPort,
    filtering: Dependence::AddressAndPort,
};

/// Whether two peers behind these can reach each other at all.
pub fn path_exists(a: Access, b: Access) -> bool {
    let blocked = a == Access::Blocked || b == Access::Blocked;
    let dead_end = |x, y| x == SYMMETRIC && (y == SYMMETRIC || y == PORT_RESTRICTED);
    !blocked && !dead_end(a, b) && !dead_end(b, a)
}

#[derive(Debug)]
struct Binding {
    internal: SocketAddr,
    key: Option<SocketAddr>,
    external: u16,
    contacted: Vec<SocketAddr>,
}

#[derive(Debug)]
pub struct Nat {
    pub external: IpAddr,
    mapping: Dependence,
    filtering: Dependence,
    bindings: Vec<Binding>,
}

fn same(dependence: Dependence, a: SocketAddr, b: SocketAddr) -> bool {
    match dependence {
        Dependence::Endpoint => true,
        Dependence::Address => a.ip() == b.ip(),
        Dependence::AddressAndPort => a == b,
    }
}

impl Nat {
    pub fn new(external: IpAddr, mapping: Dependence, filtering: Dependence) -> Self {
        Self {
            external,
            mapping,
            filtering,
            bindings: Vec::new(),
        }
    }

    pub fn outbound(&mut self, internal: SocketAddr, to: SocketAddr) -> SocketAddr {
        let found = self.bindings.iter().position(|binding| {
            binding.internal == internal
                && binding.key.is_none_or(|key| same(self.mapping, key, to))
        });
        let index = found.unwrap_or_else(|| {
            let external = 50_000 + u16::try_from(self.bindings.len()).unwrap();
            self.bindings.push(Binding {
                internal,
                key: Some(to),
                external,
                contacted: Vec::new(),
            });
            self.bindings.len() - 1
        });
        let binding = &mut self.bindings[index];
        binding.contacted.push(to);
        SocketAddr::new(self.external, binding.external)
    }

    pub fn inbound(&self, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        let binding = self
            .bindings
            .iter()
            .find(|binding| binding.external == port)?;
        let open = self.filtering == Dependence::Endpoint
            || binding
                .contacted
                .iter()
                .any(|to| same(self.filtering, *to, from));
        open.then_some(binding.internal)
    }
}
