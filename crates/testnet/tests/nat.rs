//! Each kind of NAT does what RFC 4787 says of it.
//!
//! ```text
//!   alice  192.168.1.2 ─┐                          ┌─ server 198.51.100.1
//!                       ├─ NAT 203.0.113.1 ── Internet
//!   anna   192.168.1.3 ─┘                          └─ other  198.51.100.2
//! ```

mod common;

use std::net::SocketAddr;

use common::{addr, ms, send, wait};
use ringtrue_testnet::{Behaviour, GatewayConfig, GatewayId, HostId, NatConfig, World};

struct Net {
    world: World,
    gateway: GatewayId,
    alice: HostId,
    anna: HostId,
    server: HostId,
    other: HostId,
}

const ALICE: &str = "192.168.1.2:5004";
const SERVER: &str = "198.51.100.1:3478";
const SERVER_OTHER_PORT: &str = "198.51.100.1:3479";
const OTHER: &str = "198.51.100.2:3478";

fn net(config: NatConfig) -> Net {
    let mut world = World::new(1);
    let internet = world.internet();
    let (gateway, home) = world.add_gateway(internet, GatewayConfig::nat([203, 0, 113, 1], config));
    Net {
        alice: world.host_at("alice", home, [192, 168, 1, 2]),
        anna: world.host_at("anna", home, [192, 168, 1, 3]),
        server: world.host_at("server", internet, [198, 51, 100, 1]),
        other: world.host_at("other", internet, [198, 51, 100, 2]),
        gateway,
        world,
    }
}

impl Net {
    fn out(&mut self, to: &str) -> SocketAddr {
        let seen = send(&mut self.world, self.alice, ALICE, to);
        seen.expect("outbound packets pass")
    }

    fn comes_in(&mut self, from: &str, to: SocketAddr) -> bool {
        let host = if from == OTHER {
            self.other
        } else {
            self.server
        };
        send(&mut self.world, host, from, to).is_some()
    }
}

fn config(mapping: Behaviour, filtering: Behaviour) -> NatConfig {
    NatConfig::new(mapping, filtering)
}

// RFC 4787 section 4.1.
#[test]
fn mapping_depends_on_what_it_says() {
    for mapping in Behaviour::ALL {
        let mut net = net(config(mapping, Behaviour::EndpointIndependent));
        let first = net.out(SERVER);
        assert_eq!(first.ip(), addr("203.0.113.1:1").ip());
        assert_eq!(net.out(SERVER), first, "{mapping:?}: the same session");
        let same_for_port = net.out(SERVER_OTHER_PORT) == first;
        let same_for_address = net.out(OTHER) == first;
        let expected = match mapping {
            Behaviour::EndpointIndependent => (true, true),
            Behaviour::AddressDependent => (true, false),
            Behaviour::AddressAndPortDependent => (false, false),
        };
        assert_eq!((same_for_port, same_for_address), expected, "{mapping:?}");
    }
}

// RFC 4787 section 5.
#[test]
fn filtering_depends_on_what_it_says() {
    for filtering in Behaviour::ALL {
        let mut net = net(config(Behaviour::EndpointIndependent, filtering));
        let outer = net.out(SERVER);
        assert!(net.comes_in(SERVER, outer), "{filtering:?}: the answer");
        let let_in = (
            net.comes_in(SERVER_OTHER_PORT, outer),
            net.comes_in(OTHER, outer),
        );
        let expected = match filtering {
            Behaviour::EndpointIndependent => (true, true),
            Behaviour::AddressDependent => (true, false),
            Behaviour::AddressAndPortDependent => (false, false),
        };
        assert_eq!(let_in, expected, "{filtering:?}");
        // What was refused comes in once the inside has sent there.
        net.out(OTHER);
        assert!(net.comes_in(OTHER, outer), "{filtering:?}: opened");
    }
}

#[test]
fn a_mapping_that_depends_on_the_remote_lets_only_that_one_in() {
    let mut net = net(NatConfig::symmetric());
    let (to_server, to_other) = (net.out(SERVER), net.out(OTHER));
    assert!(net.comes_in(SERVER, to_server) && net.comes_in(OTHER, to_other));
    assert!(!net.comes_in(SERVER, to_other) && !net.comes_in(OTHER, to_server));
}

#[test]
fn nothing_comes_in_where_nothing_is_mapped() {
    let mut net = net(NatConfig::full_cone());
    assert!(!net.comes_in(SERVER, addr("203.0.113.1:5004")));
    let home = addr("192.168.1.2:5004");
    assert!(
        !net.comes_in(SERVER, home),
        "private addresses are not routed"
    );
}

// RFC 4787 section 4.2.1: the port is preserved while it is free, and never shared.
#[test]
fn ports_are_preserved_where_free() {
    let mut net = net(NatConfig::port_restricted());
    let first = net.out(SERVER);
    assert_eq!(first.port(), 5004);
    let second = send(&mut net.world, net.anna, "192.168.1.3:5004", SERVER).unwrap();
    assert_ne!(second.port(), 5004);
    let mut without = self::net(NatConfig {
        port_preservation: false,
        ..NatConfig::port_restricted()
    });
    assert_ne!(without.out(SERVER).port(), 5004);
}

