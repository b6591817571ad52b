//! Flows: a pair of addresses, or a stream, by which messages come and go.

use std::collections::HashMap;
use std::net::SocketAddr;

use ringtrue_sip::message::{Message, StreamParser, Via};
use ringtrue_sip::uri::{Host, Uri};

use super::{default_port, is_secure};
use crate::node::{Outbox, StreamId, Wish};

/// The parameter by which Vias and contacts remember a flow.
pub(super) const PARAMETER: &str = "flow";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FlowId(usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    Datagrams,
    Stream(StreamId),
    /// A stream by TLS.
    Secure(StreamId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    local: SocketAddr,
    remote: SocketAddr,
    way: Way,
}

#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: Vec<Flow>,
    ids: HashMap<Flow, FlowId>,
    streams: HashMap<StreamId, (FlowId, StreamParser)>,
    opened: u64,
    out: Outbox,
    /// What becomes of the bodies that leave.
    pub(super) edit: Option<fn(&mut Vec<u8>)>,
}

impl Flows {
    fn id(&mut self, flow: Flow) -> FlowId {
        *self.ids.entry(flow).or_insert_with(|| {
            self.flows.push(flow);
            FlowId(self.flows.len() - 1)
        })
    }

    pub(super) fn datagram(&mut self, local: SocketAddr, remote: SocketAddr) -> FlowId {
        let way = Way::Datagrams;
        self.id(Flow { local, remote, way })
    }

    pub(super) fn accepted(
        &mut self,
        stream: StreamId,
        local: SocketAddr,
        remote: SocketAddr,
        secure: bool,
    ) {
        let way = match secure {
            false => Way::Stream(stream),
            true => Way::Secure(stream),
        };
        let flow = self.id(Flow { local, remote, way });
        self.streams.insert(stream, (flow, StreamParser::new()));
    }

    pub(super) fn closed(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    /// The whole messages that these bytes complete.
    pub(super) fn read(&mut self, stream: StreamId, bytes: &[u8]) -> Vec<(FlowId, Message)> {
        let Some((flow, parser)) = self.streams.get_mut(&stream) else {
            return Vec::new();
        };
        let flow = *flow;
        parser.push(bytes);
        let mut messages = Vec::new();
        for message in parser.by_ref() {
            match message {
                Ok(message) => messages.push((flow, message)),
                Err(error) => {
                    if let Some(response) = error.reply() {
                        self.out.stream_bytes(stream, response.to_bytes());
                    }
                }
            }
        }
        for _ in 0..parser.take_pings() {
            self.out.stream_bytes(stream, b"\r\n".to_vec());
        }
        messages
    }

    /// The flow that a parameter names.
    pub(super) fn named(&self, id: &str) -> Option<FlowId> {
        let index: usize = id.parse().ok()?;
        (index < self.flows.len()).then_some(FlowId(index))
    }

    pub(super) fn name(flow: FlowId) -> String {
        flow.0.to_string()
    }

    pub(super) fn remote(&self, flow: FlowId) -> Option<SocketAddr> {
        self.flows.get(flow.0).map(|flow| flow.remote)
    }

    pub(super) fn is_stream(&self, flow: FlowId) -> bool {
        let flow = self.flows.get(flow.0);
        flow.is_some_and(|flow| flow.way != Way::Datagrams)
    }

    /// The flow to a URI; a stream is opened unless one stands. `None` when the URI names no
    /// address that we can reach.
    pub(super) fn towards(&mut self, own: &[SocketAddr], uri: &Uri) -> Option<FlowId> {
        let remote = SocketAddr::new(uri.host.ip()?, uri.port.unwrap_or(default_port(uri)));
        let local = *own.iter().find(|own| own.is_ipv4() == remote.is_ipv4())?;
        let secure = is_secure(uri);
        if !secure && uri.transport().as_deref() != Some("tcp") {
            return Some(self.datagram(local, remote));
        }
        let standing = self.streams.values().map(|(flow, _)| *flow);
        if let Some(flow) = standing
            .into_iter()
            .find(|id| self.remote(*id) == Some(remote))
        {
            return Some(flow);
        }
        self.opened += 1;
        let stream = StreamId(self.opened);
        self.out.push(Wish::Connect {
            stream,
            to: remote,
            from: None,
            tls: secure.then(|| remote.ip().to_string()),
        });
        self.accepted(stream, local, remote, secure);
        self.streams.get(&stream).map(|(flow, _)| *flow)
    }

    /// Our Via on what leaves by `outgoing`, which remembers where answers go.
    pub(super) fn via(&self, outgoing: FlowId, answers_to: FlowId, branch: &str) -> Option<Via> {
        let flow = self.flows.get(outgoing.0)?;
        let transport = match flow.way {
            Way::Datagrams => "UDP",
            Way::Stream(_) => "TCP",
            Way::Secure(_) => "TLS",
        };
        let host = Host::from(flow.local.ip());
        let mut via = Via::new(transport, host, Some(flow.local.port()), branch);
        via.params.set(PARAMETER, Some(&Self::name(answers_to)));
        Some(via)
    }

    /// Our Record-Route for a side that speaks with us by this flow.
    pub(super) fn own_route(&self, flow: FlowId) -> Option<Uri> {
        let flow = self.flows.get(flow.0)?;
        let uri = Uri::at(None, flow.local).with_param("lr", None);
        Some(match flow.way {
            Way::Datagrams => uri,
            Way::Stream(_) => uri.with_param("transport", Some("tcp")),
            Way::Secure(_) => uri.with_param("transport", Some("tls")),
        })
    }

    pub(super) fn send(&mut self, flow: FlowId, bytes: Vec<u8>) {
        let bytes = match (self.edit, Message::parse_datagram(&bytes)) {
            (Some(edit), Ok(Message::Request(mut request))) => {
                edit(&mut request.body);
                request.to_bytes()
            }
            (Some(edit), Ok(Message::Response(mut response))) => {
                edit(&mut response.body);
                response.to_bytes()
            }
            _ => bytes,
        };
        match self.flows.get(flow.0) {
            Some(Flow {
                local,
                remote,
                way: Way::Datagrams,
            }) => self.out.datagram(*local, *remote, bytes),
            Some(Flow {
                way: Way::Stream(stream) | Way::Secure(stream),
                ..
            }) => self.out.stream_bytes(*stream, bytes),
            None => {}
        }
    }

    /// A stream that is not wanted.
    pub(super) fn refuse(&mut self, stream: StreamId) {
        self.out.close(stream);
    }

    pub(super) fn drain(&mut self, out: &mut Outbox) {
        out.wishes.append(&mut self.out.wishes);
    }
}
