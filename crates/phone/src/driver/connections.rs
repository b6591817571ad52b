//! TCP connections, with TLS over them where it is wanted, and listeners. Each runs as a task of
//! its own and tells the driver what happens by a message.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::{client, server};

use super::Incident;
use super::tls::{Identity, Tls};
use crate::Connection;
use crate::desk::is_media;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last bytes may take to leave when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// How many writes, and how many bytes of them, may wait for a slow peer before the connection is
/// given up.
const WRITES_WAITING: usize = 256;
const BYTES_WAITING: usize = 256 * 1024;
/// So many bytes of packets may wait beside what the system keeps: a quarter of a second of speech
/// in G.711.
const PACKET_BYTES_WAITING: usize = 2048;
/// So much the system keeps for a connection of media: small packets weigh a kilobyte there, so
/// this is about a second of speech.
const MEDIA_BUFFER: u32 = 32 * 1024;
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
    media_listeners: HashMap<SocketAddr, JoinHandle<()>>,
    /// What connections leave from, where `--bind` says so.
    leave_from: Vec<IpAddr>,
    tls: Tls,
}

/// Where a connection goes, and how.
pub(super) struct Route {
    /// The local address to leave from; port 0 is any, and another may be one that is listened on.
    pub(super) from: Option<SocketAddr>,
    pub(super) to: SocketAddr,
    /// The name that the server's certificate must be good for; none: no TLS.
    pub(super) tls: Option<String>,
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
    pub(super) fn new(inbox: mpsc::Sender<Incident>, leave_from: Vec<IpAddr>, tls: Tls) -> Self {
        Self {
            inbox,
            open: HashMap::new(),
            closing: Vec::new(),
            listeners: Vec::new(),
            media_listeners: HashMap::new(),
            leave_from,
            tls,
        }
    }

    /// Accepts connections on this address from now on.
    pub(super) async fn listen(&mut self, address: SocketAddr) -> std::io::Result<()> {
        let socket = unbound(address)?;
        if address.port() != 0 {
            // A port whose old connections linger in TIME-WAIT is free all the same.
            socket.set_reuseaddr(true)?;
        }
        socket.bind(address)?;
        let listener = socket.listen(128)?;
        let inbox = self.inbox.clone();
        self.listeners
            .push(tokio::spawn(accept(listener, address, None, inbox)));
        Ok(())
    }

    /// Accepts connections by TLS on this address from now on, as this host; gives the port too.
    pub(super) fn listen_for_tls(
        &mut self,
        address: SocketAddr,
        identity: Identity,
    ) -> std::io::Result<SocketAddr> {
        let socket = unbound(address)?;
        if address.port() != 0 {
            socket.set_reuseaddr(true)?;
        }
        socket.bind(address)?;
        let listener = socket.listen(128)?;
        let local = listener.local_addr()?;
        let inbox = self.inbox.clone();
        let task = tokio::spawn(super::tls::accept(listener, local, identity, inbox));
        self.listeners.push(task);
        Ok(local)
    }

    /// Accepts connections for media on any port of this address; gives the port too. Others may
    /// leave from it if it is shared.
    pub(super) fn listen_for_media(
        &mut self,
        address: IpAddr,
        shared: bool,
    ) -> std::io::Result<SocketAddr> {
        let socket = bound(SocketAddr::new(address, 0), shared)?;
        let listener = socket.listen(16)?;
        let local = listener.local_addr()?;
        let inbox = self.inbox.clone();
        let task = tokio::spawn(accept(listener, local, Some(local), inbox));
        self.media_listeners.insert(local, task);
        Ok(local)
    }

    /// Accepts no more connections for media there.
    pub(super) fn unlisten(&mut self, local: SocketAddr) {
        if let Some(task) = self.media_listeners.remove(&local) {
            task.abort();
        }
    }

    /// Whether one more connection may be accepted.
    pub(super) fn has_room(&self) -> bool {
        let closing = self.closing.iter().filter(|task| !task.is_finished());
        let accepted = self.open.values().filter(|open| open.accepted);
        accepted.count() + closing.count() < ACCEPTED_MAX
    }

