//! Locating servers (RFC 3263): what is asked, what is tried and in which order, and what happens
//! when the DNS or a server is silent. 0 is alice; bob's servers are 1 and 2.

use std::collections::BTreeMap;

use ringtrue_sip::dns::RecordKind;
use ringtrue_sip::{LocalAddress, RegisterConfig, SipEvent};

use crate::wire::{Fate, Sent, Tcp, Wire, address, config};

/// Alice, and two servers of `example.test`, `one` and `two`, on port 5060.
fn domain() -> Wire {
    let mut wire = Wire::pair();
    wire.add(config(3, "bob"));
    wire.host("one.example.test", &["10.0.0.2"]);
    wire.host("two.example.test", &["10.0.0.3"]);
    wire
}

fn failure(wire: &mut Wire) -> String {
    wire.wait(0, |event| match event {
        SipEvent::TransportFailed { what, .. } => Some(what.clone()),
        _ => None,
    })
}

#[test]
fn naptr_picks_the_transport_by_order_and_preference() {
    // Order comes before preference; what nobody here speaks is skipped.
    let mut wire = domain();
    wire.naptr(
        "example.test",
        &[
            (20, 1, "SIP+D2U", "_sip._udp.example.test."),
            (10, 20, "SIP+D2U", "_sip._udp.example.test."),
            (10, 10, "SIP+D2T", "Lines.Example.Test."),
            (1, 1, "SIP+D2W", "_sip._ws.example.test."),
            (1, 2, "SIP+D2S", "_sip._sctp.example.test."),
        ],
    );
    wire.srv(
        "_sip._udp.example.test",
        &[(1, 1, 5060, "one.example.test.")],
    );
    wire.srv("lines.example.test", &[(1, 1, 5060, "two.example.test.")]);
    wire.invite(0, "sip:bob@example.test", "offer");
    wire.incoming(2);
    let invite = wire.sent(0, "INVITE")[0];
    assert!(invite.tcp);
    assert!(invite.header("Contact").unwrap().contains(";transport=tcp"));
    let other = |(_, _, name): &&(_, _, String)| name.contains("_ws") || name.contains("sips");
    assert_eq!(wire.lookups.iter().filter(other).count(), 0);
}

#[test]
fn a_transport_parameter_asks_for_its_srv_records_alone() {
    let mut wire = domain();
    wire.srv(
        "_sip._tcp.example.test",
        &[(1, 1, 5060, "two.example.test")],
    );
    wire.srv(
        "_sip._udp.example.test",
        &[(1, 1, 5060, "one.example.test")],
    );
    wire.invite(0, "sip:bob@example.test;transport=tcp", "offer");
    wire.incoming(2);
    assert!(wire.sent(0, "INVITE")[0].tcp);
    let asked = |kind| wire.lookups.iter().filter(|(_, k, _)| *k == kind).count();
    assert_eq!((asked(RecordKind::Naptr), asked(RecordKind::Srv)), (0, 1));
}

#[test]
fn a_port_or_an_address_asks_for_no_service() {
    let mut wire = domain();
    wire.srv(
        "_sip._udp.one.example.test",
        &[(1, 1, 5060, "two.example.test")],
    );
    wire.invite(0, "sip:bob@one.example.test:5060", "offer");
    wire.incoming(1);
    assert_eq!(wire.lookups.len(), 1);
    wire.invite(0, "sip:bob@10.0.0.3", "offer");
    wire.incoming(2);
    assert_eq!(wire.lookups.len(), 1);
}

#[test]
fn a_domain_without_services_is_a_host_with_port_5060() {
    let mut wire = domain();
    wire.invite(0, "sip:bob@one.example.test", "offer");
    wire.incoming(1);
    assert_eq!(wire.times(0, "INVITE"), [10], "all is asked at once");
}

