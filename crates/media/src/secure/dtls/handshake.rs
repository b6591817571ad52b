//! The handshake itself (RFC 5246 section 7.3, RFC 6347 section 4.2), step by step in its order.
//!
//! A step that the peer takes out of turn ends the handshake. Nothing is resumed or renegotiated, and
//! no data follows: all that is wanted are the keys of SRTP.

use std::sync::Arc;
use std::time::Instant;

use super::exchange::{Exchange, ServerParams, random};
use super::hello::{ECDHE_ECDSA, ECDHE_RSA, GROUPS, Hello, client_hello, server_hello};
use super::identity::{ECDSA_SHA256, Fingerprint, Identity, SCHEMES, verifies};
use super::incoming::Message;
use super::outgoing::Outgoing;
use super::schedule::{Protection, Randoms, Secrets, sha256};
use super::wire::{Kind, Reader, put_u24, put_vector8, put_vector16};
use super::{DtlsFailure, DtlsRole};
use crate::secure::{SrtpKeys, SrtpProfile};

/// Alerts (RFC 5246 section 7.2).
const UNEXPECTED_MESSAGE: u8 = 10;
const HANDSHAKE_FAILURE: u8 = 40;
const BAD_CERTIFICATE: u8 = 42;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const DECRYPT_ERROR: u8 = 51;
const INTERNAL_ERROR: u8 = 80;

/// ecdsa_sign and rsa_sign (RFC 5246 section 7.4.4, RFC 8422 section 5.5).
const CERTIFICATE_TYPES: [u8; 2] = [64, 1];

/// Why a step fails, and the alert that says so.
pub(super) struct Abort {
    pub(super) alert: u8,
    pub(super) failure: DtlsFailure,
}

fn abort(alert: u8, what: &'static str) -> Abort {
    Abort {
        alert,
        failure: DtlsFailure::Unacceptable(what),
    }
}

/// What both hellos agreed on.
struct Agreed {
    randoms: Randoms,
    profile: SrtpProfile,
    extended: bool,
}

/// What is awaited next, with all that is known by then.
enum State {
    /// Active: our ClientHello is out.
    ServerHello {
        random: [u8; 32],
        verified: bool,
    },
    /// Active.
    ServerCertificate(Agreed),
    /// Active.
    ServerKeyExchange(Agreed, Vec<u8>),
    /// Active: the rest of the server's flight.
    ServerHelloDone {
        agreed: Agreed,
        group: u16,
        public: Vec<u8>,
        asked: bool,
    },
    /// Passive.
    ClientHello,
    /// Passive: our flight is out.
    ClientCertificate(Agreed, Exchange),
    /// Passive.
    ClientKeyExchange(Agreed, Exchange, Vec<u8>),
    /// Passive.
    CertificateVerify {
        certificate: Vec<u8>,
        secrets: Secrets,
        profile: SrtpProfile,
    },
    /// Both.
    Finished {
        secrets: Secrets,
        profile: SrtpProfile,
        write: Option<Protection>,
    },
    Done,
}

/// A handshake under way.
pub(super) struct Handshake {
    identity: Arc<Identity>,
    peer: Vec<Fingerprint>,
    role: DtlsRole,
    state: State,
    /// All messages so far, as they are hashed.
    transcript: Vec<u8>,
    /// What protects the peer's Finished.
    pub(super) read: Option<Protection>,
    pub(super) keys: Option<SrtpKeys>,
}

type Step = Result<State, Abort>;

impl Handshake {
    /// Begins; the active side's first flight leaves at once.
    pub(super) fn begin(
        now: Instant,
        identity: Arc<Identity>,
        role: DtlsRole,
        peer: Vec<Fingerprint>,
        out: &mut Outgoing,
    ) -> Option<Self> {
        let mut transcript = Vec::new();
        let state = match role {
            DtlsRole::Passive => State::ClientHello,
            DtlsRole::Active => {
                let random = random()?;
                out.begin();
                let hello = client_hello(&random, &[], &SCHEMES);
                transcript = out.add(Kind::ClientHello, &hello);
                out.send(now, true);
                let verified = false;
                State::ServerHello { random, verified }
            }
        };
        Some(Self {
            identity,
            peer,
            role,
            state,
            transcript,
            read: None,
            keys: None,
        })
    }

