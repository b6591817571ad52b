//! What the tests of the world share.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use ringtrue_testnet::{Delivery, HostId, World};

/// Reads an address.
pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Milliseconds.
pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs until nothing flies any more; gives all deliveries with their times since the start.
pub fn settle(world: &mut World) -> Vec<(Duration, HostId, Delivery)> {
    let mut arrived = Vec::new();
    while let Some(at) = world.next_event_at() {
        world.advance_to(at);
        while let Some((host, delivery)) = world.poll_delivery() {
            arrived.push((world.elapsed(), host, delivery));
        }
    }
    arrived
}

/// Sends one datagram and gives the source that the receiver saw, if it arrived.
pub fn send(world: &mut World, host: HostId, local: &str, to: impl ToString) -> Option<SocketAddr> {
    let to = addr(&to.to_string());
    world.send_udp(host, addr(local), to, b"probe".to_vec());
    settle(world).pop().map(|(_, _, delivery)| match delivery {
        Delivery::Datagram { from, payload, .. } => {
            assert_eq!(payload, b"probe");
            from
        }
        other => panic!("a datagram was expected, not {other:?}"),
    })
}

/// Lets virtual time pass.
pub fn wait(world: &mut World, duration: Duration) {
    world.advance_to(world.now() + duration);
}