#[test]
fn without_naptr_udp_comes_before_tcp() {
    let mut wire = domain();
    wire.srv(
        "_sip._tcp.example.test",
        &[(1, 1, 5060, "two.example.test")],
    );
    wire.srv(
        "_sip._udp.example.test",
        &[(1, 1, 5060, "one.example.test")],
    );
    wire.invite(0, "sip:bob@example.test", "offer");
    wire.incoming(1);
    assert_eq!(wire.times(0, "INVITE"), [20], "services, then addresses");
    // And TCP alone is taken as well.
    wire.names
        .remove(&(RecordKind::Srv, "_sip._udp.example.test".to_owned()));
    wire.run_for(70_000);
    wire.invite(0, "sip:bob@example.test", "offer");
    wire.incoming(2);
}

/// What the next call does first is drawn anew from the weights; priorities always hold.
#[test]
fn weights_decide_over_many_seeds() {
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..400 {
        let mut wire = Wire::new();
        wire.seed = seed;
        wire.add(config(1, "alice"));
        let targets = ["10.0.0.2", "10.0.0.3", "10.0.0.4"];
        for (target, ip) in ["one", "two", "spare"].iter().zip(targets) {
            wire.host(target, &[ip]);
        }
        let servers = [
            (20, 100, 5060, "spare"),
            (10, 75, 5060, "one"),
            (10, 25, 5060, "two"),
        ];
        wire.srv("_sip._udp.example.test", &servers);
        wire.invite(0, "sip:bob@example.test", "offer");
        wire.run_for(30_000);
        let mut tried: Vec<String> = Vec::new();
        for sent in wire.sent(0, "INVITE") {
            let to = sent.to.ip().to_string();
            if !tried.contains(&to) {
                tried.push(to);
            }
        }
        assert_eq!(tried.len(), 3, "each is tried");
        assert_eq!(tried[2], targets[2], "the spare one last");
        *first.entry(tried[0].clone()).or_default() += 1;
    }
    let ones = first["10.0.0.2"];
    assert!((270..=330).contains(&ones), "75 of 100: {first:?}");
}

#[test]
fn a_silent_server_gives_way_to_the_next_one() {
    let mut wire = domain();
    wire.srv(
        "_sip._udp.example.test",
        &[
            (1, 1, 5060, "one.example.test"),
            (2, 1, 5060, "two.example.test"),
        ],
    );
    wire.filter(|sent| match sent.to == address(2) {
        true => Fate::Drop,
        false => Fate::Pass,
    });
    wire.invite(0, "sip:bob@example.test", "offer");
    wire.incoming(2);
    let invites = wire.sent(0, "INVITE");
    let (old, new) = (
        invites[0].clone(),
        invites.last().map(|s| (*s).clone()).unwrap(),
    );
    assert_eq!(new.at - old.at, 4_000);
    // RFC 3263 section 4.3: a transaction of its own; the request is the same.
    assert_ne!(branch(&old), branch(&new));
    for name in ["Call-ID", "CSeq", "From"] {
        assert_eq!(old.header(name), new.header(name));
    }
    // The next call knows: for a minute the silent one comes last.
    wire.invite(0, "sip:bob@example.test", "offer");
    wire.incoming(2);
    assert_eq!(wire.sent(0, "INVITE").last().unwrap().to, address(3));
}

fn branch(sent: &Sent) -> String {
    let via = sent.header("Via").unwrap();
    let branch = via.split("branch=").nth(1).unwrap();
    branch.split(';').next().unwrap().to_owned()
}

