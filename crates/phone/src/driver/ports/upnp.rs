//! Port mapping by UPnP IGD (UPnP Forum, WANIPConnection:1 and :2): the router is found by SSDP,
//! described over HTTP and asked by SOAP. Only the default gateway's own words count: replies from
//! elsewhere, or that name another place, are not followed.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::http::{self, HttpError, Reply};
use super::xml::{self, Node};

/// The port of SSDP, and its multicast group.
const SSDP_PORT: u16 = 1900;
const SSDP_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// A search that is not answered is sent again, once.
const SEARCH_AGAIN: Duration = Duration::from_millis(300);
/// Datagrams that come while the gateway's answer is waited for.
const MOST_STRAYS: usize = 64;
/// The kinds of device that are searched for.
const DEVICES: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
];
/// The services that map ports, the preferred ones first.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// So many external ports are tried when others have them.
const MOST_PORTS: u16 = 4;
/// The error code for an external port that another mapping has (WANIPConnection:1 section 2.4.16).
const CONFLICT: &str = "718";
/// What the router's owner sees in its list of mappings.
const DESCRIPTION: &str = "ringtrue";

/// Why a router did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpnpError {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("HTTP status {0}")]
    Status(u16),
    #[error("UPnP error {0}")]
    Refused(String),
    #[error("no service that maps ports is described")]
    NoService,
    #[error("the reply lacks {0}")]
    Lacks(&'static str),
}

/// A service of the gateway that maps ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Igd {
    local: Ipv4Addr,
    control: Place,
    service: &'static str,
}

/// Where something is at the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    server: SocketAddrV4,
    path: String,
}

impl Place {
    /// Reads a URL, absolute or relative to another place. It must stay at that place's address,
    /// and hold nothing that could end a request line.
    fn of(url: &str, base: &Self) -> Option<Self> {
        let plain = url.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain || url.is_empty() || url.len() > 1024 {
            return None;
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            let path = url.strip_prefix('/').unwrap_or(url);
            return Some(Self {
                server: base.server,
                path: format!("/{path}"),
            });
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let server = match authority.parse::<SocketAddrV4>() {
            Ok(server) => server,
            Err(_) => SocketAddrV4::new(authority.parse().ok()?, 80),
        };
        let here = scheme.eq_ignore_ascii_case("http")
            && server.ip() == base.server.ip()
            && server.port() != 0;
        here.then(|| Self {
            server,
            path: format!("/{path}"),
        })
    }
}

/// Finds the gateway's services that map ports, the preferred one first. Waits for as long as it is
/// let.
pub(super) async fn discover(
    local: Ipv4Addr,
    gateway: Ipv4Addr,
    group: bool,
) -> Result<Vec<Igd>, UpnpError> {
    let description = search(local, gateway, group).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        description.path, description.server
    );
    let reply = http::exchange(local, description.server, &request).await?;
    if reply.status != 200 {
        return Err(UpnpError::Status(reply.status));
    }
    let found = services(local, &description, &reply.body);
    if found.is_empty() {
        return Err(UpnpError::NoService);
    }
    Ok(found)
}

/// SSDP (UPnP Device Architecture section 1.3): asks the gateway itself, since some routers do not
/// answer the group, and with `group` the group, since others answer nothing else.
async fn search(local: Ipv4Addr, gateway: Ipv4Addr, group: bool) -> std::io::Result<Place> {
    let raw = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    raw.set_nonblocking(true)?;
    raw.bind(&SocketAddr::from((local, 0)).into())?;
    raw.set_multicast_if_v4(&local)?;
    raw.set_multicast_ttl_v4(2)?;
    let socket = UdpSocket::from_std(raw.into())?;
    let targets = if group {
        &[gateway, SSDP_GROUP][..]
    } else {
        &[gateway]
    };
    let mut buffer = [0; 2048];
    let mut strays = 0;
    for last in [false, true] {
        for device in DEVICES {
            for target in targets {
                // What is lost is sent again; the other target may still be reached.
                let _lost = socket
                    .send_to(search_request(device).as_bytes(), (*target, SSDP_PORT))
                    .await;
            }
        }
        let listening = async {
            while strays < MOST_STRAYS {
                strays += 1;
                let Ok((size, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let text = String::from_utf8_lossy(buffer.get(..size).unwrap_or_default());
                if from.ip() == gateway
                    && let Some(place) = location(&text, gateway)
                {
                    return Some(place);
                }
            }
            None
        };
        let found = if last {
            listening.await
        } else {
            tokio::time::timeout(SEARCH_AGAIN, listening)
                .await
                .unwrap_or_default()
        };
        if let Some(place) = found {
            return Ok(place);
        }
    }
    Err(std::io::ErrorKind::TimedOut.into())
}

fn search_request(device: &str) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {SSDP_GROUP}:{SSDP_PORT}\r\nMAN: \"ssdp:discover\"\r\n\
         MX: 1\r\nST: {device}\r\n\r\n"
    )
}

