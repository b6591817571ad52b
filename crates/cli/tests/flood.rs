//! A real `ringtrue listen` on loopback under a flood from everywhere at once, and then a call.
//!
//! ```text
//!   damaged INVITEs, noise ──UDP──┐
//!   half-open, slow, deaf  ──TCP──┼── ringtrue listen ──── ringtrue call, afterwards
//!   noise, damaged STUN    ─media─┘
//! ```

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::{Place, Process, first};
use ringtrue_testnet::{Dice, make_binding_request};

const FLOOD: Duration = Duration::from_secs(4);
const SOON: Duration = Duration::from_secs(30);

/// Open files and resident kilobytes of a process.
fn figures(process: &Process) -> (usize, usize) {
    let directory = format!("/proc/{}", process.id());
    let files = std::fs::read_dir(format!("{directory}/fd")).expect("/proc");
    let status = std::fs::read_to_string(format!("{directory}/status")).expect("/proc");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
    (files.count(), kilobytes.expect("a number"))
}

/// The UDP ports of a process but for its SIP port: its media sockets.
fn media_ports(process: &Process, sip: u16) -> Vec<u16> {
    let directory = format!("/proc/{}", process.id());
    let sockets: Vec<String> = std::fs::read_dir(format!("{directory}/fd"))
        .expect("/proc")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let text = link.to_string_lossy().into_owned();
            Some(
                text.strip_prefix("socket:[")?
                    .trim_end_matches(']')
                    .to_owned(),
            )
        })
        .collect();
    let table = std::fs::read_to_string(format!("{directory}/net/udp")).expect("/proc");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port = u16::from_str_radix(words.get(1)?.split_once(':')?.1, 16).ok()?;
            let ours = sockets
                .iter()
                .any(|inode| Some(&inode.as_str()) == words.get(9));
            (ours && port != sip).then_some(port)
        })
        .collect()
}

