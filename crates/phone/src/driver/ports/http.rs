//! One HTTP exchange with a router: a request, a reply of bounded size, and the connection is closed.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// A reply, head and body together, may have so many bytes. Descriptions have ten thousand or so.
const MOST: usize = 128 * 1024;
/// The head alone.
const MOST_HEAD: usize = 16 * 1024;

/// What the other side said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("a reply of more than {MOST} bytes, or a head of more than {MOST_HEAD}")]
    TooLong,
    #[error("no HTTP reply")]
    Malformed,
}

/// Sends a request from a local address and reads the reply. The caller sets the time limit.
pub(super) async fn exchange(
    local: Ipv4Addr,
    to: SocketAddrV4,
    request: &str,
) -> Result<Reply, HttpError> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((local, 0)))?;
    let mut stream = socket.connect(SocketAddr::V4(to)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut received = Vec::new();
    let mut head: Option<Head> = None;
    loop {
        if head
            .as_ref()
            .is_some_and(|head| head.is_complete(&received))
        {
            break;
        }
        let searched = received.len().saturating_sub(3);
        if stream.read_buf(&mut received).await? == 0 {
            break;
        }
        if head.is_none() {
            head = Head::find(&received, searched);
        }
        if received.len() > MOST || (head.is_none() && received.len() > MOST_HEAD) {
            return Err(HttpError::TooLong);
        }
    }
    head.and_then(|head| head.reply(&received))
        .ok_or(HttpError::Malformed)
}

/// What the head of a reply says.
#[derive(Debug)]
struct Head {
    status: u16,
    /// Where the body begins.
    end: usize,
    length: Option<usize>,
    chunked: bool,
}

impl Head {
    /// The head, if it is complete; its end is looked for from `searched` on.
    fn find(received: &[u8], searched: usize) -> Option<Self> {
        let fresh = received.get(searched..)?;
        let end = searched + fresh.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(received.get(..end)?).into_owned();
        let mut lines = text.lines();
        // A status line that cannot be read is no success.
        let status = lines
            .next()
            .filter(|line| line.starts_with("HTTP/1."))
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .unwrap_or_default();
        let mut head = Self {
            status,
            end,
            length: None,
            chunked: false,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.length = value.parse().ok();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = value.eq_ignore_ascii_case("chunked");
            }
        }
        Some(head)
    }

    /// Whether nothing more can follow. Without a length the end of the connection tells.
    fn is_complete(&self, received: &[u8]) -> bool {
        let body = received.get(self.end..).unwrap_or_default();
        if self.chunked {
            body.ends_with(b"0\r\n\r\n")
        } else {
            self.length.is_some_and(|length| body.len() >= length)
        }
    }

    fn reply(&self, received: &[u8]) -> Option<Reply> {
        let mut body = received.get(self.end..)?;
        let whole;
        if self.chunked {
            whole = unchunk(body)?;
            body = &whole;
        } else if let Some(length) = self.length {
            body = body.get(..length)?;
        }
        Some(Reply {
            status: self.status,
            body: String::from_utf8_lossy(body).into_owned(),
        })
    }
}

/// RFC 9112 section 7.1: the chunks put together.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = rest.windows(2).position(|bytes| bytes == b"\r\n")?;
        let line = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = line.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        let data = rest.get(end + 2..)?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(data.get(..size)?);
        rest = data.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(bytes: &[u8]) -> Option<Reply> {
        Head::find(bytes, 0)?.reply(bytes)
    }

    #[test]
    fn replies_with_a_length_with_chunks_and_with_neither() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-length: 4\r\n\r\nabcdmore",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nabcd",
        ] {
            let read = reply(text.as_bytes()).unwrap();
            assert_eq!((read.status, read.body.as_str()), (200, "abcd"), "{text}");
        }
    }

    #[test]
    fn torn_replies_are_none() {
        for text in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc",
        ] {
            assert_eq!(reply(text.as_bytes()), None, "{text}");
        }
        assert_eq!(reply(b"garbage\r\n\r\n").unwrap().status, 0);
    }
}