/// Where an answer to the search says that the description is: at the gateway, or nowhere.
fn location(answer: &str, gateway: Ipv4Addr) -> Option<Place> {
    let mut lines = answer.lines();
    if !lines.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let url = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("location"))
        .map(|(_, value)| value.trim())
        .filter(|url| url.contains("://"))?;
    let anywhere = Place {
        server: SocketAddrV4::new(gateway, 0),
        path: String::new(),
    };
    Place::of(url, &anywhere)
}

/// The services of a device description that map ports.
fn services(local: Ipv4Addr, description: &Place, body: &str) -> Vec<Igd> {
    let base = xml::value(body, "URLBase").map_or_else(
        || Some(description.clone()),
        |url| Place::of(&url, description),
    );
    let Some(base) = base else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (mut element, mut kind, mut control) = ("", None, None);
    for node in xml::nodes(body) {
        match node {
            Node::Open("service") => (kind, control) = (None, None),
            Node::Open(name) => element = name,
            Node::Text(text) if element == "serviceType" => {
                kind = SERVICES.iter().position(|known| *known == text);
            }
            Node::Text(text) if element == "controlURL" => control = Place::of(&text, &base),
            Node::Text(_) => {}
            Node::Close("service") => {
                if let (Some(rank), Some(control)) = (kind.take(), control.take()) {
                    found.push((rank, control));
                }
            }
            Node::Close(_) => element = "",
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    // A router has one such service, perhaps two.
    found.truncate(4);
    let service = |(rank, control): (usize, Place)| {
        let service = SERVICES.get(rank)?;
        Some(Igd {
            local,
            control,
            service,
        })
    };
    found.into_iter().filter_map(service).collect()
}

impl Igd {
    /// The router's external address.
    pub(super) async fn external_address(&self) -> Result<Ipv4Addr, UpnpError> {
        let reply = self.act("GetExternalIPAddress", "").await?;
        xml::value(&reply, "NewExternalIPAddress")
            .and_then(|text| text.parse().ok())
            .ok_or(UpnpError::Lacks("an external address"))
    }

    /// Maps a UDP port of this host, or renews its mapping on the external port that it has; gives
    /// the external port.
    pub(super) async fn map(
        &self,
        port: u16,
        external: Option<u16>,
        lifetime: Duration,
    ) -> Result<u16, UpnpError> {
        let mut conflict = None;
        let most = if external.is_some() { 1 } else { MOST_PORTS };
        for number in 0..most {
            let wanted = external.unwrap_or_else(|| another_port(port, number));
            match self.add(port, wanted, lifetime).await {
                Ok(_) => return Ok(wanted),
                Err(UpnpError::Refused(code)) if code == CONFLICT => {
                    conflict = Some(UpnpError::Refused(code));
                }
                Err(error) => return Err(error),
            }
        }
        Err(conflict.unwrap_or(UpnpError::Lacks("a free port")))
    }

    async fn add(&self, port: u16, external: u16, lifetime: Duration) -> Result<String, UpnpError> {
        let arguments = format!(
            "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
             <NewProtocol>UDP</NewProtocol><NewInternalPort>{port}</NewInternalPort>\
             <NewInternalClient>{}</NewInternalClient><NewEnabled>1</NewEnabled>\
             <NewPortMappingDescription>{DESCRIPTION}</NewPortMappingDescription>\
             <NewLeaseDuration>{}</NewLeaseDuration>",
            self.local,
            lifetime.as_secs()
        );
        self.act("AddPortMapping", &arguments).await
    }

    /// Removes the mapping of an external port.
    pub(super) async fn unmap(&self, external: u16) -> Result<(), UpnpError> {
        let arguments = format!(
            "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
             <NewProtocol>UDP</NewProtocol>"
        );
        self.act("DeletePortMapping", &arguments).await?;
        Ok(())
    }

    /// One action (UPnP Device Architecture section 3.1.1); the reply's body.
    async fn act(&self, action: &str, arguments: &str) -> Result<String, UpnpError> {
        let service = self.service;
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        );
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: text/xml; charset=\"utf-8\"\r\nContent-Length: {}\r\n\
             SOAPAction: \"{service}#{action}\"\r\n\r\n{body}",
            self.control.path,
            self.control.server,
            body.len()
        );
        let Reply { status, body } =
            http::exchange(self.local, self.control.server, &request).await?;
        match (status, xml::value(&body, "errorCode")) {
            (200, _) => Ok(body),
            // What a router sends is not for a log as it is.
            (_, Some(code)) if code.len() <= 4 && code.bytes().all(|b| b.is_ascii_digit()) => {
                Err(UpnpError::Refused(code))
            }
            (status, _) => Err(UpnpError::Status(status)),
        }
    }
}

