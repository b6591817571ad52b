//! Binding requests to STUN servers by TCP (RFC 8489 section 6.2.2): what a NAT makes of the port of a
//! simultaneous-open candidate. They leave from that port, and the connection stays for as long as
//! the candidate may be of use, since its end may end the mapping.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Base, Gatherer, KEEPALIVE};
use crate::stun::{Binding, Class, TransactionId, server_request};
use crate::turn::{TurnStream, TurnStreamWish};

/// So many connections there may be.
const MOST_CONNECTIONS: usize = 4;
/// The header of a STUN message, and the longest answer that is waited for.
const HEADER: usize = 20;
const LONGEST_ANSWER: usize = 1500;

/// One port asks one server.
#[derive(Debug)]
pub(super) struct TcpQuestion {
    base: Base,
    server: SocketAddr,
    stream: TurnStream,
    state: State,
    /// The beginning of an answer.
    begun: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// The connection is on its way.
    Connecting,
    /// The request has left.
    Asked(TransactionId),
    /// The server said what it sees; to be asked again then, to keep the connection alive.
    Answered {
        mapped: SocketAddr,
        again: Instant,
        sent: Option<TransactionId>,
    },
}

impl TcpQuestion {
    fn is_asking(&self) -> bool {
        !matches!(self.state, State::Answered { .. })
    }

    /// The port, the server, and what that one sees.
    pub(super) fn answer(&self) -> Option<(&Base, SocketAddr, SocketAddr)> {
        match self.state {
            State::Answered { mapped, .. } => Some((&self.base, self.server, mapped)),
            _ => None,
        }
    }

    /// Takes the bytes of an answer; false when they are none.
    fn read(&mut self, now: Instant, bytes: &[u8]) -> bool {
        self.begun.extend_from_slice(bytes);
        while let Some([_, _, high, low]) = self.begun.first_chunk() {
            let length = HEADER + usize::from(u16::from_be_bytes([*high, *low]));
            if length > LONGEST_ANSWER {
                return false;
            }
            if self.begun.len() < length {
                break;
            }
            let rest = self.begun.split_off(length);
            let answer = std::mem::replace(&mut self.begun, rest);
            if !self.take(now, &answer) {
                return false;
            }
        }
        true
    }

    fn take(&mut self, now: Instant, answer: &[u8]) -> bool {
        let asked = match self.state {
            State::Connecting => None,
            State::Asked(id) => Some(id),
            State::Answered { sent, .. } => sent,
        };
        let Some(answer) = Binding::parse(answer).filter(|answer| Some(answer.id()) == asked)
        else {
            return false;
        };
        let mapped = answer.mapped_address();
        let (Class::Success, Some(mapped)) = (answer.class(), mapped) else {
            return false;
        };
        self.state = State::Answered {
            mapped,
            again: now + KEEPALIVE,
            sent: None,
        };
        true
    }
}

impl Gatherer {
    /// Opens what connections are missing, and closes those that nobody wants.
    pub(super) fn ask_by_tcp(&mut self) {
        let mut wanted = Vec::new();
        for server in &self.stun_servers {
            let of_family = |base: &&Base| base.address.is_ipv4() == server.is_ipv4();
            let bases = self.simultaneous.iter().filter(of_family);
            wanted.extend(bases.map(|base| (*base, *server)));
        }
        wanted.truncate(MOST_CONNECTIONS);
        let is_wanted = |question: &TcpQuestion| wanted.contains(&(question.base, question.server));
        let (kept, needless) = std::mem::take(&mut self.tcp_questions)
            .into_iter()
            .partition(is_wanted);
        self.tcp_questions = kept;
        self.close_tcp(needless);
        for (base, server) in wanted {
            let mut known = self.tcp_questions.iter();
            if known.any(|known| (known.base, known.server) == (base, server)) {
                continue;
            }
            let stream = TurnStream(self.next_stream);
            self.next_stream += 1;
            self.stream_wishes.push_back(TurnStreamWish::Connect {
                stream,
                from: base.address,
                to: server,
                tls: None,
            });
            self.tcp_questions.push(TcpQuestion {
                base,
                server,
                stream,
                state: State::Connecting,
                begun: Vec::new(),
            });
        }
    }

    fn close_tcp(&mut self, questions: Vec<TcpQuestion>) {
        let streams = questions.into_iter().map(|question| question.stream);
        let closed = streams.map(|stream| TurnStreamWish::Close { stream });
        self.stream_wishes.extend(closed);
    }

    /// The mappings are of no use any more.
    pub(super) fn stop_asking_by_tcp(&mut self) {
        let all = std::mem::take(&mut self.tcp_questions);
        self.close_tcp(all);
    }

