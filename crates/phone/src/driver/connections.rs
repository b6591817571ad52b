//! TCP connections and listeners. Each runs as a task of its own and tells the driver what
//! happens by a message.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Incident;
use crate::Connection;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last bytes may take to leave when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// How many writes, and how many bytes of them, may wait for a slow peer before the connection is
/// given up.
const WRITES_WAITING: usize = 256;
const BYTES_WAITING: usize = 256 * 1024;
/// How long a connection that was closed from here may take to write what it was given.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// How many accepted connections there may be at a time, those that still write their last bytes
/// among them. The phone itself keeps fewer, and decides which one makes way for a new one.
const ACCEPTED_MAX: usize = 128;
/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// The connections that are open or about to be.
pub(super) struct Connections {
    inbox: mpsc::Sender<Incident>,
    open: HashMap<Connection, Open>,
    /// Connections that were closed from here and still write what they were given.
    closing: Vec<JoinHandle<()>>,
    listeners: Vec<JoinHandle<()>>,
    /// What connections leave from, where `--bind` says so.
    leave_from: Vec<IpAddr>,
}

struct Open {
    writes: mpsc::Sender<Vec<u8>>,
    /// How many bytes of `writes` have not left yet.
    waiting: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    accepted: bool,
}

/// What a connection's task is to write.
struct Waiting {
    writes: mpsc::Receiver<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

fn queue() -> (mpsc::Sender<Vec<u8>>, Waiting) {
    let (sender, writes) = mpsc::channel(WRITES_WAITING);
    let bytes = Arc::new(AtomicUsize::new(0));
    (sender, Waiting { writes, bytes })
}

impl Connections {
    pub(super) fn new(inbox: mpsc::Sender<Incident>, leave_from: Vec<IpAddr>) -> Self {
        Self {
            inbox,
            open: HashMap::new(),
            closing: Vec::new(),
            listeners: Vec::new(),
            leave_from,
        }
    }

