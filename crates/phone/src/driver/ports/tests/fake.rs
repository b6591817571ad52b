//! A router that maps ports, in whatever protocols it is told to speak.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// The external address of every one.
pub(super) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

const NAT_PMP_PORT: u16 = 5351;
const SSDP_PORT: u16 = 1900;
const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

/// Which protocols a router speaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speaks {
    pub(super) pcp: bool,
    pub(super) natpmp: bool,
    pub(super) upnp: bool,
}

impl Speaks {
    pub(super) const NOTHING: Self = Self {
        pcp: false,
        natpmp: false,
        upnp: false,
    };
    pub(super) const PCP: Self = Self {
        pcp: true,
        ..Self::NOTHING
    };
    pub(super) const NAT_PMP: Self = Self {
        natpmp: true,
        ..Self::NOTHING
    };
    pub(super) const UPNP: Self = Self {
        upnp: true,
        ..Self::NOTHING
    };
}

#[derive(Debug, Default)]
struct Memory {
    mapped: BTreeSet<u16>,
    log: Vec<String>,
    refuses: Vec<&'static str>,
    silent: bool,
}

/// A router at 127.86.N.1; it lives as long as the test's runtime.
#[derive(Clone)]
pub(super) struct FakeRouter {
    at: Ipv4Addr,
    speaks: Speaks,
    memory: Arc<Mutex<Memory>>,
}

