//! What all calls of a phone share: the SIP endpoint, the pacing, the settings, the way out.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use ringtrue_ice::{Pacer, TurnServer, UnverifiedPolicy};
use ringtrue_media::secure::Identity;
use ringtrue_sip::{Endpoint, QueryId};

use crate::addresses;
use crate::discovery::{Asking, Service};
use crate::event::{CallRef, EventKind, PhoneEvent};
use crate::gathering::Parting;
use crate::identity::local_addresses;
use crate::io::{
    BindRequest, Connection, Interface, LookupResult, Output, RecordKind, Records, ResolveQuery,
};
use crate::mapping::Mappings;
use crate::settings::{IceUse, Login, RingWhen, Settings, TurnTransport};

/// The port of STUN and TURN over UDP (RFC 8489 section 18.6, RFC 8656 section 18).
const STUN_PORT: u16 = 3478;
/// The port of TURN over TLS (RFC 8656 section 18).
const TURNS_PORT: u16 = 5349;

/// The numbers of media's connections have this bit; those of the SIP endpoint do not.
const MEDIA_CONNECTIONS: u64 = 1 << 62;

/// Whether a connection carries media.
pub(crate) fn is_media(connection: Connection) -> bool {
    connection.0 & MEDIA_CONNECTIONS != 0
}

/// What all calls of a phone share.
pub(crate) struct Desk {
    pub(crate) settings: Settings,
    pub(crate) sip: Endpoint,
    pub(crate) pacer: Pacer,
    pub(crate) servers: IceServers,
    pub(crate) mappings: Mappings,
    interfaces: Vec<Interface>,
    sip_sockets: Vec<SocketAddr>,
    rng: ChaCha20Rng,
    outputs: VecDeque<Output>,
    next_bind: u64,
    next_connection: u64,
    /// Sockets whose calls are over, and that are not quite.
    pub(crate) partings: Vec<Parting>,
    clock: (Instant, SystemTime),
    /// Our certificate; none when media is never encrypted.
    pub(crate) identity: Option<Arc<Identity>>,
}

impl Desk {
    pub(crate) fn new(
        settings: Settings,
        interfaces: Vec<Interface>,
        sip_sockets: Vec<SocketAddr>,
        sip: Endpoint,
        rng: ChaCha20Rng,
        clock: (Instant, SystemTime),
        identity: Option<Arc<Identity>>,
    ) -> Self {
        Self {
            settings,
            sip,
            pacer: Pacer::new(),
            servers: IceServers::default(),
            mappings: Mappings::default(),
            interfaces,
            sip_sockets,
            rng,
            outputs: VecDeque::new(),
            next_bind: 0,
            next_connection: 0,
            partings: Vec::new(),
            clock,
            identity,
        }
    }

    /// Queues something to be done or told.
    pub(crate) fn out(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn tell(&mut self, at: Instant, call: Option<CallRef>, kind: EventKind) {
        self.out(Output::Event(PhoneEvent { at, call, kind }));
    }

    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    pub(crate) fn bind(&mut self, address: IpAddr) -> BindRequest {
        self.next_bind += 1;
        let request = BindRequest(self.next_bind);
        self.out(Output::Bind { request, address });
        request
    }

    pub(crate) fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.rng
    }

    /// Wishes for a listening socket, whose port may be shared with connections that leave from it.
    pub(crate) fn listen(&mut self, address: IpAddr, shared: bool) -> BindRequest {
        self.next_bind += 1;
        let request = BindRequest(self.next_bind);
        self.out(Output::Listen {
            request,
            address,
            shared,
        });
        request
    }

    /// A number for a connection of media.
    pub(crate) fn connection(&mut self) -> Connection {
        self.next_connection += 1;
        Connection(MEDIA_CONNECTIONS | self.next_connection)
    }

    /// Whether candidates are gathered for TCP too.
    pub(crate) fn uses_ice_tcp(&self) -> bool {
        let Settings {
            ice_tcp,
            relay_only,
            ice,
            ..
        } = &self.settings;
        *ice_tcp && !relay_only && *ice != IceUse::Off
    }

    pub(crate) fn seed(&mut self) -> u64 {
        self.rng.random()
    }