    /// Accepts connections on this address from now on.
    pub(super) async fn listen(&mut self, address: SocketAddr) -> std::io::Result<()> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => {
                let socket = TcpSocket::new_v6()?;
                socket2::SockRef::from(&socket).set_only_v6(true)?;
                socket
            }
        };
        // A port whose old connections linger in TIME-WAIT is free all the same.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(128)?;
        let inbox = self.inbox.clone();
        self.listeners
            .push(tokio::spawn(accept(listener, address, inbox)));
        Ok(())
    }

    /// Whether one more connection may be accepted.
    pub(super) fn has_room(&self) -> bool {
        let closing = self.closing.iter().filter(|task| !task.is_finished());
        let accepted = self.open.values().filter(|open| open.accepted);
        accepted.count() + closing.count() < ACCEPTED_MAX
    }

    /// Takes an accepted connection over.
    pub(super) fn adopt(&mut self, connection: Connection, stream: TcpStream) {
        let (writes, queue) = queue();
        let waiting = queue.bytes.clone();
        let task = tokio::spawn(serve(connection, stream, queue, self.inbox.clone()));
        let accepted = true;
        let open = Open {
            writes,
            waiting,
            task,
            accepted,
        };
        self.open.insert(connection, open);
    }

    /// Opens a connection.
    pub(super) fn connect(&mut self, connection: Connection, to: SocketAddr) {
        let (writes, queue) = queue();
        let waiting = queue.bytes.clone();
        let from = self
            .leave_from
            .iter()
            .copied()
            .find(|ip| ip.is_ipv4() == to.is_ipv4() && !ip.is_unspecified());
        let inbox = self.inbox.clone();
        let task = tokio::spawn(open(connection, from, to, queue, inbox));
        let accepted = false;
        let open = Open {
            writes,
            waiting,
            task,
            accepted,
        };
        self.open.insert(connection, open);
    }

    /// Writes; an error ends the connection, and the driver is to tell so.
    pub(super) fn write(
        &mut self,
        connection: Connection,
        payload: Vec<u8>,
    ) -> Result<(), &'static str> {
        let Some(open) = self.open.get(&connection) else {
            // Closed meanwhile: the message that says so is already on its way.
            return Ok(());
        };
        let size = payload.len();
        let waiting = open.waiting.fetch_add(size, Ordering::Relaxed);
        let fits = waiting.saturating_add(size) <= BYTES_WAITING;
        if fits
            && !matches!(
                open.writes.try_send(payload),
                Err(mpsc::error::TrySendError::Full(_))
            )
        {
            return Ok(());
        }
        open.task.abort();
        self.open.remove(&connection);
        Err("the peer does not read what it is sent")
    }

    /// Closes a connection after what was written has left. Nothing is told about it any more.
    pub(super) fn close(&mut self, connection: Connection) {
        self.closing.retain(|task| !task.is_finished());
        // Dropping the sender lets the task write the rest and end.
        // A peer that does not read must not keep the socket for it.
        if let Some(Open { mut task, .. }) = self.open.remove(&connection) {
            self.closing.push(tokio::spawn(async move {
                if tokio::time::timeout(CLOSING_TIMEOUT, &mut task)
                    .await
                    .is_err()
                {
                    task.abort();
                }
            }));
        }
    }

    /// Closes every connection and waits a moment until what was written has left.
    pub(super) async fn finish(mut self) {
        let open = std::mem::take(&mut self.open);
        let mut tasks = std::mem::take(&mut self.closing);
        tasks.extend(open.into_values().map(|Open { task, .. }| task));
        let all = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, all).await.is_err() {
            tracing::debug!("a connection did not take its last bytes");
        }
    }

    /// Forgets a connection that has ended; false if it was closed from here before.
    pub(super) fn ended(&mut self, connection: Connection) -> bool {
        self.open.remove(&connection).is_some()
    }

    /// Whether this connection is still wanted.
    pub(super) fn is_open(&self, connection: Connection) -> bool {
        self.open.contains_key(&connection)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

async fn accept(listener: TcpListener, local: SocketAddr, inbox: mpsc::Sender<Incident>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let incident = Incident::Accepted { stream, peer };
                if inbox.send(incident).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of file descriptors, say: wait until some are free again.
                tracing::warn!(%local, %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn open(
    connection: Connection,
    from: Option<IpAddr>,
    to: SocketAddr,
    waiting: Waiting,
    inbox: mpsc::Sender<Incident>,
) {
    let error = match tokio::time::timeout(CONNECT_TIMEOUT, connect(from, to)).await {
        Ok(Ok(stream)) => {
            if inbox.send(Incident::Connected(connection)).await.is_ok() {
                serve(connection, stream, waiting, inbox).await;
            }
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
    };
    let error = Some(format!("TCP to {to}: {error}"));
    let _ = inbox.send(Incident::Closed { connection, error }).await;
}

async fn connect(from: Option<IpAddr>, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// Carries bytes both ways until either side has enough.
async fn serve(
    connection: Connection,
    stream: TcpStream,
    mut waiting: Waiting,
    inbox: mpsc::Sender<Incident>,
) {
    // Signalling is small and in a hurry.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
    }
    let (mut reader, mut writer) = stream.into_split();
    let read = async {
        loop {
            let mut chunk = vec![0; CHUNK];
            match reader.read(&mut chunk).await {
                Ok(0) => return None,
                Ok(size) => {
                    chunk.truncate(size);
                    if inbox
                        .send(Incident::Bytes(connection, chunk))
                        .await
                        .is_err()
                    {
                        return None;
                    }
                }
                Err(error) => return Some(error.to_string()),
            }
        }
    };
    let write = async {
        while let Some(payload) = waiting.writes.recv().await {
            if let Err(error) = writer.write_all(&payload).await {
                return Some(error.to_string());
            }
            waiting.bytes.fetch_sub(payload.len(), Ordering::Relaxed);
        }
        // The driver closed it: say so to the peer, and end.
        let _ = writer.shutdown().await;
        None
    };
    let error = tokio::select! {
        error = read => error,
        error = write => error,
    };
    let _ = inbox.send(Incident::Closed { connection, error }).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two drivers' connections, and what each of them is told.
    async fn pair() -> (Connections, mpsc::Receiver<Incident>, SocketAddr) {
        let (inbox, incidents) = mpsc::channel(16);
        let mut connections = Connections::new(inbox, Vec::new());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        connections.listen(address).await.unwrap();
        (connections, incidents, address)
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
        let mut alice = Connections::new(inbox, vec!["127.0.0.1".parse().unwrap()]);
        let (out, back) = (Connection(1), Connection(2));
        alice.connect(out, address);
        // Written before the connection stands: kept until it does.
        alice.write(out, b"early".to_vec()).unwrap();
        let Incident::Connected(connected) = next(&mut at_alice).await else {
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
        assert!(
            matches!(closed, Incident::Closed { connection, error: None } if connection == back)
        );
        assert!(bob.ended(back) && !bob.ended(back));
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        let (listening, _, address) = pair().await;
        drop(listening);
        let (inbox, mut incidents) = mpsc::channel(16);
        let mut connections = Connections::new(inbox, Vec::new());
        // The listener goes away with its task, which may take a moment.
        tokio::time::sleep(Duration::from_millis(50)).await;
        connections.connect(Connection(1), address);
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
}