/// The first server was merely slow: what it begins after all is cancelled, so that nobody's phone
/// rings for a call that is elsewhere.
#[test]
fn a_server_that_wakes_up_late_is_told_to_stop() {
    let mut wire = domain();
    wire.srv(
        "_sip._udp.example.test",
        &[
            (1, 1, 5060, "one.example.test"),
            (2, 1, 5060, "two.example.test"),
        ],
    );
    wire.filter(|sent| match sent.to == address(2) && sent.at < 4_100 {
        true => Fate::Drop,
        false => Fate::Pass,
    });
    wire.invite(0, "sip:bob@example.test", "offer");
    wire.incoming(2);
    // The network delivers the first server's copy now.
    let late = wire.sent(0, "INVITE")[0].clone();
    wire.run_for(300);
    wire.inject(late.from, late.to, late.text.clone());
    let bob = wire.incoming(1);
    wire.run_for(300);
    let cancels = wire.sent(0, "CANCEL");
    assert_eq!(cancels.len(), 1);
    assert_eq!(
        (cancels[0].to, branch(cancels[0])),
        (address(2), branch(&late))
    );
    let cancelled = wire.wait(1, |event| match event {
        SipEvent::Cancelled { call } => Some(*call),
        _ => None,
    });
    assert_eq!(cancelled, bob);
    // The call itself goes on with the second one.
    wire.run_for(40_000);
    let ended = |event: &SipEvent| {
        matches!(
            event,
            SipEvent::Refused { .. } | SipEvent::TimedOut { .. } | SipEvent::TransportFailed { .. }
        )
    };
    assert!(!wire.events(0).iter().any(ended));
}

#[test]
fn a_503_and_a_refused_connection_are_failures_of_one_server() {
    let mut wire = domain();
    wire.srv(
        "_sip._tcp.example.test",
        &[
            (1, 1, 5060, "one.example.test"),
            (2, 1, 5060, "two.example.test"),
        ],
    );
    wire.set_tcp(1, Tcp::Refuses);
    wire.invite(0, "sip:bob@example.test;transport=tcp", "offer");
    wire.incoming(2);
    assert_eq!(
        wire.ms(),
        70,
        "look-ups, a refusal, a connection, the INVITE"
    );

    let mut wire = Wire::new();
    wire.add(config(1, "alice"));
    wire.add(config(3, "bob"));
    wire.host("example.test", &["10.0.0.9", "10.0.0.3"]);
    wire.script("10.0.0.9:5060", |sent| {
        match sent.first_line().starts_with("INVITE") {
            true => vec![crate::wire::reply(
                sent,
                "503 Service Unavailable",
                "x",
                "",
                "",
            )],
            false => Vec::new(),
        }
    });
    wire.invite(0, "sip:bob@example.test", "offer");
    wire.incoming(1);
    assert_eq!(wire.sent(0, "ACK").len(), 1, "the 503 is acknowledged");
}

#[test]
fn ipv6_targets_need_an_ipv6_address() {
    for (ours, wanted) in [
        (None, "10.0.0.2:5060"),
        (Some("fe80::1"), "10.0.0.2:5060"),
        (Some("2001:db8::1"), "[2001:db8::2]:5060"),
    ] {
        let mut wire = Wire::new();
        let mut alice = config(1, "alice");
        alice.udp.push("[::]:5060".parse().unwrap());
        alice.addresses.extend(ours.map(|ip| LocalAddress {
            ip: ip.parse().unwrap(),
            prefix_len: 64,
            default_route: true,
        }));
        wire.add(alice);
        wire.host("example.test", &["10.0.0.2", "2001:db8::2"]);
        wire.invite(0, "sip:bob@example.test", "offer");
        wire.run_for(100);
        assert_eq!(wire.sent(0, "INVITE")[0].to.to_string(), wanted, "{ours:?}");
    }
}

#[test]
fn names_that_lead_nowhere_say_why() {
    let mut wire = domain();
    wire.invite(0, "sip:bob@nowhere.test", "offer");
    assert_eq!(
        failure(&mut wire),
        "cannot find nowhere.test: the DNS knows no address of it"
    );
    assert_eq!(wire.ms(), 10);
    wire.srv("_sip._udp.no.test", &[(0, 0, 0, ".")]);
    wire.srv("_sip._tcp.no.test", &[(0, 0, 0, ".")]);
    wire.host("no.test", &["10.0.0.2"]);
    wire.invite(0, "sip:bob@no.test", "offer");
    assert_eq!(
        failure(&mut wire),
        "cannot find no.test: its DNS says that it offers no SIP"
    );
    wire.host("six.test", &["2001:db8::2"]);
    wire.invite(0, "sip:bob@six.test", "offer");
    let what = failure(&mut wire);
    assert!(what.contains("no address that can be reached"), "{what}");
}