    /// Whether an answer may still come that is worth waiting for: none beyond the patience.
    pub(super) fn is_asking_by_tcp(&self) -> bool {
        !self.patience_is_over && self.tcp_questions.iter().any(TcpQuestion::is_asking)
    }

    pub(super) fn is_answered_by_tcp(&self) -> bool {
        self.tcp_questions.iter().any(|known| !known.is_asking())
    }

    fn send_by_tcp(&mut self, index: usize) -> Option<TransactionId> {
        let id = TransactionId(self.randomness.transaction_id());
        let stream = self.tcp_questions.get(index)?.stream;
        let payload = server_request(id)?;
        let send = TurnStreamWish::Send { stream, payload };
        self.stream_wishes.push_back(send);
        Some(id)
    }

    fn tcp_question(&self, stream: TurnStream) -> Option<usize> {
        let mut known = self.tcp_questions.iter();
        known.position(|question| question.stream == stream)
    }

    /// A connection stands; false if it is another's.
    pub(super) fn handle_tcp_connected(&mut self, stream: TurnStream) -> bool {
        let Some(index) = self.tcp_question(stream) else {
            return false;
        };
        if let Some(id) = self.send_by_tcp(index)
            && let Some(question) = self.tcp_questions.get_mut(index)
        {
            question.state = State::Asked(id);
        }
        true
    }

    /// Bytes have come; false if the connection is another's.
    pub(super) fn handle_tcp(&mut self, now: Instant, stream: TurnStream, bytes: &[u8]) -> bool {
        let Some(index) = self.tcp_question(stream) else {
            return false;
        };
        let read = self.tcp_questions.get_mut(index);
        if read.is_some_and(|question| !question.read(now, bytes)) {
            // Whatever that is, it is no STUN server.
            let question = self.tcp_questions.swap_remove(index);
            self.close_tcp(vec![question]);
        }
        self.finish_if_settled();
        true
    }

    /// A connection is no more, and with it what its server has said; false if it is another's.
    pub(super) fn handle_tcp_closed(&mut self, stream: TurnStream) -> bool {
        let Some(index) = self.tcp_question(stream) else {
            return false;
        };
        self.tcp_questions.swap_remove(index);
        self.finish_if_settled();
        true
    }

    pub(super) fn drive_tcp(&mut self, now: Instant) {
        self.patience_is_over |= now >= self.patience_ends;
        for index in 0..self.tcp_questions.len() {
            let due = self.tcp_questions.get(index).is_some_and(
                |question| matches!(question.state, State::Answered { again, .. } if again <= now),
            );
            if due {
                let id = self.send_by_tcp(index);
                let state = self
                    .tcp_questions
                    .get_mut(index)
                    .map(|known| &mut known.state);
                if let Some(State::Answered { again, sent, .. }) = state {
                    *again = now + KEEPALIVE;
                    *sent = id;
                }
            }
        }
    }