impl FakeRouter {
    pub(super) async fn start(network: u8, speaks: Speaks) -> Self {
        let at = Ipv4Addr::new(127, 86, network, 1);
        let router = Self {
            at,
            speaks,
            memory: Arc::default(),
        };
        let udp = UdpSocket::bind((at, NAT_PMP_PORT)).await.unwrap();
        let ssdp = UdpSocket::bind((at, SSDP_PORT)).await.unwrap();
        let http = TcpListener::bind((at, 0)).await.unwrap();
        let port = http.local_addr().unwrap().port();
        let here = router.clone();
        tokio::spawn(async move { here.answer_datagrams(udp).await });
        let here = router.clone();
        tokio::spawn(async move { here.answer_searches(ssdp, port).await });
        let here = router.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = http.accept().await {
                here.answer_http(stream).await;
            }
        });
        router
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    /// The external ports that are mapped.
    pub(super) fn mapped(&self) -> Vec<u16> {
        self.memory().mapped.iter().copied().collect()
    }

    /// What was asked, in order.
    pub(super) fn log(&self) -> Vec<String> {
        self.memory().log.clone()
    }

    /// How often a mapping was asked for.
    pub(super) fn times_asked(&self) -> usize {
        let is_asked = |line: &&String| line.ends_with(" 600");
        self.memory().log.iter().filter(is_asked).count()
    }

    /// From now on requests in this protocol are refused.
    pub(super) fn refuse(&self, protocol: &'static str) {
        self.memory().refuses.push(protocol);
    }

    /// Another host has this external port.
    pub(super) fn occupy(&self, port: u16) {
        self.memory().mapped.insert(port);
    }

    pub(super) fn fall_silent(&self) {
        self.memory().silent = true;
    }

    fn note(&self, line: &str) -> (bool, bool) {
        let mut memory = self.memory();
        memory.log.push(line.to_owned());
        let refused = memory.refuses.iter().any(|name| line.starts_with(name));
        (memory.silent, refused)
    }

    fn change(&self, port: u16, lifetime: u32) {
        let mut memory = self.memory();
        if lifetime == 0 {
            memory.mapped.remove(&port);
        } else {
            memory.mapped.insert(port);
        }
    }

    async fn answer_datagrams(&self, socket: UdpSocket) {
        let mut buffer = [0; 2048];
        while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
            let request = &buffer[..size];
            let answer = match request.first() {
                Some(2) => self.answer_pcp(request),
                Some(0) => self.answer_natpmp(request),
                _ => None,
            };
            if let Some(answer) = answer {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    }

    /// RFC 6887 section 11: one MAP request.
    fn answer_pcp(&self, request: &[u8]) -> Option<Vec<u8>> {
        let lifetime = u32::from_be_bytes(request[4..8].try_into().unwrap());
        let port = u16::from_be_bytes(request[40..42].try_into().unwrap());
        let (silent, refused) = self.note(&format!("pcp map {port} {lifetime}"));
        if silent || !(self.speaks.pcp || self.speaks.natpmp) {
            return None;
        }
        if !self.speaks.pcp {
            // RFC 6886 section 3.5: an unsupported version.
            return Some(vec![0, 0x81, 0, 1, 0, 0, 0, 1]);
        }
        let mut answer = request.to_vec();
        answer[1] |= 0x80;
        answer[3] = if refused { 2 } else { 0 };
        answer[8..24].fill(0);
        answer[42..44].copy_from_slice(&port.to_be_bytes());
        answer[44..60].copy_from_slice(&EXTERNAL.to_ipv6_mapped().octets());
        if !refused {
            self.change(port, lifetime);
        }
        Some(answer)
    }

    /// RFC 6886 sections 3.2 and 3.3.
    fn answer_natpmp(&self, request: &[u8]) -> Option<Vec<u8>> {
        if request[1] == 0 {
            let (silent, refused) = self.note("natpmp address");
            let head = [0, 0x80, 0, if refused { 2 } else { 0 }, 0, 0, 0, 1];
            let answer = [&head[..], &EXTERNAL.octets()].concat();
            return (self.speaks.natpmp && !silent).then_some(answer);
        }
        let port = u16::from_be_bytes(request[4..6].try_into().unwrap());
        let lifetime = u32::from_be_bytes(request[8..12].try_into().unwrap());
        let (silent, _) = self.note(&format!("natpmp map {port} {lifetime}"));
        self.change(port, lifetime);
        let external = if lifetime == 0 { 0 } else { port };
        let head = [0, 0x81, 0, 0, 0, 0, 0, 1];
        let answer = [
            &head[..],
            &port.to_be_bytes(),
            &external.to_be_bytes(),
            &lifetime.to_be_bytes(),
        ]
        .concat();
        (self.speaks.natpmp && !silent).then_some(answer)
    }

    async fn answer_searches(&self, socket: UdpSocket, port: u16) {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            self.note("upnp search");
            if self.speaks.upnp {
                let at = SocketAddrV4::new(self.at, port);
                let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{at}/root.xml\r\n\r\n");
                socket.send_to(answer.as_bytes(), from).await.unwrap();
            }
        }
    }

    async fn answer_http(&self, mut stream: TcpStream) {
        let request = read_request(&mut stream).await;
        let value = |name: &str| {
            let (_, rest) = request.split_once(&format!("<{name}>"))?;
            rest.split('<').next()?.parse::<u16>().ok()
        };
        let (external, lease) = (value("NewExternalPort"), value("NewLeaseDuration"));
        let mut status = "200 OK";
        let body = if request.starts_with("GET /root.xml ") {
            self.note("upnp description");
            format!(
                "<root><device><serviceList><service><serviceType>{SERVICE}</serviceType>\
                 <controlURL>/ctl</controlURL></service></serviceList></device></root>"
            )
        } else if request.contains("#GetExternalIPAddress\"") {
            self.note("upnp address");
            format!("<NewExternalIPAddress>{EXTERNAL}</NewExternalIPAddress>")
        } else if let (Some(port), true) = (external, request.contains("#AddPortMapping\"")) {
            let lease = lease.unwrap();
            let renewed = self.log().contains(&format!("upnp map {port} {lease}"));
            self.note(&format!("upnp map {port} {lease}"));
            if self.memory().mapped.contains(&port) && !renewed {
                status = "500 Internal Server Error";
                "<UPnPError><errorCode>718</errorCode></UPnPError>".to_owned()
            } else {
                self.change(port, u32::from(lease));
                String::new()
            }
        } else if let (Some(port), true) = (external, request.contains("#DeletePortMapping\"")) {
            self.note(&format!("upnp map {port} 0"));
            self.change(port, 0);
            String::new()
        } else {
            status = "404 Not Found";
            String::new()
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // The phone may have given up.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

/// Reads a request and its body.
pub(super) async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return text;
        }
    }
}
