//! Connections of two drivers over loopback.

use super::*;

/// Two drivers' connections, and what each of them is told.
async fn pair() -> (Connections, mpsc::Receiver<Incident>, SocketAddr) {
    let (inbox, incidents) = mpsc::channel(16);
    let mut connections = Connections::new(inbox, Vec::new(), Tls::new(None).unwrap());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    connections.listen(address).await.unwrap();
    (connections, incidents, address)
}

fn plain(to: SocketAddr) -> Route {
    Route {
        from: None,
        to,
        tls: None,
    }
}

async fn next(incidents: &mut mpsc::Receiver<Incident>) -> Incident {
    tokio::time::timeout(Duration::from_secs(5), incidents.recv())
        .await
        .expect("something happens")
        .expect("the driver lives")
}

async fn bytes(incidents: &mut mpsc::Receiver<Incident>) -> Vec<u8> {
    match next(incidents).await {
        Incident::Bytes(_, bytes) => bytes,
        _ => panic!("bytes were sent"),
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_last_ones_leave_before_the_end() {
    let (mut bob, mut at_bob, address) = pair().await;
    let (inbox, mut at_alice) = mpsc::channel(16);
    let mut alice = Connections::new(
        inbox,
        vec!["127.0.0.1".parse().unwrap()],
        Tls::new(None).unwrap(),
    );
    let (out, back) = (Connection(1), Connection(2));
    alice.connect(out, plain(address));
    // Written before the connection stands: kept until it does.
    alice.write(out, b"early".to_vec()).unwrap();
    let Incident::Connected(connected, Some(_)) = next(&mut at_alice).await else {
        panic!("it connects");
    };
    assert_eq!(connected, out);
    let Incident::Accepted { stream, .. } = next(&mut at_bob).await else {
        panic!("it is accepted");
    };
    bob.adopt(back, stream);
    assert_eq!(bytes(&mut at_bob).await, b"early");
    bob.write(back, b"reply".to_vec()).unwrap();
    assert_eq!(bytes(&mut at_alice).await, b"reply");
    alice.write(out, b"last words".to_vec()).unwrap();
    alice.finish().await;
    assert_eq!(bytes(&mut at_bob).await, b"last words");
    let closed = next(&mut at_bob).await;
    assert!(matches!(closed, Incident::Closed { connection, error: None } if connection == back));
    assert!(bob.ended(back) && !bob.ended(back));
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let (listening, _, address) = pair().await;
    drop(listening);
    let (inbox, mut incidents) = mpsc::channel(16);
    let mut connections = Connections::new(inbox, Vec::new(), Tls::new(None).unwrap());
    // The listener goes away with its task, which may take a moment.
    tokio::time::sleep(Duration::from_millis(50)).await;
    connections.connect(Connection(1), plain(address));
    let Incident::Closed { error, .. } = next(&mut incidents).await else {
        panic!("nobody listens there");
    };
    let error = error.expect("a reason");
    assert!(
        error.contains(&address.to_string()) && error.contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up() {
    let (mut bob, mut at_bob, address) = pair().await;
    let deaf = TcpStream::connect(address).await.unwrap();
    let Incident::Accepted { stream, .. } = next(&mut at_bob).await else {
        panic!("it is accepted");
    };
    bob.adopt(Connection(1), stream);
    let mut written = 0;
    let given_up = loop {
        match bob.write(Connection(1), vec![0; 65_536]) {
            Ok(()) => written += 1,
            Err(reason) => break reason,
        }
        assert!(written < 2_000, "no bound");
        tokio::task::yield_now().await;
    };
    assert!(given_up.contains("does not read"));
    assert!(!bob.is_open(Connection(1)));
    drop(deaf);
}

/// A peer that neither reads nor goes away cannot keep a socket that was closed from here.
#[tokio::test]
async fn a_closed_connection_ends_though_its_peer_does_not_read() {
    let (mut bob, mut at_bob, address) = pair().await;
    let deaf = TcpStream::connect(address).await.unwrap();
    let Incident::Accepted { stream, .. } = next(&mut at_bob).await else {
        panic!("it is accepted");
    };
    bob.adopt(Connection(1), stream);
    // More than the system's buffers take: fill them, until something has to wait.
    for _ in 0..2_000 {
        if bob.open[&Connection(1)].waiting.load(Ordering::Relaxed) > BYTES_WAITING / 2 {
            break;
        }
        bob.write(Connection(1), vec![0; 16_384]).unwrap();
        tokio::task::yield_now().await;
    }
    bob.close(Connection(1));
    let [task] = &bob.closing[..] else {
        panic!("it still writes");
    };
    assert!(!task.is_finished());
    tokio::time::sleep(CLOSING_TIMEOUT + Duration::from_millis(500)).await;
    assert!(bob.closing.iter().all(JoinHandle::is_finished));
    drop(deaf);
}

/// A peer that does not read loses packets, whole ones, and keeps its connection: nothing is
/// queued without bound, and when it reads again it is in step.
#[tokio::test]
async fn a_slow_connection_of_media_loses_packets_and_nothing_more() {
    const FRAME: usize = 174;
    let (inbox, mut at_bob) = mpsc::channel(16);
    let mut bob = Connections::new(inbox, Vec::new(), Tls::new(None).unwrap());
    let local = bob
        .listen_for_media("127.0.0.1".parse().unwrap(), false)
        .unwrap();
    let mut slow = TcpStream::connect(local).await.unwrap();
    let Incident::Accepted { stream, media, .. } = next(&mut at_bob).await else {
        panic!("it is accepted");
    };
    assert_eq!(media, Some(local));
    let connection = Connection(1 << 62);
    assert!(is_media(connection));
    bob.adopt(connection, stream);
    let sent = 30_000;
    for number in 0..sent {
        bob.write_packet(connection, vec![1; FRAME]);
        let waiting = bob.open[&connection].waiting.load(Ordering::Relaxed);
        assert!(waiting <= PACKET_BYTES_WAITING);
        if number % 8 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(bob.is_open(connection));
    bob.close(connection);
    let mut read = Vec::new();
    let all = slow.read_to_end(&mut read);
    tokio::time::timeout(Duration::from_secs(5), all)
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(read.len() % FRAME, 0);
    assert!((1..sent).contains(&(read.len() / FRAME)), "{}", read.len());
    bob.unlisten(local);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect(local).await.is_err());
}

/// Both listen on a port and connect from it to the other's, in both orders and at once: there is
/// one connection between the two ports, whether the system crosses the SYNs or one of them is
/// accepted, and it carries bytes both ways.
#[tokio::test]
async fn two_that_open_towards_each_other_have_one_connection() {
    let ip: IpAddr = "127.0.0.1".parse().unwrap();
    let number = Connection(1 << 62 | 1);
    for later in [None, Some(0), Some(1)] {
        let mut sides = Vec::new();
        for _ in 0..2 {
            let (inbox, incidents) = mpsc::channel(16);
            let mut side = Connections::new(inbox, Vec::new(), Tls::new(None).unwrap());
            let local = side.listen_for_media(ip, true).unwrap();
            sides.push((side, incidents, local));
        }
        let addresses = [sides[0].2, sides[1].2];
        let order = if later == Some(0) { [1, 0] } else { [0, 1] };
        for index in order {
            let from = Some(addresses[index]);
            let to = addresses[1 - index];
            sides[index].0.connect(
                number,
                Route {
                    from,
                    to,
                    tls: None,
                },
            );
            if later.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let mut carrying = Vec::new();
        for (index, (side, incidents, _)) in sides.iter_mut().enumerate() {
            let carries = loop {
                match next(incidents).await {
                    Incident::Connected(connection, _) => break connection,
                    Incident::Accepted { stream, peer, .. } => {
                        assert_eq!(peer, addresses[1 - index]);
                        let accepted = Connection(1 << 62 | 2);
                        side.adopt(accepted, stream);
                        break accepted;
                    }
                    // The other's SYN was accepted before this side's left.
                    Incident::Closed { connection, .. } => assert!(side.ended(connection)),
                    _ => panic!("nothing was sent"),
                }
            };
            side.write(carries, vec![index as u8]).unwrap();
            carrying.push(carries);
        }
        for (index, (_, incidents, _)) in sides.iter_mut().enumerate() {
            let got = loop {
                match next(incidents).await {
                    Incident::Bytes(connection, bytes) => break (connection, bytes),
                    Incident::Closed { connection, .. } => assert_ne!(connection, carrying[index]),
                    _ => panic!("there is one connection"),
                }
            };
            assert_eq!(got, (carrying[index], vec![1 - index as u8]));
        }
    }
}