/// The external ports to try: the same as inside, then others far from it.
fn another_port(port: u16, number: u16) -> u16 {
    const LOWEST: u32 = 1024;
    const STEP: u32 = 7919;
    if number == 0 {
        return port;
    }
    let there = u32::from(port) + STEP * u32::from(number);
    u16::try_from(LOWEST + there % (65_536 - LOWEST)).unwrap_or(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn at(path: &str) -> Place {
        Place {
            server: SocketAddrV4::new(GATEWAY, 5000),
            path: path.to_owned(),
        }
    }

    #[test]
    fn locations_stay_at_the_gateway() {
        let answer =
            |url: &str| format!("HTTP/1.1 200 OK\r\nST: x\r\nLoCaTiOn: {url}\r\nUSN: y\r\n\r\n");
        let found = location(&answer("http://192.168.1.1:5000/rootDesc.xml"), GATEWAY);
        assert_eq!(found, Some(at("/rootDesc.xml")));
        let other = location(&answer("http://192.168.1.1"), GATEWAY).unwrap();
        assert_eq!((other.server.port(), other.path.as_str()), (80, "/"));
        for elsewhere in [
            "http://192.168.1.2:5000/rootDesc.xml",
            "http://198.51.100.1/",
            "http://127.0.0.1:5000/",
            "http://router.local:5000/",
            "http://192.168.1.1@198.51.100.1/",
            "http://192.168.1.1:0/",
            "https://192.168.1.1:5000/",
            "file:///etc/passwd",
            "/rootDesc.xml",
            "http://192.168.1.1:5000/a b",
            "",
        ] {
            assert_eq!(location(&answer(elsewhere), GATEWAY), None, "{elsewhere}");
        }
        assert_eq!(
            location(
                "NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/",
                GATEWAY
            ),
            None
        );
    }

    #[test]
    fn descriptions_name_their_services() {
        let describe = |base: &str, control: &str| {
            format!(
                "<?xml version='1.0'?><root xmlns='urn:x'>{base}<device><serviceList><service>\
                 <serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>\
                 <controlURL>/l3</controlURL></service></serviceList><deviceList><device>\
                 <serviceList><service>\
                 <serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType>\
                 <controlURL>/ppp</controlURL></service><service>\
                 <controlURL>{control}</controlURL><SCPDURL>/scpd</SCPDURL>\
                 <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
                 </service></serviceList></device></deviceList></device></root>"
            )
        };
        let found = |base, control| {
            let body = describe(base, control);
            let services = services(Ipv4Addr::LOCALHOST, &at("/d.xml"), &body);
            let control = |igd: Igd| igd.control;
            services.into_iter().map(control).collect::<Vec<_>>()
        };
        assert_eq!(found("", "ctl/ip"), [at("/ctl/ip"), at("/ppp")]);
        assert_eq!(found("", "/c?a=1&amp;b=2"), [at("/c?a=1&b=2"), at("/ppp")]);
        // A control URL elsewhere is not followed, nor anything below a base elsewhere.
        assert_eq!(found("", "http://198.51.100.1/ctl"), [at("/ppp")]);
        let base = "<URLBase>http://198.51.100.1/</URLBase>";
        assert_eq!(found(base, "/ctl"), []);
        let base = "<URLBase>http://192.168.1.1:49152/</URLBase>";
        assert_eq!(found(base, "/ctl")[0].server.port(), 49_152);
    }

    #[test]
    fn other_ports_are_ports() {
        for port in [1, 1024, 40_000, u16::MAX] {
            for number in 1..MOST_PORTS {
                assert!(another_port(port, number) >= 1024);
                assert_ne!(another_port(port, number), port);
            }
        }
    }
}