    /// A seed for what must not be guessed: an ICE password has 128 bits of randomness at least
    /// (RFC 8445 section 5.3).
    pub(crate) fn long_seed(&mut self) -> [u8; 32] {
        self.rng.random()
    }

    /// The calendar's time at a moment of the monotonic clock.
    pub(crate) fn wall(&self, now: Instant) -> SystemTime {
        self.clock.1 + now.saturating_duration_since(self.clock.0)
    }

    pub(crate) fn is_sip_socket(&self, local: SocketAddr) -> bool {
        self.sip_sockets.contains(&local)
    }

    /// The host's addresses have changed; false when they have not.
    pub(crate) fn set_interfaces(&mut self, now: Instant, interfaces: Vec<Interface>) -> bool {
        if interfaces == self.interfaces {
            return false;
        }
        let stands = |old: &Interface| interfaces.iter().any(|new| new.address == old.address);
        let vanished = !self.interfaces.iter().all(stands);
        self.sip
            .set_addresses(local_addresses(&interfaces, &self.sip_sockets));
        self.interfaces = interfaces;
        if self.servers.known() == 0 && self.servers.is_settled(now) {
            // The network may have come up just now.
            self.resolve_ice_servers(now);
        }
        if vanished {
            self.sip.close_connections(now);
        }
        true
    }

    /// The addresses that media sockets are bound to, the most preferred first: those that the
    /// user named, else every one that RFC 8445 section 5.1.1.1 allows.
    pub(crate) fn media_addresses(&self) -> Vec<IpAddr> {
        let named: Vec<IpAddr> = self
            .sip_sockets
            .iter()
            .map(SocketAddr::ip)
            .filter(|ip| !ip.is_unspecified())
            .collect();
        if !named.is_empty() {
            return named;
        }
        addresses::by_preference(&self.interfaces, &self.settings.prefer)
    }

    /// What the settings allow to ring without a proof.
    pub(crate) fn unverified_policy(&self) -> UnverifiedPolicy {
        match (self.settings.ice, self.settings.ring) {
            (IceUse::Required, _) => UnverifiedPolicy::Never,
            (_, RingWhen::AtOnce) => UnverifiedPolicy::AtOnce,
            (_, RingWhen::PreferVerified) => UnverifiedPolicy::AfterPatience,
            (_, RingWhen::Verified) => UnverifiedPolicy::PeersWithoutIce,
        }
    }

    /// Begins to resolve the STUN and TURN servers of the settings.
    pub(crate) fn resolve_ice_servers(&mut self, now: Instant) {
        self.servers.asking.begin(now);
        for server in self.settings.stun_servers.clone() {
            let (host, port) = split_host_port(&server, STUN_PORT);
            self.resolve_ice_server(host, port, None);
        }
        for server in self.settings.turn_servers.clone() {
            let unsaid = match server.transport {
                TurnTransport::Udp | TurnTransport::Tcp => STUN_PORT,
                TurnTransport::Tls => TURNS_PORT,
            };
            let (host, port) = split_host_port(&server.address, unsaid);
            let transport = match server.transport {
                TurnTransport::Udp => ringtrue_ice::TurnTransport::Udp,
                TurnTransport::Tcp => ringtrue_ice::TurnTransport::Tcp,
                TurnTransport::Tls => ringtrue_ice::TurnTransport::Tls(host.to_owned()),
            };
            let login = Login {
                user: server.user,
                password: server.password,
            };
            self.resolve_ice_server(host, port, Some((login, transport)));
        }
        self.discover_ice_servers();
    }

    fn resolve_ice_server(
        &mut self,
        host: &str,
        port: u16,
        turn: Option<(Login, ringtrue_ice::TurnTransport)>,
    ) {
        let rank = self.servers.next_rank();
        let wanted = WantedServer { rank, port, turn };
        if let Ok(ip) = host.parse::<IpAddr>() {
            self.servers.add(ip, &wanted);
            return;
        }
        let query = self.ask(host.to_owned(), RecordKind::Address);
        self.servers.pending.insert(query, wanted);
    }

    /// Asks for records; the query is the phone's own.
    pub(crate) fn ask(&mut self, name: String, kind: RecordKind) -> ResolveQuery {
        let query = IceServers::query(self.servers.asked);
        self.servers.asked += 1;
        self.out(Output::Resolve { query, name, kind });
        query
    }