#[test]
fn a_silent_dns_is_given_up_after_a_few_seconds() {
    let mut wire = domain();
    wire.silent_dns = [RecordKind::Address, RecordKind::Srv, RecordKind::Naptr].into();
    wire.invite(0, "sip:bob@example.test", "offer");
    let what = failure(&mut wire);
    assert_eq!(
        what,
        "cannot find example.test: no DNS server gave an answer in time"
    );
    assert!(wire.ms() <= 5_000, "{}", wire.ms());
}

/// Some firewalls swallow what they do not know: the address is taken all the same.
#[test]
fn silence_about_services_is_survived() {
    let mut wire = domain();
    wire.silent_dns = [RecordKind::Naptr].into();
    wire.srv(
        "_sip._udp.example.test",
        &[(1, 1, 5060, "one.example.test")],
    );
    wire.invite(0, "sip:bob@example.test", "offer");
    wire.incoming(1);
    assert_eq!(wire.times(0, "INVITE"), [2_510]);
    wire.silent_dns.insert(RecordKind::Srv);
    wire.invite(0, "sip:bob@two.example.test", "offer");
    wire.incoming(2);
}

#[test]
fn the_registrar_is_found_and_missed_likewise() {
    let register = |domain: &str| RegisterConfig {
        registrar: format!("sip:{domain}").parse().unwrap(),
        expires: 600,
    };
    let mut wire = domain();
    wire.srv(
        "_sip._udp.example.test",
        &[(1, 1, 5060, "two.example.test")],
    );
    wire.with(0, |e, now| e.register(now, register("example.test")));
    wire.run_for(100);
    assert_eq!(wire.sent(0, "REGISTER")[0].to, address(3));
    let mut wire = domain();
    wire.with(0, |e, now| e.register(now, register("nowhere.test")));
    let reason = wire.wait(0, |event| match event {
        SipEvent::RegistrationFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(
        reason,
        "cannot find nowhere.test: the DNS knows no address of it"
    );
}

/// A hostile DNS: floods of records, and names that lead round in circles.
#[test]
fn a_flood_of_records_is_bounded() {
    let mut wire = domain();
    let names: Vec<String> = (0..500).map(|n| format!("h{n}.test")).collect();
    let servers: Vec<_> = names
        .iter()
        .map(|name| (1, 0, 5060, name.as_str()))
        .collect();
    wire.srv("_sip._udp.example.test", &servers);
    wire.srv("_sip._tcp.example.test", &servers);
    let many: Vec<String> = (0..250).map(|n| format!("10.7.0.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for name in &names {
        wire.host(name, &many);
    }
    wire.invite(0, "sip:bob@example.test", "offer");
    wire.run_for(120_000);
    assert!(wire.lookups.len() <= 16, "{}", wire.lookups.len());
    let tried: std::collections::BTreeSet<_> =
        wire.sent(0, "INVITE").iter().map(|sent| sent.to).collect();
    assert_eq!(tried.len(), 8);

    let mut wire = domain();
    let round: Vec<_> = (0..500)
        .map(|_| (1, 1, "SIP+D2U", "_sip._udp.round.test"))
        .collect();
    wire.naptr("round.test", &round);
    wire.srv("_sip._udp.round.test", &[(1, 1, 5060, "round.test")]);
    wire.naptr("_sip._udp.round.test", &round);
    wire.invite(0, "sip:bob@round.test", "offer");
    failure(&mut wire);
    assert!(wire.lookups.len() <= 4, "{:?}", wire.lookups);
}
