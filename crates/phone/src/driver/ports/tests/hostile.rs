//! Routers that mean harm, and hosts that play the router.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket};

use super::fake::read_request;
use super::{ask, behind};

/// Longer than any router may hold a request up.
const LIMIT: Duration = Duration::from_secs(6);

/// What a web server sends: once, or until the other side has had enough.
#[derive(Clone)]
enum Says {
    Once(Vec<u8>),
    Forever(Vec<u8>, &'static [u8]),
    Nothing,
}

/// A router that is found by SSDP and whose web server says this; gives how many bytes it got rid of.
async fn web_server(network: u8, says: Says) -> Arc<AtomicUsize> {
    let at = Ipv4Addr::new(127, 86, network, 1);
    let http = TcpListener::bind((at, 0)).await.unwrap();
    let port = http.local_addr().unwrap().port();
    answer_searches(at, SocketAddrV4::new(at, port)).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = http.accept().await {
            read_request(&mut stream).await;
            match &says {
                Says::Nothing => {}
                Says::Once(bytes) => {
                    let _ = stream.write_all(bytes).await;
                }
                Says::Forever(head, again) => {
                    let _ = stream.write_all(head).await;
                    while stream.write_all(again).await.is_ok() {
                        count.fetch_add(again.len(), Ordering::Relaxed);
                    }
                }
            }
            open.push(stream);
        }
    });
    sent
}

/// Answers searches that come to an address, and says that the description is somewhere.
async fn answer_searches(at: Ipv4Addr, place: SocketAddrV4) {
    let socket = UdpSocket::bind((at, 1900)).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{place}/root.xml\r\n\r\n");
            let _ = socket.send_to(answer.as_bytes(), from).await;
        }
    });
}

fn ok(body: &str) -> Says {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    Says::Once([head.as_bytes(), body.as_bytes()].concat())
}

async fn is_harmless(network: u8, name: &str, says: Says) {
    let sent = web_server(network, says).await;
    let (mut ports, local) = behind(network);
    let begin = Instant::now();
    assert_eq!(ask(&mut ports, 1, local).await, None, "{name}");
    assert!(begin.elapsed() < LIMIT, "{name}: {:?}", begin.elapsed());
    ports.finish().await;
    // What the system's buffers took beside the limit.
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 20_000_000, "{name}: {sent} bytes were taken");
}

#[tokio::test]
async fn web_servers_that_mean_harm_give_no_mapping_and_end() {
    let bomb = format!(
        "<!DOCTYPE r [<!ENTITY a \"{}\">]><root><device>{}</device></root>",
        "x".repeat(60_000),
        "&a;".repeat(10_000)
    );
    let deep = "<a>".repeat(30_000);
    let services = "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1\
                    </serviceType><controlURL>/</controlURL></service>"
        .repeat(900);
    let head = |text: &str| text.as_bytes().to_vec();
    let cases = [
        ("silence", Says::Nothing),
        ("garbage", Says::Once(vec![0xff; 3000])),
        (
            "a server error",
            Says::Once(head("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")),
        ),
        (
            "a redirection",
            Says::Once(head(
                "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:80/\r\nContent-Length: 0\r\n\r\n",
            )),
        ),
        (
            "endless headers",
            Says::Forever(head("HTTP/1.1 200 OK\r\n"), b"X-Filler: filler\r\n"),
        ),
        (
            "an endless line",
            Says::Forever(head("HTTP/1.1 200 OK\r\nX: "), &[b'x'; 1024]),
        ),
        (
            "an endless body",
            Says::Forever(head("HTTP/1.1 200 OK\r\n\r\n<root>"), &[b'<'; 1024]),
        ),
        (
            "endless chunks",
            Says::Forever(
                head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
                b"1\r\n \r\n",
            ),
        ),
        (
            "a length beyond everything",
            Says::Once(head(
                "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n<root>",
            )),
        ),
        ("an entity bomb", ok(&bomb)),
        ("a deep document", ok(&deep)),
        ("a description of nothing", ok("<root/>")),
        ("a thousand services that answer nothing", ok(&services)),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for (network, (name, says)) in (20..).zip(cases) {
        tasks.spawn(async move { is_harmless(network, name, says).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn nobody_but_the_gateway_is_heard() {
    // Another host of the link answers the search, and says that it is the router; and the router
    // itself names another host.
    let listener = TcpListener::bind("127.86.40.2:0").await.unwrap();
    let elsewhere = match listener.local_addr().unwrap() {
        SocketAddr::V4(v4) => v4,
        SocketAddr::V6(_) => unreachable!(),
    };
    let gateway = Ipv4Addr::new(127, 86, 40, 1);
    let socket = UdpSocket::bind((gateway, 1900)).await.unwrap();
    let other = UdpSocket::bind("127.86.40.2:1900").await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{elsewhere}/\r\n\r\n");
            let _ = other.send_to(answer.as_bytes(), from).await;
            let _ = socket.send_to(answer.as_bytes(), from).await;
        }
    });
    let (mut ports, local) = behind(40);
    assert_eq!(ask(&mut ports, 1, local).await, None);
    let visited = tokio::time::timeout(Duration::from_millis(10), listener.accept()).await;
    assert!(visited.is_err(), "a host that is not the gateway was asked");
}

/// What becomes of an honest answer.
type Damage = fn(&mut Vec<u8>);

#[tokio::test]
async fn datagrams_that_mean_harm_give_no_mapping() {
    // Answers to a PCP request: torn, of another port, with another nonce, without an external
    // port, with addresses that nobody elsewhere reaches. NAT-PMP requests come back as they are.
    let pcp = |change: Damage| {
        move |request: &[u8]| {
            let mut answer = request.to_vec();
            if answer.first() == Some(&2) {
                answer[1] |= 0x80;
                answer[44..60]
                    .copy_from_slice(&Ipv4Addr::new(203, 0, 113, 7).to_ipv6_mapped().octets());
                change(&mut answer);
            }
            answer
        }
    };
    fn external(answer: &mut [u8], address: [u8; 4]) {
        answer[56..60].copy_from_slice(&address);
    }
    let cases: [(&str, Damage); 11] = [
        ("empty", Vec::clear),
        ("one byte", |answer| answer.truncate(1)),
        ("a head alone", |answer| answer.truncate(24)),
        ("61 bytes", |answer| answer.resize(61, 0xff)),
        ("another nonce", |answer| answer[24] ^= 1),
        ("another port", |answer| answer[41] ^= 1),
        ("no external port", |answer| answer[42..44].fill(0)),
        ("a private address", |answer| {
            external(answer, [192, 168, 7, 7])
        }),
        ("a loopback address", |answer| {
            external(answer, [127, 0, 0, 1])
        }),
        ("a multicast address", |answer| {
            external(answer, [224, 0, 0, 1])
        }),
        ("no address", |answer| external(answer, [0, 0, 0, 0])),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for (network, (name, change)) in (50..).zip(cases) {
        let answer = pcp(change);
        tasks.spawn(async move {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 86, network, 1), 5351))
                .await
                .unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 2048];
                while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
                    let _ = socket.send_to(&answer(&buffer[..size]), from).await;
                }
            });
            let (mut ports, local) = behind(network);
            let begin = Instant::now();
            assert_eq!(ask(&mut ports, 1, local).await, None, "{name}");
            assert!(begin.elapsed() < LIMIT, "{name}: {:?}", begin.elapsed());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