    /// Takes an answer that is one of ours; gives back the SIP endpoint's query otherwise.
    pub(crate) fn handle_resolved(
        &mut self,
        query: ResolveQuery,
        result: &LookupResult,
    ) -> Option<QueryId> {
        if query.0 & IceServers::OWN == 0 {
            return Some(QueryId(query.0));
        }
        if !self.handle_service(query, result) {
            self.servers.handle_address(query, result);
        }
        None
    }
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn split_host_port(server: &str, unsaid: u16) -> (&str, u16) {
    if let Some(rest) = server.strip_prefix('[')
        && let Some((host, after)) = rest.split_once(']')
    {
        let port = after.strip_prefix(':').and_then(|port| port.parse().ok());
        return (host, port.unwrap_or(unsaid));
    }
    match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port.parse().unwrap_or(unsaid)),
        _ => (server, unsaid),
    }
}

/// A server whose address is not known yet.
pub(crate) struct WantedServer {
    /// Its place in the order of preference.
    pub(crate) rank: usize,
    pub(crate) port: u16,
    /// What a TURN server has.
    pub(crate) turn: Option<(Login, ringtrue_ice::TurnTransport)>,
}

/// The STUN and TURN servers: those whose address is known, and those whose name is being resolved.
#[derive(Default)]
pub(crate) struct IceServers {
    stun: Vec<SocketAddr>,
    /// Each with its place in the order of preference.
    turn: Vec<(usize, TurnServer)>,
    wanted: usize,
    pub(crate) pending: HashMap<ResolveQuery, WantedServer>,
    /// Services that the domain was asked for.
    pub(crate) services: HashMap<ResolveQuery, Service>,
    asked: u64,
    asking: Asking,
}

impl IceServers {
    fn add(&mut self, ip: IpAddr, wanted: &WantedServer) {
        let address = SocketAddr::new(ip, wanted.port);
        let Some((Login { user, password }, transport)) = &wanted.turn else {
            return self.stun.push(address);
        };
        let server = TurnServer {
            address,
            transport: transport.clone(),
            user: user.clone(),
            password: password.clone(),
        };
        let place = self.turn.partition_point(|(rank, _)| *rank <= wanted.rank);
        self.turn.insert(place, (wanted.rank, server));
    }

    /// Queries of the phone itself have the top bit set; those of the SIP endpoint do not.
    const OWN: u64 = 1 << 63;

    fn query(number: u64) -> ResolveQuery {
        ResolveQuery(Self::OWN | number)
    }

    /// Whether every name is resolved, or has failed to.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        self.pending.is_empty() && self.services.is_empty() || self.asking.is_over(now)
    }

    /// How many servers there are to ask by now.
    pub(crate) fn known(&self) -> usize {
        self.stun.len() + self.turn.len()
    }

    pub(crate) fn stun(&self) -> Vec<SocketAddr> {
        self.stun.clone()
    }

    /// The next place in the order of preference: names are resolved in any order.
    pub(crate) fn next_rank(&mut self) -> usize {
        self.wanted += 1;
        self.wanted
    }

    pub(crate) fn turn(&self) -> Vec<TurnServer> {
        self.turn.iter().map(|(_, server)| server.clone()).collect()
    }

    fn handle_address(&mut self, query: ResolveQuery, result: &LookupResult) {
        if let (Some(wanted), Ok(Records::Addresses(addresses))) =
            (self.pending.remove(&query), result)
        {
            // One address of each family: more would only ask the same server twice.
            let v4 = addresses.iter().find(|ip| ip.is_ipv4());
            let v6 = addresses.iter().find(|ip| ip.is_ipv6());
            for ip in v4.into_iter().chain(v6) {
                self.add(*ip, &wanted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_host_port;

    #[test]
    fn stun_servers_are_read_in_every_notation() {
        let read = |server| split_host_port(server, 3478);
        assert_eq!(read("stun.example.org"), ("stun.example.org", 3478));
        assert_eq!(read("192.0.2.1:1234"), ("192.0.2.1", 1234));
        assert_eq!(read("[2001:db8::1]:99"), ("2001:db8::1", 99));
        assert_eq!(read("[2001:db8::1]"), ("2001:db8::1", 3478));
        assert_eq!(read("2001:db8::1"), ("2001:db8::1", 3478));
    }
}