// RFC 4787 section 4.3 and REQ-6: outbound packets keep a mapping, inbound ones only if the NAT
// is so configured.
#[test]
fn bindings_time_out() {
    for inbound_refresh in [false, true] {
        let mut net = net(NatConfig {
            binding_timeout: ms(30_000),
            inbound_refresh,
            port_preservation: false,
            ..NatConfig::port_restricted()
        });
        let outer = net.out(SERVER);
        wait(&mut net.world, ms(29_999));
        assert_eq!(net.out(SERVER), outer, "outbound refreshes");
        wait(&mut net.world, ms(20_000));
        assert!(net.comes_in(SERVER, outer));
        wait(&mut net.world, ms(20_000));
        assert_eq!(net.comes_in(SERVER, outer), inbound_refresh);
        wait(&mut net.world, ms(30_000));
        assert_ne!(net.out(SERVER), outer, "a new mapping after the time-out");
    }
}

#[test]
fn a_filter_forgets_a_remote_that_is_sent_nothing() {
    let mut net = net(NatConfig {
        binding_timeout: ms(30_000),
        ..NatConfig::port_restricted()
    });
    let outer = net.out(SERVER);
    net.out(OTHER);
    wait(&mut net.world, ms(20_000));
    net.out(SERVER);
    wait(&mut net.world, ms(20_000));
    assert!(net.comes_in(SERVER, outer), "the mapping lives");
    assert!(!net.comes_in(OTHER, outer), "but not for this remote");
}

// RFC 4787 section 6, REQ-9: hairpinned packets carry the outer source.
#[test]
fn hairpinning_can_be_on_or_off() {
    for hairpin in [true, false] {
        let mut net = net(NatConfig {
            hairpin,
            ..NatConfig::full_cone()
        });
        let outer = net.out(SERVER);
        let seen = send(&mut net.world, net.anna, "192.168.1.3:6000", outer);
        assert_eq!(seen, hairpin.then(|| addr("203.0.113.1:6000")));
        let direct = send(&mut net.world, net.anna, "192.168.1.3:6000", ALICE);
        assert_eq!(direct, Some(addr("192.168.1.3:6000")), "no NAT between");
    }
}

#[test]
fn hairpinned_packets_are_filtered_too() {
    let mut net = net(NatConfig::port_restricted());
    let outer = net.out(SERVER);
    let seen = send(&mut net.world, net.anna, "192.168.1.3:6000", outer);
    assert_eq!(seen, None);
    net.out("203.0.113.1:6000");
    let seen = send(&mut net.world, net.anna, "192.168.1.3:6000", outer);
    assert_eq!(seen, Some(addr("203.0.113.1:6000")));
}

#[test]
fn a_reboot_forgets_everything() {
    let mut net = net(NatConfig::full_cone());
    let outer = net.out(SERVER);
    net.world.reboot(net.gateway);
    assert!(!net.comes_in(SERVER, outer));
}

//   alice 192.168.1.2 ── NAT 100.64.0.2 ── carrier's NAT 203.0.113.1 ── Internet ── server
#[test]
fn nats_nest() {
    let mut world = World::new(1);
    let internet = world.internet();
    let carrier = GatewayConfig::nat([203, 0, 113, 1], NatConfig::symmetric());
    let (_, carrier) = world.add_gateway(internet, carrier);
    let home = GatewayConfig::nat([100, 64, 0, 2], NatConfig::full_cone());
    let (_, home) = world.add_gateway(carrier, home);
    let alice = world.host_at("alice", home, [192, 168, 1, 2]);
    let neighbour = world.host_at("neighbour", carrier, [100, 64, 0, 3]);
    let server = world.host_at("server", internet, [198, 51, 100, 1]);

    let outer = send(&mut world, alice, ALICE, SERVER).unwrap();
    assert_eq!(outer.ip(), addr("203.0.113.1:1").ip());
    assert!(send(&mut world, server, SERVER, outer).is_some());
    assert!(send(&mut world, server, SERVER_OTHER_PORT, outer).is_none());
    let within = send(&mut world, neighbour, "100.64.0.3:9", "100.64.0.2:5004").unwrap();
    assert_eq!(within, addr("100.64.0.3:9"), "the inner NAT is a full cone");
}

//   alice 2001:db8:1::2 ── firewall ── Internet ── server 2001:db8:ff::1
#[test]
fn ipv6_is_routed_through_the_stateful_firewall() {
    let mut world = World::new(1);
    let internet = world.internet();
    let nat = GatewayConfig::nat([203, 0, 113, 1], NatConfig::full_cone());
    let (_, home) = world.add_gateway(internet, nat);
    let v6 = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let alice = world.host_at("alice", home, v6("2001:db8:1::2"));
    let server = world.host_at("server", internet, v6("2001:db8:ff::1"));
    let (local, remote) = ("[2001:db8:1::2]:5004", "[2001:db8:ff::1]:3478");
    assert_eq!(send(&mut world, server, remote, local), None);
    assert_eq!(send(&mut world, alice, local, remote), Some(addr(local)));
    assert_eq!(send(&mut world, server, remote, local), Some(addr(remote)));
    let other_port = "[2001:db8:ff::1]:3479";
    assert_eq!(send(&mut world, server, other_port, local), None);
}
