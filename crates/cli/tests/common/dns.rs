//! A tiny DNS server on loopback, over UDP and TCP: a zone as data.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, NAPTR, SRV};
use hickory_proto::rr::{Name, RData, Record};

/// What the server says.
#[derive(Default)]
pub struct Zone {
    records: Vec<Record>,
    /// Answers by UDP are cut off, so that they are fetched by TCP.
    truncates: bool,
}

impl Zone {
    /// The same with a host.
    pub fn host(self, name: &str, ip: Ipv4Addr) -> Self {
        self.with(name, RData::A(A(ip)))
    }

    /// The same with a server of a service.
    pub fn srv(self, service: &str, port: u16, target: &str) -> Self {
        let srv = SRV::new(1, 1, port, full(target));
        self.with(service, RData::SRV(srv))
    }

    /// The same with a service of a domain.
    pub fn naptr(self, domain: &str, order: u16, services: &str, replacement: &str) -> Self {
        let bytes = |text: &str| text.as_bytes().into();
        let naptr = NAPTR::new(
            order,
            1,
            bytes("s"),
            bytes(services),
            bytes(""),
            full(replacement),
        );
        self.with(domain, RData::NAPTR(naptr))
    }

    /// The same, with answers that are too long for UDP.
    pub fn truncating(mut self) -> Self {
        self.truncates = true;
        self
    }

    fn with(mut self, name: &str, data: RData) -> Self {
        self.records.push(Record::from_rdata(full(name), 60, data));
        self
    }

    fn answer(&self, question: &[u8], by_udp: bool) -> Option<Vec<u8>> {
        let mut message = Message::from_vec(question).ok()?;
        let query = message.queries.first()?.clone();
        let of_name: Vec<&Record> = self
            .records
            .iter()
            .filter(|record| record.name.to_lowercase() == query.name().to_lowercase())
            .collect();
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        message.additionals.clear();
        message.edns = None;
        if of_name.is_empty() {
            message.metadata.response_code = ResponseCode::NXDomain;
        }
        let asked = |record: &&&Record| record.record_type() == query.query_type();
        let answers: Vec<Record> = of_name.iter().filter(asked).map(|r| (*r).clone()).collect();
        if by_udp && self.truncates && !answers.is_empty() {
            message.metadata.truncation = true;
        } else {
            message.add_answers(answers);
        }
        message.to_vec().ok()
    }

    /// Serves it on threads that end with the test program; gives the address.
    pub fn serve(self) -> SocketAddr {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a UDP port");
        let address = udp.local_addr().expect("its address");
        let tcp = TcpListener::bind(address).expect("the same port for TCP");
        let zone = Arc::new(self);
        let same = zone.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((size, from)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = same.answer(&buffer[..size], true) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let zone = zone.clone();
                std::thread::spawn(move || {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut question = vec![0; u16::from_be_bytes(length).into()];
                        if stream.read_exact(&mut question).is_err() {
                            return;
                        }
                        let Some(answer) = zone.answer(&question, false) else {
                            return;
                        };
                        let length = u16::try_from(answer.len()).expect("a short answer");
                        let framed = [&length.to_be_bytes()[..], &answer].concat();
                        if stream.write_all(&framed).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }
}

fn full(name: &str) -> Name {
    let mut name = Name::from_ascii(name).expect("a name");
    name.set_fqdn(true);
    name
}

/// A DNS server that never answers: the socket is there, nobody reads it.
pub fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP port");
    let address = socket.local_addr().expect("its address");
    (socket, address)
}
