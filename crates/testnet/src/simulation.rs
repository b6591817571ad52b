//! A world together with the nodes that live in it.

use std::time::{Duration, Instant};

use crate::node::{Node, Outbox};
use crate::topology::HostId;
use crate::world::World;

/// A node that wakes up more often than this at one instant is broken.
const WAKE_UP_LIMIT: usize = 100_000;

/// Owns a world and its nodes, and steps from one wake-up to the next.
pub struct Simulation<N> {
    world: World,
    nodes: Vec<(HostId, N)>,
}

impl<N: Node> Simulation<N> {
    /// A simulation without nodes.
    pub fn new(world: World) -> Self {
        Self {
            world,
            nodes: Vec::new(),
        }
    }

    /// Puts a node on a host.
    ///
    /// # Panics
    /// When a node lives there already.
    pub fn add(&mut self, host: HostId, node: N) {
        assert!(
            self.find(host).is_none(),
            "a node lives on {host:?} already"
        );
        self.nodes.push((host, node));
    }

    /// The world.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The world, to change it or to send in it.
    pub fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.world.now()
    }

    /// The node on a host.
    ///
    /// # Panics
    /// When none lives there.
    pub fn node(&self, host: HostId) -> &N {
        let index = self.find(host).expect("a node lives on that host");
        &self.nodes[index].1
    }

    /// The node on a host, to command it; what it wishes is done before time moves.
    ///
    /// # Panics
    /// When none lives there.
    pub fn node_mut(&mut self, host: HostId) -> &mut N {
        let index = self.find(host).expect("a node lives on that host");
        &mut self.nodes[index].1
    }

    /// All nodes with their hosts.
    pub fn nodes(&self) -> impl Iterator<Item = (HostId, &N)> {
        self.nodes.iter().map(|(host, node)| (*host, node))
    }

    /// Gives the world back, without the nodes.
    pub fn into_world(self) -> World {
        self.world
    }

    fn find(&self, host: HostId) -> Option<usize> {
        self.nodes.iter().position(|(other, _)| *other == host)
    }

    /// When something happens next; call after [`settle`](Self::settle).
    pub fn next_wake_up(&self) -> Option<Instant> {
        let nodes = self
            .nodes
            .iter()
            .filter_map(|(_, node)| node.poll_timeout());
        nodes.chain(self.world.next_event_at()).min()
    }

    /// Does everything that is due now, without moving the clock.
    ///
    /// # Panics
    /// When a node asks for a time-out that has passed, without end.
    pub fn settle(&mut self) {
        for _ in 0..WAKE_UP_LIMIT {
            self.drain();
            let now = self.world.now();
            if self.next_wake_up().is_none_or(|at| at > now) {
                return;
            }
            self.world.advance_to(now);
            self.hand_over();
            for (_, node) in &mut self.nodes {
                if node.poll_timeout().is_some_and(|at| at <= now) {
                    node.handle_timeout(now);
                }
            }
        }
        let due = |(host, node): &(HostId, N)| {
            let due = node.poll_timeout().is_some_and(|at| at <= self.world.now());
            due.then(|| self.world.host_name(*host).to_owned())
        };
        let spinning: Vec<_> = self.nodes.iter().filter_map(due).collect();
        panic!("time stands still; these nodes ask for a past time-out: {spinning:?}");
    }

    /// Jumps to the next wake-up, no later than `limit`, and does what is due then. False, with
    /// the clock at `limit`, when nothing happens until then.
    pub fn step(&mut self, limit: Instant) -> bool {
        self.settle();
        match self.next_wake_up() {
            Some(at) if at <= limit => {
                self.world.advance_to(at);
                self.settle();
                true
            }
            _ => {
                self.world.advance_to(limit);
                false
            }
        }
    }

    /// Runs until a time.
    pub fn run_until(&mut self, time: Instant) {
        while self.step(time) {}
    }

    /// Runs for some time.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now() + duration);
    }

    /// Runs until something holds, for at most `patience`. Whether it holds.
    pub fn wait_for(&mut self, patience: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let limit = self.now() + patience;
        self.settle();
        while !holds(self) {
            if !self.step(limit) {
                return holds(self);
            }
        }
        true
    }

    fn drain(&mut self) {
        let now = self.world.now();
        for (host, node) in &mut self.nodes {
            let mut out = Outbox::new();
            node.drain(now, &mut out);
            self.world.fulfil(*host, &mut out);
        }
    }

    fn hand_over(&mut self) {
        let now = self.world.now();
        while let Some((host, delivery)) = self.world.poll_delivery() {
            if let Some(index) = self.find(host) {
                self.nodes[index].1.handle_delivery(now, delivery);
            }
        }
    }
}
