//! What is printed reads as what was meant: properties over made-up messages, URIs, values
//! and descriptions.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::option;
use proptest::prelude::*;
use ringtrue_ice::{
    Candidate, CandidateType, ComponentId, Credentials, IceDescription, TransportProtocol, Trickle,
};
use ringtrue_sip::message::*;
use ringtrue_sip::sdp::{
    self, Direction, ExtendedReports, IceSupport, LocalMedia, LocalSecurity, RtpCodec,
    SessionDescription,
};
use ringtrue_sip::uri::{Host, Scheme, Uri};

fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9.!%*_+`'~-]{1,12}"
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        ip().prop_map(Host::from),
        "([a-z0-9]{1,8}\\.){0,3}[a-z][a-z0-9]{0,7}".prop_map(Host::Name)
    ]
}

fn uri_params() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    prop::collection::vec(
        (
            "[a-z]{1,8}",
            option::of("([a-zA-Z0-9:&+$/-]|%[0-9A-F]{2}){1,9}"),
        ),
        0..4,
    )
}

fn sip_uri() -> impl Strategy<Value = Uri> {
    let user = option::of("([a-zA-Z0-9.!~*'()&=+$,;?/_-]|%[0-9a-fA-F]{2}){1,16}");
    let headers = prop::collection::vec(("[a-z]{1,6}", "([a-zA-Z0-9:]|%3C){0,8}"), 0..3);
    (
        any::<bool>(),
        user,
        option::of("[a-z0-9&=+$,]{0,8}"),
        host(),
        option::of(any::<u16>()),
        uri_params(),
        headers,
    )
        .prop_map(|(secure, user, password, host, port, params, headers)| {
            let mut uri = Uri::sip(None, host, port);
            uri.scheme = if secure { Scheme::Sips } else { Scheme::Sip };
            uri.password = password.filter(|_| user.is_some());
            uri.user = user;
            for (name, value) in params {
                uri.params.set(&name, value.as_deref());
            }
            uri.headers = headers;
            uri
        })
}

fn header_params() -> impl Strategy<Value = Params> {
    let value = prop_oneof![
        token(),
        any::<String>().prop_map(|s| {
            let inner: String = s
                .chars()
                .filter(|c| !matches!(c, '"' | '\\' | '\r' | '\n'))
                .collect();
            format!("\"{inner}\"")
        })
    ];
    prop::collection::vec((token(), option::of(value)), 0..4).prop_map(|list| {
        let mut params = Params::new();
        for (name, value) in list {
            params.set(&name, value.as_deref());
        }
        params
    })
}

fn name_addr() -> impl Strategy<Value = NameAddr> {
    // A quoted string holds anything but line ends.
    let display = option::of("[^\r\n]{0,20}");
    (display, sip_uri(), header_params()).prop_map(|(display, uri, params)| NameAddr {
        display,
        uri,
        params,
    })
}

fn via() -> impl Strategy<Value = Via> {
    (
        prop::sample::select(vec!["UDP", "TCP", "TLS", "X-OWN"]),
        host(),
        option::of(any::<u16>()),
        header_params(),
    )
        .prop_map(|(transport, host, port, params)| Via {
            transport: transport.into(),
            host,
            port,
            params,
        })
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![
        Just(Method::Invite),
        Just(Method::Prack),
        token().prop_map(|t| t.parse().unwrap())
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let start = prop_oneof![
        (method(), sip_uri()).prop_map(|(method, mut uri)| {
            uri.headers.clear();
            Message::Request(Request::new(method, uri))
        }),
        (100u16..700, "[^\r\n]{0,20}").prop_map(|(status, reason)| {
            let mut response = Response::new(StatusCode::new(status).unwrap());
            response.reason = reason;
            Message::Response(response)
        }),
    ];
    let addresses = (
        name_addr(),
        name_addr(),
        prop::collection::vec(name_addr(), 0..3),
    );
    let own = prop::collection::vec(
        ("X-[a-z]{1,8}", prop::collection::vec(any::<u8>(), 0..40)),
        0..4,
    );
    let body = prop::collection::vec(any::<u8>(), 0..200);
    (
        start,
        prop::collection::vec(via(), 1..4),
        addresses,
        any::<u32>(),
        "[!-~]{1,30}",
        own,
        body,
    )
        .prop_map(
            |(mut message, vias, (from, to, contacts), number, call_id, own, body)| {
                let method = match &message {
                    Message::Request(request) => request.method.clone(),
                    Message::Response(_) => Method::Invite,
                };
                let (headers, into) = match &mut message {
                    Message::Request(r) => (&mut r.headers, &mut r.body),
                    Message::Response(r) => (&mut r.headers, &mut r.body),
                };
                for mut via in vias {
                    via.params.set("branch", Some("z9hG4bK1"));
                    headers.push(HeaderName::Via, via.to_string());
                }
                headers.push(HeaderName::From, from.to_string());
                headers.push(HeaderName::To, to.to_string());
                for contact in contacts {
                    headers.push(HeaderName::Contact, contact.to_string());
                }
                headers.push(HeaderName::CSeq, CSeq { number, method }.to_string());
                headers.push(HeaderName::CallId, call_id);
                for (name, value) in own {
                    headers.push(name.as_str(), value);
                }
                *into = body;
                message
            },
        )
}

fn candidate() -> impl Strategy<Value = Candidate> {
    use CandidateType::{Host, PeerReflexive, Relayed, ServerReflexive};
    let kind = prop::sample::select(vec![Host, ServerReflexive, PeerReflexive, Relayed]);
    let address = (ip(), 1u16..).prop_map(SocketAddr::from);
    let component = prop::sample::select(vec![ComponentId::Rtp, ComponentId::Rtcp]);
    (
        "[a-zA-Z0-9+/]{1,32}",
        component,
        1u32..0x8000_0000,
        address,
        kind,
        (ip(), any::<u16>()),
    )
        .prop_map(
            |(foundation, component, priority, address, kind, related)| Candidate {
                foundation,
                component,
                protocol: TransportProtocol::Udp,
                priority,
                address,
                kind,
                related: (kind != Host).then(|| related.into()),
            },
        )
        .prop_filter("the address of one host", |c| {
            let ip = c.address.ip();
            !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::from([255; 4])
        })
}

fn ice() -> impl Strategy<Value = IceDescription> {
    let candidates = prop::collection::vec(candidate(), 1..8);
    let remote = option::of((ip(), any::<u16>()));
    (
        "[a-zA-Z0-9+/]{4,32}",
        "[a-zA-Z0-9+/]{22,64}",
        candidates,
        any::<bool>(),
        any::<bool>(),
        option::of(5u64..500),
        prop::sample::select(vec![Trickle::Unsupported, Trickle::Open, Trickle::Ended]),
        remote,
    )
        .prop_map(
            |(ufrag, pwd, candidates, lite, ice2, pacing, trickle, remote)| IceDescription {
                credentials: Credentials { ufrag, pwd },
                candidates,
                lite,
                ice2,
                pacing: pacing.filter(|_| !lite).map(Duration::from_millis),
                trickle,
                remote_candidates: remote
                    .map(|r| (ComponentId::Rtp, r.into()))
                    .into_iter()
                    .collect(),
            },
        )
}

fn codec(
    payload_type: u8,
    name: &str,
    clock_rate: u32,
    channels: u8,
    fmtp: Option<&str>,
) -> RtpCodec {
    RtpCodec {
        payload_type,
        name: name.into(),
        clock_rate,
        channels,
        fmtp: fmtp.map(str::to_owned),
    }
}

fn local_media() -> impl Strategy<Value = LocalMedia> {
    let codecs = prop::sample::subsequence(
        vec![
            codec(96, "opus", 48_000, 2, Some("useinbandfec=1;minptime=10")),
            codec(0, "PCMU", 8_000, 1, None),
            codec(8, "PCMA", 8_000, 1, None),
        ],
        1..=3,
    );
    let direction = prop::sample::select(vec![
        Direction::SendRecv,
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ]);
    (
        codecs.prop_shuffle(),
        direction,
        any::<(u64, u64, bool, bool)>(),
        option::of(10u32..120),
        option::of(ice()),
        (ip(), ip()),
    )
        .prop_map(
            |(
                mut codecs,
                direction,
                (session_id, session_version, mux, two_ips),
                ptime,
                ice,
                ips,
            )| {
                codecs.push(codec(101, "telephone-event", 8_000, 1, Some("0-15")));
                let default = |component| {
                    let mut candidates = ice.iter().flat_map(|ice| &ice.candidates);
                    candidates
                        .find(|c| c.component == component)
                        .map(|c| c.address)
                };
                let other_ip = if two_ips { ips.1 } else { ips.0 };
                LocalMedia {
                    accepted: Vec::new(),
                    origin_user: "alice".into(),
                    session_id,
                    session_version,
                    rtp: default(ComponentId::Rtp).unwrap_or((ips.0, 4000).into()),
                    rtcp: Some(default(ComponentId::Rtcp).unwrap_or((other_ip, 4001).into())),
                    ice,
                    codecs,
                    direction,
                    rtcp_mux: mux,
                    ptime,
                    brief: false,
                    security: LocalSecurity::Off,
                    crypto: Vec::new(),
                    extended_reports: ExtendedReports {
                        voip_metrics: session_id % 2 == 0,
                    },
                }
            },
        )
        .prop_filter("unicast, and an address", |local| {
            !local.rtp.ip().is_multicast() && !local.rtp.ip().is_unspecified()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn uris(uri in sip_uri()) {
        let read: Uri = uri.to_string().parse().unwrap();
        prop_assert_eq!(&read, &uri);
        prop_assert!(read.is_equivalent(&uri));
    }

    #[test]
    fn any_user_can_be_named(user in ".{1,20}") {
        let uri = Uri::sip(Some(&user), Host::Name("example.com".into()), None);
        let read: Uri = uri.to_string().parse().unwrap();
        prop_assert_eq!(read.user_text(), Some(user));
    }

    #[test]
    fn addresses(address in name_addr()) {
        prop_assert_eq!(address.to_string().parse::<NameAddr>().unwrap(), address);
    }

    #[test]
    fn vias(via in via()) {
        prop_assert_eq!(via.to_string().parse::<Via>().unwrap(), via);
    }

    #[test]
    fn challenges(params in prop::collection::vec((token(), "[^\r\n]{0,20}"), 1..5)) {
        let challenge = Challenge { scheme: "Digest".into(), params };
        prop_assert_eq!(Challenge::parse(challenge.to_string().as_bytes()).unwrap(), challenge);
    }

    #[test]
    fn warnings(code in 300u16..400, agent in "[a-z0-9.]{1,12}", text in "[^\r\n]{0,30}") {
        let warning = Warning { code, agent, text };
        prop_assert_eq!(Warning::parse(warning.to_string().as_bytes()).unwrap(), warning);
    }

    #[test]
    fn messages(message in message()) {
        let printed = message.to_bytes();
        prop_assert_eq!(&Message::parse_datagram(&printed).unwrap(), &message);
        let mut parser = StreamParser::new();
        for piece in printed.chunks(17) {
            parser.push(b"");
            parser.push(piece);
        }
        prop_assert_eq!(parser.next().unwrap().unwrap(), message);
    }

    #[test]
    fn a_folded_and_compacted_message_is_the_same(message in message()) {
        let printed = message.to_bytes();
        let end = printed.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let (head, body) = printed.split_at(end);
        let mut lines = head.split(|b| *b == b'\n');
        let mut other = lines.next().unwrap().to_vec();
        other.push(b'\n');
        for line in lines {
            let at = line.iter().position(|b| *b == b':').unwrap();
            let (name, value) = line.split_at(at);
            let name: &[u8] = match name {
                b"Via" => b"v \t",
                b"From" => b"F",
                b"To" => b"T ",
                b"Call-ID" => b"i",
                b"Contact" => b"M",
                other => other,
            };
            other.extend_from_slice(name);
            other.extend_from_slice(b":\r\n \t ");
            other.extend_from_slice(&value[1..]);
            other.push(b'\n');
        }
        other.pop();
        other.extend_from_slice(body);
        prop_assert_eq!(Message::parse_datagram(&other).unwrap(), message);
    }

    #[test]
    fn an_offer_is_read_as_it_was_meant(local in local_media()) {
        let written = sdp::offer(&local);
        let description = SessionDescription::parse(&written).unwrap();
        prop_assert_eq!(&description.to_bytes(), &written);
        prop_assert_eq!(description.session_id(), local.session_id.to_string());
        prop_assert_eq!(description.session_version(), local.session_version);
        let remote = sdp::read_offer(&description).unwrap();
        prop_assert_eq!(remote.codecs, local.codecs);
        prop_assert_eq!(remote.direction, local.direction);
        prop_assert_eq!(remote.rtcp_mux, local.rtcp_mux);
        prop_assert_eq!(remote.rtp, local.rtp);
        prop_assert_eq!(Some(remote.rtcp), local.rtcp);
        prop_assert_eq!(remote.ptime, local.ptime);
        prop_assert_eq!(remote.extended_reports, local.extended_reports);
        // The default destinations are candidates, if they have one; else it is a mismatch.
        let has = |component| {
            local.ice.iter().flat_map(|ice| &ice.candidates).any(|c| c.component == component)
        };
        match (&local.ice, remote.ice) {
            (None, ice) => prop_assert_eq!(ice, IceSupport::Absent),
            (Some(_), IceSupport::Mismatch) => prop_assert!(!has(ComponentId::Rtp) || !has(ComponentId::Rtcp)),
            (Some(ours), IceSupport::Supported(read)) if has(ComponentId::Rtcp) => prop_assert_eq!(&read, ours),
            (Some(ours), IceSupport::Supported(read)) => prop_assert_eq!(read.credentials, ours.credentials.clone()),
            (Some(_), IceSupport::Absent) => prop_assert!(false),
        }
    }

    #[test]
    fn both_sides_understand_an_answer_alike(alice in local_media(), bob in local_media()) {
        let offer = SessionDescription::parse(&sdp::offer(&alice)).unwrap();
        let common = alice.codecs.iter().any(|a| a.is_sound() && bob.codecs.iter().any(|b| b.is_same_format(a)));
        let answered = sdp::answer(&offer, &bob);
        prop_assert_eq!(answered.is_ok(), common);
        let Ok((answer, for_bob)) = answered else { return Ok(()) };
        let for_alice = sdp::read_answer(&alice, &SessionDescription::parse(&answer).unwrap()).unwrap();
        let names = |codecs: &[RtpCodec]| codecs.iter().map(|c| (c.payload_type, c.name.clone())).collect::<Vec<_>>();
        prop_assert_eq!(names(&for_alice.codecs), names(&for_bob.codecs));
        prop_assert_eq!(for_alice.rtcp_mux, alice.rtcp_mux && bob.rtcp_mux);
        prop_assert_eq!(for_alice.rtcp_mux, for_bob.rtcp_mux);
        let wants = |media: &LocalMedia| media.extended_reports.voip_metrics;
        prop_assert_eq!(for_bob.extended_reports.voip_metrics, wants(&alice));
        prop_assert_eq!(for_alice.extended_reports.voip_metrics, wants(&bob));
        prop_assert_eq!(for_alice.remote_rtp, bob.rtp);
        prop_assert_eq!(for_bob.remote_rtp, alice.rtp);
        prop_assert_eq!(for_alice.direction.sends(), for_bob.direction.receives());
        prop_assert_eq!(for_alice.direction.receives(), for_bob.direction.sends());
        prop_assert_eq!(for_alice.telephone_event, for_bob.telephone_event);
        // ICE is used by both or by neither, except where the answer's default is no candidate.
        if let IceSupport::Supported(alices) = &for_bob.ice {
            prop_assert_eq!(&alices.credentials, &alice.ice.as_ref().unwrap().credentials);
            match &for_alice.ice {
                IceSupport::Supported(bobs) => {
                    prop_assert_eq!(&bobs.credentials, &bob.ice.as_ref().unwrap().credentials);
                    prop_assert!(!for_alice.rtcp_mux || bobs.candidates.iter().all(|c| c.component == ComponentId::Rtp));
                    prop_assert!(bobs.remote_candidates.is_empty());
                }
                other => prop_assert_eq!(other, &IceSupport::Mismatch),
            }
        } else {
            prop_assert!(!matches!(for_alice.ice, IceSupport::Supported(_)));
        }
    }
}