    pub(super) fn tcp_timeout(&self) -> Option<Instant> {
        let patience = self.is_asking_by_tcp().then_some(self.patience_ends);
        let again = self
            .tcp_questions
            .iter()
            .filter_map(|known| match known.state {
                State::Answered { again, .. } => Some(again),
                _ => None,
            });
        again.chain(patience).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::candidate::{Candidate, CandidateType, ComponentId};
    use crate::gather::GatherConfig;
    use crate::pacer::Pacer;

    const PORT: &str = "10.0.0.1:6000";
    const SERVER: &str = "192.0.2.53:3478";

    fn gatherer(now: Instant) -> Gatherer {
        let base = |address: &str| Base {
            address: address.parse().unwrap(),
            component: ComponentId::Rtp,
            local_preference: 65_535,
        };
        let config = GatherConfig {
            stun_servers: vec![SERVER.parse().unwrap()],
            ..GatherConfig::default()
        };
        let mut gatherer = Gatherer::new(config, vec![base("10.0.0.1:4000")], 1, now);
        gatherer.listen_on(vec![base("10.0.0.1:5000")], vec![base(PORT)]);
        gatherer
    }

    fn wishes(gatherer: &mut Gatherer) -> Vec<TurnStreamWish> {
        std::iter::from_fn(|| gatherer.poll_stream()).collect()
    }

    /// The connection that is wished for.
    fn connection(gatherer: &mut Gatherer) -> TurnStream {
        let wishes = wishes(gatherer);
        let [
            TurnStreamWish::Connect {
                stream,
                from,
                to,
                tls: None,
            },
        ] = &wishes[..]
        else {
            panic!("{wishes:?}");
        };
        let expected = (PORT.parse().unwrap(), SERVER.parse().unwrap());
        assert_eq!((*from, *to), expected);
        *stream
    }

    fn answer(gatherer: &mut Gatherer, mapped: &str) -> Vec<u8> {
        let wishes = wishes(gatherer);
        let [TurnStreamWish::Send { payload, .. }] = &wishes[..] else {
            panic!("{wishes:?}");
        };
        let request = Binding::parse(payload).unwrap();
        request
            .success(mapped.parse().unwrap(), "no server signs")
            .unwrap()
    }

    fn reflexive(gatherer: &Gatherer) -> Vec<Candidate> {
        let gathered = gatherer.gathered();
        let known = gathered.candidates();
        let known = known.filter(|known| known.kind == CandidateType::ServerReflexive);
        known.cloned().collect()
    }

    /// The answer may come in pieces; the candidate stays as long as the connection, which is kept
    /// alive, and goes with it.
    #[test]
    fn a_port_asks_how_it_is_mapped() {
        let now = Instant::now();
        let mut gatherer = gatherer(now);
        let stream = connection(&mut gatherer);
        gatherer.handle_stream_connected(now, stream);
        let bytes = answer(&mut gatherer, "203.0.113.1:777");
        for byte in &bytes {
            assert!(reflexive(&gatherer).is_empty());
            gatherer.handle_stream(now, stream, &[*byte]);
        }
        let known = reflexive(&gatherer);
        let [known] = &known[..] else {
            panic!("{known:?}");
        };
        assert_eq!(known.address, "203.0.113.1:777".parse().unwrap());
        assert_eq!(known.related, Some(PORT.parse().unwrap()));
        // RFC 6544 section 4.2: 70 * 2^24 + 6 * 2^21 + 8190 * 2^8 + 255.
        assert_eq!(known.priority, 1_189_085_183);
        let later = now + KEEPALIVE;
        assert!(gatherer.poll_timeout(&Pacer::new()).unwrap() <= later);
        gatherer.handle_timeout(later, &mut Pacer::new());
        let bytes = answer(&mut gatherer, "203.0.113.1:778");
        gatherer.handle_stream(later, stream, &bytes);
        let now_known = reflexive(&gatherer)[0].address;
        assert_eq!(now_known, "203.0.113.1:778".parse().unwrap());
        gatherer.handle_stream_closed(later, stream);
        assert!(reflexive(&gatherer).is_empty());
    }

    /// Once a path is selected nobody needs the mapping.
    #[test]
    fn connections_are_closed_when_a_path_is_selected() {
        let mut gatherer = gatherer(Instant::now());
        let stream = connection(&mut gatherer);
        gatherer.path_selected();
        assert_eq!(wishes(&mut gatherer), [TurnStreamWish::Close { stream }]);
    }

    /// A server that is silent by TCP, or has none, costs nothing where UDP is answered; and nothing
    /// is awaited beyond the patience.
    #[test]
    fn nobody_waits_for_a_server_without_tcp() {
        let start = Instant::now();
        for refuses in [true, false] {
            let mut gatherer = gatherer(start);
            let stream = connection(&mut gatherer);
            if refuses {
                gatherer.handle_stream_closed(start, stream);
            }
            gatherer.handle_timeout(start, &mut Pacer::new());
            let asked = gatherer.poll_transmit().unwrap();
            let request = Binding::parse(&asked.payload).unwrap();
            let told = request.success("203.0.113.1:9".parse().unwrap(), "no server signs");
            gatherer.handle_datagram(start, asked.base, asked.to, &told.unwrap());
            assert!(gatherer.is_finished());
            assert_eq!(gatherer.is_settled(), refuses);
            gatherer.handle_timeout(start + Duration::from_millis(500), &mut Pacer::new());
            assert!(gatherer.is_settled());
        }
    }

    #[test]
    fn what_is_no_answer_ends_the_connection() {
        let now = Instant::now();
        let lies: [&[u8]; 4] = [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            &[0xff; 64],
            &[0; 20],
            &[
                1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
            ],
        ];
        for lie in lies {
            let mut gatherer = gatherer(now);
            let stream = connection(&mut gatherer);
            gatherer.handle_stream_connected(now, stream);
            answer(&mut gatherer, "203.0.113.1:777");
            for piece in lie.chunks(7) {
                gatherer.handle_stream(now, stream, piece);
            }
            assert_eq!(wishes(&mut gatherer), [TurnStreamWish::Close { stream }]);
            assert!(reflexive(&gatherer).is_empty());
        }
    }
}