fn invite(to: SocketAddr, from: SocketAddr, number: u64) -> Vec<u8> {
    let sdp = format!(
        "v=0\r\no=- {number} 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         a=ice-options:ice2\r\nm=audio {port} RTP/AVP 96 0\r\na=rtpmap:96 opus/48000/2\r\n\
         a=rtcp-mux\r\na=ice-ufrag:u{number}\r\na=ice-pwd:passwordpasswordpassword\r\n\
         a=candidate:1 1 UDP 2130706431 127.0.0.1 {port} typ host\r\n",
        port = from.port()
    );
    format!(
        "INVITE sip:bob@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKf{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: \"\x1b[2J\u{202e}mallory\" <sip:m@{from}>;tag={number}\r\n\
         To: <sip:bob@{to}>\r\nCall-ID: {number}@flood\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:m@{from}>\r\nSupported: 100rel\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
    .into_bytes()
}

fn cancel(to: SocketAddr, from: SocketAddr, number: u64) -> Vec<u8> {
    format!(
        "CANCEL sip:bob@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKf{number};rport\r\n\
         From: <sip:m@{from}>;tag={number}\r\nTo: <sip:bob@{to}>\r\nCall-ID: {number}@flood\r\n\
         CSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// What keeps connections open without a use of them.
fn hold_connections(to: SocketAddr, dice: &mut Dice, held: &mut Vec<TcpStream>) {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_millis(200)) else {
        return;
    };
    let _ = stream.set_nonblocking(true);
    let options =
        "OPTIONS sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKx";
    let _ = match dice.below(5) {
        // Nothing at all, or half a message.
        0 => Ok(0),
        1 => stream.write(options.as_bytes()),
        // A body that never ends.
        2 => stream.write(format!("{options}\r\nContent-Length: 4294967295\r\n\r\n").as_bytes()),
        3 => stream.write(&dice.bytes(3_000)),
        // Pipelined requests with long answers that nobody reads.
        _ => {
            let padding = "x".repeat(7_000);
            let pipelined: String = (0..100)
                .map(|_| {
                    format!(
                        "{options}{}{padding}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:bob@b>\r\n\
                         Call-ID: {}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
                        dice.number(),
                        dice.number()
                    )
                })
                .collect();
            stream.write(pipelined.as_bytes())
        }
    };
    held.push(stream);
}

/// Everything at once, at a rate that leaves the machine usable; how many packets that were.
fn flood(bob: &Process, to: SocketAddr) -> usize {
    let mut dice = Dice::new(7);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_nonblocking(true).expect("a setting");
    let from = socket.local_addr().expect("an address");
    let corpus = [invite(to, from, 0), cancel(to, from, 0)];
    let (mut packets, mut held) = (0, Vec::new());
    let end = Instant::now() + FLOOD;
    let mut number = 0;
    while Instant::now() < end {
        number += 1;
        let whole = invite(to, from, number);
        let _ = socket.send_to(&whole, to);
        for _ in 0..8 {
            let _ = socket.send_to(&dice.mutate(&whole, &corpus), to);
        }
        let noise = dice.below(1_400);
        let _ = socket.send_to(&dice.bytes(noise), to);
        if number % 4 == 0 {
            let _ = socket.send_to(&cancel(to, from, number - 2), to);
        }
        for port in media_ports(bob, to.port()) {
            let check = make_binding_request([number as u8; 12]);
            let media = SocketAddr::new(to.ip(), port);
            let _ = socket.send_to(&dice.mutate(&check, &[]), media);
            let _ = socket.send_to(&check, media);
            let _ = socket.send_to(&dice.bytes(200), media);
            packets += 3;
        }
        packets += 10;
        if held.len() < 400 {
            hold_connections(to, &mut dice, &mut held);
        }
        // Slow ones: a byte now and then.
        if let Some(slow) = held.last_mut() {
            let _ = slow.write(b"x");
        }
        let mut buffer = [0; 2_048];
        while socket.recv_from(&mut buffer).is_ok() {}
        std::thread::sleep(Duration::from_millis(4));
    }
    let mut closed = 0;
    for stream in &mut held {
        closed += usize::from(matches!(stream.read(&mut [0; 64]), Ok(0)));
    }
    println!(
        "{packets} packets, {} connections, {closed} of them closed",
        held.len()
    );
    packets
}

#[test]
fn a_flood_and_then_a_call() {
    let place = Place::new("flood");
    let options = "--answer after:1 --audio-in silence --audio-out null --require-ice";
    let line = format!("listen --bind 127.0.0.1:0 --json {options}");
    let mut bob = place.start(&line);
    let listening = bob.event("listening");
    let address: SocketAddr = listening["sip"]
        .as_str()
        .expect("an address")
        .parse()
        .unwrap();
    bob.event("gathered");
    let before = figures(&bob);
    let packets = flood(&bob, address);
    assert!(packets > 1_000, "{packets}");
    let during = figures(&bob);

    // The calls of the flood fail for want of a path, after ten seconds; then there is room.
    std::thread::sleep(Duration::from_secs(13));
    let line = format!(
        "call sip:bob@{address} --bind 127.0.0.1 --json --duration 2 --audio-in tone:440 \
         --audio-out null"
    );
    let mut alice = place.start(&line);
    let code = alice.wait(SOON);
    let events = alice.events();
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(first(&events, "ringing")["verified"], true);

    // Kept to be repeated for 32 s, and then gone.
    let limit = Instant::now() + Duration::from_secs(40);
    let mut after = figures(&bob);
    while (after.0 > before.0 + 8) && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(500));
        after = figures(&bob);
    }
    println!("open files, kilobytes: before {before:?}, during {during:?}, after {after:?}");
    assert!(after.0 <= before.0 + 8, "{before:?} {during:?} {after:?}");
    assert!(
        after.1 <= before.1 + 40_000,
        "{before:?} {during:?} {after:?}"
    );
    bob.signal("INT");
    assert_eq!(bob.wait(SOON), 0);
    let output = bob.output();
    let rang = output
        .lines()
        .filter(|line| line.contains("\"event\":\"ringing\""))
        .count();
    assert_eq!(rang, 1, "the one call with a proof");
    assert!(!output.contains('\u{1b}') && !output.contains('\u{202e}'));
    let errors = bob.errors();
    assert!(errors.len() < 20_000, "{errors}");
    assert!(!errors.contains('\u{1b}'), "{errors}");
}