    /// Takes the next message of the peer's. `epoch` is the one that it came in.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        message: &Message,
        epoch: u16,
        out: &mut Outgoing,
    ) -> Result<(), Abort> {
        // Finished alone is protected, and it always is.
        if (epoch == 1) != (message.kind == Kind::Finished) {
            return Err(abort(UNEXPECTED_MESSAGE, "a message in the wrong epoch"));
        }
        let state = std::mem::replace(&mut self.state, State::Done);
        self.state = self.step(now, state, message, out)?;
        Ok(())
    }

    fn step(&mut self, now: Instant, state: State, message: &Message, out: &mut Outgoing) -> Step {
        match (state, message.kind) {
            (State::ServerHello { random, verified }, Kind::HelloVerifyRequest) if !verified => {
                self.hello_again(now, random, message, out)
            }
            (State::ServerHello { random, .. }, Kind::ServerHello) => {
                self.server_hello(random, message)
            }
            (State::ServerCertificate(agreed), Kind::Certificate) => {
                let certificate = self.peers_certificate(message)?;
                self.hash(message);
                Ok(State::ServerKeyExchange(agreed, certificate))
            }
            (State::ServerKeyExchange(agreed, certificate), Kind::ServerKeyExchange) => {
                self.server_key_exchange(agreed, &certificate, message)
            }
            (
                State::ServerHelloDone {
                    agreed,
                    group,
                    public,
                    asked: false,
                },
                Kind::CertificateRequest,
            ) => {
                self.hash(message);
                Ok(State::ServerHelloDone {
                    agreed,
                    group,
                    public,
                    asked: true,
                })
            }
            (
                State::ServerHelloDone {
                    agreed,
                    group,
                    public,
                    asked,
                },
                Kind::ServerHelloDone,
            ) => {
                self.hash(message);
                self.clients_flight(now, agreed, group, &public, asked, out)
            }
            (State::ClientHello, Kind::ClientHello) => self.servers_flight(now, message, out),
            (State::ClientCertificate(agreed, exchange), Kind::Certificate) => {
                let certificate = self.peers_certificate(message)?;
                self.hash(message);
                Ok(State::ClientKeyExchange(agreed, exchange, certificate))
            }
            (State::ClientKeyExchange(agreed, exchange, certificate), Kind::ClientKeyExchange) => {
                self.client_key_exchange(agreed, exchange, certificate, message)
            }
            (
                State::CertificateVerify {
                    certificate,
                    secrets,
                    profile,
                },
                Kind::CertificateVerify,
            ) => self.certificate_verify(&certificate, secrets, profile, message),
            (
                State::Finished {
                    secrets,
                    profile,
                    write,
                },
                Kind::Finished,
            ) => self.finished(now, &secrets, profile, write, message, out),
            _ => Err(abort(UNEXPECTED_MESSAGE, "a message out of turn")),
        }
    }

    fn hash(&mut self, message: &Message) {
        self.transcript.extend(&message.whole);
    }

    /// RFC 6347 section 4.2.1: the same hello with the server's cookie; the first one and the
    /// request are not hashed.
    fn hello_again(
        &mut self,
        now: Instant,
        random: [u8; 32],
        message: &Message,
        out: &mut Outgoing,
    ) -> Step {
        let mut reader = Reader(message.body());
        let cookie = reader.u16().and_then(|_| reader.vector8());
        let cookie = cookie.ok_or(abort(DECODE_ERROR, "its HelloVerifyRequest"))?;
        out.begin();
        let hello = client_hello(&random, cookie, &SCHEMES);
        self.transcript = out.add(Kind::ClientHello, &hello);
        out.send(now, true);
        let verified = true;
        Ok(State::ServerHello { random, verified })
    }

    fn server_hello(&mut self, random: [u8; 32], message: &Message) -> Step {
        let hello = Hello::read_server(message.body())
            .ok_or(abort(ILLEGAL_PARAMETER, "its ServerHello"))?;
        if ![[ECDHE_ECDSA], [ECDHE_RSA]].contains(&[hello.suites.first().copied().unwrap_or(0)]) {
            return Err(abort(ILLEGAL_PARAMETER, "its cipher suite"));
        }
        let profile = hello
            .profile()
            .ok_or(abort(ILLEGAL_PARAMETER, "its SRTP profile"))?;
        self.hash(message);
        Ok(State::ServerCertificate(Agreed {
            randoms: Randoms {
                client: random,
                server: hello.random,
            },
            profile,
            extended: hello.extended_master_secret,
        }))
    }

    /// The peer is who its SDP says (RFC 5763 section 5): every hash that it gave must fit, and
    /// at least one was given.
    fn peers_certificate(&self, message: &Message) -> Result<Vec<u8>, Abort> {
        let mut reader = Reader(message.body());
        let first = reader.u24().and_then(|_| {
            let length = reader.u24()?;
            reader.take(length)
        });
        let Some(certificate) = first else {
            return Err(abort(HANDSHAKE_FAILURE, "it has no certificate"));
        };
        if self.peer.iter().any(|known| known.fits(certificate)) {
            return Ok(certificate.to_vec());
        }
        Err(Abort {
            alert: BAD_CERTIFICATE,
            failure: DtlsFailure::WrongFingerprint,
        })
    }

    fn server_key_exchange(
        &mut self,
        agreed: Agreed,
        certificate: &[u8],
        message: &Message,
    ) -> Step {
        let params = ServerParams::read(message.body())
            .ok_or(abort(DECODE_ERROR, "its ServerKeyExchange"))?;
        let Randoms { client, server } = &agreed.randoms;
        let signed = [&client[..], server, params.params].concat();
        let known = SCHEMES.contains(&params.scheme) && GROUPS.contains(&params.group);
        if !known || !verifies(certificate, params.scheme, &signed, params.signature) {
            return Err(abort(DECRYPT_ERROR, "the signature of its key"));
        }
        let (group, public) = (params.group, params.public.to_vec());
        self.hash(message);
        Ok(State::ServerHelloDone {
            agreed,
            group,
            public,
            asked: false,
        })
    }

    fn add(&mut self, out: &mut Outgoing, kind: Kind, body: &[u8]) {
        let message = out.add(kind, body);
        self.transcript.extend(message);
    }

    fn certificate_body(&self) -> Vec<u8> {
        let certificate = self.identity.certificate();
        let mut body = Vec::new();
        put_u24(&mut body, certificate.len() + 3);
        put_u24(&mut body, certificate.len());
        body.extend(certificate);
        body
    }

    fn secrets(
        &self,
        agreed: &Agreed,
        exchange: Exchange,
        public: &[u8],
    ) -> Result<Secrets, Abort> {
        let shared = exchange
            .agree(public)
            .ok_or(abort(ILLEGAL_PARAMETER, "its half of the exchange"))?;
        // RFC 7627 section 4: all messages up to ClientKeyExchange.
        let session = agreed.extended.then(|| sha256(&self.transcript));
        Ok(Secrets::new(&shared, agreed.randoms, session))
    }

    fn clients_flight(
        &mut self,
        now: Instant,
        agreed: Agreed,
        group: u16,
        public: &[u8],
        asked: bool,
        out: &mut Outgoing,
    ) -> Step {
        let internal = || abort(INTERNAL_ERROR, "our own cryptography");
        let exchange = Exchange::new(group).ok_or_else(internal)?;
        out.begin();
        if asked {
            let body = self.certificate_body();
            self.add(out, Kind::Certificate, &body);
        }
        let mut half = Vec::new();
        put_vector8(&mut half, exchange.public());
        self.add(out, Kind::ClientKeyExchange, &half);
        let secrets = self.secrets(&agreed, exchange, public)?;
        if asked {
            let signature = self.identity.sign(&self.transcript).ok_or_else(internal)?;
            let mut body = ECDSA_SHA256.to_be_bytes().to_vec();
            put_vector16(&mut body, &signature);
            self.add(out, Kind::CertificateVerify, &body);
        }
        let (write, read) = secrets.protection(self.role).ok_or_else(internal)?;
        self.read = Some(read);
        self.add_finished(&secrets, write, out);
        out.send(now, true);
        Ok(State::Finished {
            secrets,
            profile: agreed.profile,
            write: None,
        })
    }

    fn add_finished(&mut self, secrets: &Secrets, write: Protection, out: &mut Outgoing) {
        let verify_data = secrets.verify_data(self.role, &self.transcript);
        let message = out.add_finished(write, &verify_data);
        self.transcript.extend(message);
    }

    fn servers_flight(&mut self, now: Instant, message: &Message, out: &mut Outgoing) -> Step {
        let internal = || abort(INTERNAL_ERROR, "our own cryptography");
        let hello =
            Hello::read_client(message.body()).ok_or(abort(DECODE_ERROR, "its ClientHello"))?;
        let group = GROUPS
            .into_iter()
            .find(|group| hello.groups.contains(group));
        let knows_ours = hello
            .schemes
            .as_ref()
            .is_none_or(|schemes| schemes.contains(&ECDSA_SHA256));
        let (Some(group), true, true) = (group, knows_ours, hello.suites.contains(&ECDHE_ECDSA))
        else {
            return Err(abort(HANDSHAKE_FAILURE, "it has no cipher suite of ours"));
        };
        let profile = hello
            .profile()
            .ok_or(abort(HANDSHAKE_FAILURE, "it has no SRTP profile of ours"))?;
        self.hash(message);
        let random = random().ok_or_else(internal)?;
        let exchange = Exchange::new(group).ok_or_else(internal)?;
        out.begin();
        let body = server_hello(&random, &hello, profile);
        self.add(out, Kind::ServerHello, &body);
        let body = self.certificate_body();
        self.add(out, Kind::Certificate, &body);
        let mut body = exchange.params();
        let signed = [&hello.random[..], &random, &body].concat();
        let signature = self.identity.sign(&signed).ok_or_else(internal)?;
        body.extend(ECDSA_SHA256.to_be_bytes());
        put_vector16(&mut body, &signature);
        self.add(out, Kind::ServerKeyExchange, &body);
        self.add(out, Kind::CertificateRequest, &certificate_request());
        self.add(out, Kind::ServerHelloDone, &[]);
        out.send(now, true);
        let agreed = Agreed {
            randoms: Randoms {
                client: hello.random,
                server: random,
            },
            profile,
            extended: hello.extended_master_secret,
        };
        Ok(State::ClientCertificate(agreed, exchange))
    }

    fn client_key_exchange(
        &mut self,
        agreed: Agreed,
        exchange: Exchange,
        certificate: Vec<u8>,
        message: &Message,
    ) -> Step {
        let mut reader = Reader(message.body());
        let public = reader
            .vector8()
            .ok_or(abort(DECODE_ERROR, "its ClientKeyExchange"))?;
        self.hash(message);
        let secrets = self.secrets(&agreed, exchange, public)?;
        let profile = agreed.profile;
        Ok(State::CertificateVerify {
            certificate,
            secrets,
            profile,
        })
    }

    fn certificate_verify(
        &mut self,
        certificate: &[u8],
        secrets: Secrets,
        profile: SrtpProfile,
        message: &Message,
    ) -> Step {
        let mut reader = Reader(message.body());
        let signed = reader.u16().zip(reader.vector16());
        let good = signed.is_some_and(|(scheme, signature)| {
            SCHEMES.contains(&scheme) && verifies(certificate, scheme, &self.transcript, signature)
        });
        if !good {
            return Err(abort(DECRYPT_ERROR, "its signature"));
        }
        self.hash(message);
        let (write, read) = secrets
            .protection(self.role)
            .ok_or(abort(INTERNAL_ERROR, "our own cryptography"))?;
        self.read = Some(read);
        Ok(State::Finished {
            secrets,
            profile,
            write: Some(write),
        })
    }

    fn finished(
        &mut self,
        now: Instant,
        secrets: &Secrets,
        profile: SrtpProfile,
        write: Option<Protection>,
        message: &Message,
        out: &mut Outgoing,
    ) -> Step {
        let expected = secrets.verify_data(self.role.other(), &self.transcript);
        if message.body() != expected {
            return Err(abort(DECRYPT_ERROR, "its Finished"));
        }
        self.hash(message);
        match write {
            // Passive: ours is the last flight, sent again when the peer repeats its own.
            Some(write) => {
                out.begin();
                self.add_finished(secrets, write, out);
                out.send(now, false);
            }
            None => out.rest(),
        }
        self.keys = secrets.srtp(self.role, profile);
        Ok(State::Done)
    }
}

fn certificate_request() -> Vec<u8> {
    let mut body = Vec::new();
    put_vector8(&mut body, &CERTIFICATE_TYPES);
    let schemes: Vec<u8> = SCHEMES.into_iter().flat_map(u16::to_be_bytes).collect();
    put_vector16(&mut body, &schemes);
    put_vector16(&mut body, &[]);
    body
}