    /// Takes an accepted connection over.
    pub(super) fn adopt(&mut self, connection: Connection, stream: Accepted) {
        let (writes, queue) = queue();
        let waiting = queue.bytes.clone();
        let inbox = self.inbox.clone();
        let task = match stream {
            Accepted::Tcp(stream) => {
                if is_media(connection)
                    && let Err(error) =
                        socket2::SockRef::from(&stream).set_send_buffer_size(MEDIA_BUFFER as usize)
                {
                    tracing::debug!(%error, "a send buffer keeps its size");
                }
                tokio::spawn(serve_tcp(connection, stream, queue, inbox))
            }
            Accepted::Tls(stream) => {
                let halves = tokio::io::split(stream);
                tokio::spawn(serve(connection, halves, queue, inbox))
            }
        };
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
    pub(super) fn connect(&mut self, connection: Connection, mut route: Route) {
        let (writes, queue) = queue();
        let waiting = queue.bytes.clone();
        let to = route.to;
        let named = self.leave_from.iter().copied();
        let named = named.map(|ip| SocketAddr::new(ip, 0));
        route.from = route
            .from
            .into_iter()
            .chain(named)
            .find(|from| from.is_ipv4() == to.is_ipv4() && !from.ip().is_unspecified());
        let (tls, inbox) = (self.tls.clone(), self.inbox.clone());
        let task = tokio::spawn(open(connection, route, tls, queue, inbox));
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

    /// Writes a packet, or drops it while earlier ones wait: what comes late is worth nothing.
    pub(super) fn write_packet(&self, connection: Connection, packet: Vec<u8>) {
        let Some(open) = self.open.get(&connection) else {
            return;
        };
        let size = packet.len();
        if open.waiting.load(Ordering::Relaxed).saturating_add(size) > PACKET_BYTES_WAITING {
            tracing::debug!(?connection, "a slow connection loses a packet");
            return;
        }
        open.waiting.fetch_add(size, Ordering::Relaxed);
        if open.writes.try_send(packet).is_err() {
            open.waiting.fetch_sub(size, Ordering::Relaxed);
        }
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
        for listener in self.listeners.iter().chain(self.media_listeners.values()) {
            listener.abort();
        }
    }
}

/// A socket of the family of this address, and of no other.
fn unbound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            socket2::SockRef::from(&socket).set_only_v6(true)?;
            Ok(socket)
        }
    }
}

/// A socket at this address, which may be shared with other sockets that say so.
fn bound(address: SocketAddr, shared: bool) -> std::io::Result<TcpSocket> {
    let socket = unbound(address)?;
    if shared {
        socket.set_reuseaddr(true)?;
        #[cfg(unix)]
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(
    listener: TcpListener,
    local: SocketAddr,
    media: Option<SocketAddr>,
    inbox: mpsc::Sender<Incident>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let incident = Incident::Accepted {
                    stream: Accepted::Tcp(stream),
                    peer,
                    media,
                };
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
    route: Route,
    tls: Tls,
    waiting: Waiting,
    inbox: mpsc::Sender<Incident>,
) {
    let opened = async {
        let stream = connect(connection, &route).await?;
        // What goes here is small and in a hurry.
        undelayed(&stream);
        Ok::<_, std::io::Error>(match &route.tls {
            None => Opened::Tcp(stream),
            Some(name) => Opened::Tls(Box::new(tls.wrap(name, stream).await?)),
        })
    };
    let error = match tokio::time::timeout(CONNECT_TIMEOUT, opened).await {
        Ok(Ok(stream)) => {
            let local = match &stream {
                Opened::Tcp(stream) => stream.local_addr(),
                Opened::Tls(stream) => stream.get_ref().0.local_addr(),
            };
            let connected = Incident::Connected(connection, local.ok());
            if inbox.send(connected).await.is_ok() {
                match stream {
                    Opened::Tcp(stream) => serve_tcp(connection, stream, waiting, inbox).await,
                    Opened::Tls(stream) => {
                        let halves = tokio::io::split(stream);
                        serve(connection, halves, waiting, inbox).await;
                    }
                }
            }
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
    };
    let protocol = if route.tls.is_some() { "TLS" } else { "TCP" };
    let error = Some(format!("{protocol} to {}: {error}", route.to));
    let _ = inbox.send(Incident::Closed { connection, error }).await;
}

enum Opened {
    Tcp(TcpStream),
    Tls(Box<client::TlsStream<TcpStream>>),
}

/// A connection that somebody else has opened.
pub(super) enum Accepted {
    Tcp(TcpStream),
    /// Hands are shaken.
    Tls(Box<server::TlsStream<TcpStream>>),
}

async fn connect(connection: Connection, route: &Route) -> std::io::Result<TcpStream> {
    let socket = match route.from {
        Some(from) => bound(from, from.port() != 0)?,
        None if route.to.is_ipv4() => TcpSocket::new_v4()?,
        None => TcpSocket::new_v6()?,
    };
    if is_media(connection)
        && let Err(error) = socket.set_send_buffer_size(MEDIA_BUFFER)
    {
        tracing::debug!(%error, "a send buffer keeps its size");
    }
    socket.connect(route.to).await
}

pub(super) fn undelayed(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
    }
}

async fn serve_tcp(
    connection: Connection,
    stream: TcpStream,
    waiting: Waiting,
    inbox: mpsc::Sender<Incident>,
) {
    undelayed(&stream);
    serve(connection, stream.into_split(), waiting, inbox).await;
}

/// Carries bytes both ways until either side has enough.
async fn serve(
    connection: Connection,
    (mut reader, mut writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    mut waiting: Waiting,
    inbox: mpsc::Sender<Incident>,
) {
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
            let written = async {
                writer.write_all(&payload).await?;
                writer.flush().await
            };
            if let Err(error) = written.await {
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
mod tests;
