//! From bytes to messages.

use super::headers::{HeaderError, Headers};
use super::{
    HeaderName, Message, Method, Request, Response, StatusCode, copy_for_response, stateless_tag,
};
use crate::syntax::{ValueError, is_lws, is_token, number, split_once, text, trim};
use crate::uri::{Scheme, Uri};

/// The longest message that is read, in bytes; no UDP datagram is longer.
pub const MAX_MESSAGE: usize = 65_535;
/// The most header fields that a message may have.
pub const MAX_HEADERS: usize = 256;
/// The longest start line or header field, folds undone, in bytes.
pub const MAX_LINE: usize = 8_192;

/// What kept bytes from being a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Nothing but line ends: a keepalive.
    #[error("only line ends, a keepalive")]
    KeepAlive,
    /// The start line speaks of another protocol.
    #[error("not a SIP message")]
    NotSip,
    /// More than [`MAX_MESSAGE`] bytes.
    #[error("the message is longer than {MAX_MESSAGE} bytes")]
    TooLarge,
    /// More than [`MAX_HEADERS`] header fields.
    #[error("more than {MAX_HEADERS} header fields")]
    TooManyHeaders,
    /// A line of more than [`MAX_LINE`] bytes.
    #[error("a line is longer than {MAX_LINE} bytes")]
    LineTooLong,
    /// The header fields end without an empty line.
    #[error("no empty line after the header fields")]
    NoBlankLine,
    /// The start line is malformed.
    #[error("bad start line: {0}")]
    StartLine(ValueError),
    /// The version is not 2.0.
    #[error("the version is not SIP/2.0")]
    Version,
    /// The status code is not 100 to 699.
    #[error("the status code is not 100 to 699")]
    StatusCode,
    /// A line is no header field.
    #[error("bad header line: {0}")]
    HeaderLine(ValueError),
    /// A header field is absent, repeated or malformed.
    #[error(transparent)]
    Header(HeaderError),
    /// Content-Length is absent, not a number or repeated, or says more than there is.
    #[error("bad Content-Length: {0}")]
    ContentLength(ValueError),
    /// CSeq names another method than the start line.
    #[error("CSeq names another method than the start line")]
    CSeqMethod,
}

/// Bytes that are no message, and the response that they deserve all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    kind: ParseErrorKind,
    reply: Option<Box<Response>>,
    pub(super) fatal: bool,
}

impl ParseError {
    pub(super) fn new(kind: ParseErrorKind, reply: Option<Response>) -> Self {
        Self {
            kind,
            reply: reply.map(Box::new),
            fatal: false,
        }
    }

    /// What is wrong.
    pub fn kind(&self) -> &ParseErrorKind {
        &self.kind
    }

    /// The response to send statelessly to where the bytes came from. None for responses,
    /// for ACK, and for what names no Via to answer by.
    pub fn reply(&self) -> Option<Response> {
        self.reply.as_deref().cloned()
    }

    /// On a stream: the next message cannot be found, and the connection is to be closed
    /// (RFC 4475 section 3.1.2.3).
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }
}

impl Message {
    /// Reads a datagram. What follows the body is ignored (RFC 3261 section 18.3).
    pub fn parse_datagram(bytes: &[u8]) -> Result<Self, ParseError> {
        let bytes = skip_line_ends(bytes);
        if bytes.is_empty() {
            return Err(ParseError::new(ParseErrorKind::KeepAlive, None));
        }
        let head = Head::read(bytes.get(..MAX_MESSAGE).unwrap_or(bytes));
        if bytes.len() > MAX_MESSAGE {
            return Err(head.error(ParseErrorKind::TooLarge));
        }
        let body = match head.content_length() {
            Ok(None) => head.rest,
            Ok(Some(length)) => match head.rest.get(..length) {
                Some(body) => body,
                None => {
                    let more = ValueError("it says more than the datagram holds");
                    return Err(head.error(ParseErrorKind::ContentLength(more)));
                }
            },
            Err(kind) => return Err(head.error(kind)),
        };
        head.message(body)
    }
}

/// RFC 3261 section 7.5: line ends before the start line are ignored.
pub(super) fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| *b != b'\r' && *b != b'\n');
    start.and_then(|at| bytes.get(at..)).unwrap_or_default()
}

/// Start line and header fields, read as far as they can be; the first fault is kept for
/// [`Head::message`], so that an answer can copy the header fields that were readable.
pub(super) struct Head<'a> {
    start_line: &'a [u8],
    headers: Headers,
    /// What follows the empty line.
    rest: &'a [u8],
    fault: Option<ParseErrorKind>,
}

impl<'a> Head<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let (start_line, mut rest) = next_line(bytes);
        let mut head = Head {
            start_line,
            headers: Headers::new(),
            rest,
            fault: None,
        };
        if start_line.len() > MAX_LINE {
            head.fault(ParseErrorKind::LineTooLong);
        }
        let mut unfolded: Option<Vec<u8>> = None;
        loop {
            if rest.is_empty() {
                head.finish_line(unfolded.take());
                head.fault(ParseErrorKind::NoBlankLine);
                break;
            }
            let (line, after) = next_line(rest);
            rest = after;
            let continues = line.first().copied().is_some_and(is_lws);
            match &mut unfolded {
                // RFC 3261 section 7.3.1: a fold is one space.
                Some(value) if continues => {
                    value.push(b' ');
                    value.extend_from_slice(trim(line));
                    if value.len() > MAX_LINE {
                        head.fault(ParseErrorKind::LineTooLong);
                        value.truncate(MAX_LINE);
                    }
                }
                _ => {
                    head.finish_line(unfolded.take());
                    if line.is_empty() {
                        break;
                    }
                    unfolded = Some(line.to_vec());
                }
            }
        }
        head.rest = rest;
        head
    }

    fn fault(&mut self, kind: ParseErrorKind) {
        self.fault.get_or_insert(kind);
    }

    fn finish_line(&mut self, line: Option<Vec<u8>>) {
        let Some(line) = line else { return };
        if line.len() > MAX_LINE {
            return self.fault(ParseErrorKind::LineTooLong);
        }
        if self.headers.len() >= MAX_HEADERS {
            return self.fault(ParseErrorKind::TooManyHeaders);
        }
        if line.contains(&b'\r') {
            return self.fault(ParseErrorKind::HeaderLine(ValueError("CR without LF")));
        }
        match split_once(&line, b':') {
            Some((name, value)) if is_token(trim(name)) => {
                self.headers.push(text(trim(name)).as_str(), value);
            }
            _ => self.fault(ParseErrorKind::HeaderLine(ValueError(
                "a header field is `name: value`",
            ))),
        }
    }

    /// How long the body is; none when nothing says so.
    pub(super) fn content_length(&self) -> Result<Option<usize>, ParseErrorKind> {
        let mut all = self.headers.all(HeaderName::ContentLength);
        let length = match (all.next(), all.next()) {
            (None, _) => return Ok(None),
            (Some(value), None) => number(value).and_then(|n| usize::try_from(n).ok()),
            // RFC 4475 section 3.3.9: as good as none.
            (Some(_), Some(_)) => {
                return Err(ParseErrorKind::ContentLength(ValueError(
                    "it stands there twice",
                )));
            }
        };
        match length {
            Some(length) => Ok(Some(length)),
            None => Err(ParseErrorKind::ContentLength(ValueError("it is no number"))),
        }
    }

    /// The message, if all of it is in order.
    pub(super) fn message(mut self, body: &[u8]) -> Result<Message, ParseError> {
        if let Some(fault) = self.fault.take() {
            return Err(self.error(fault));
        }
        let start = match self.start() {
            Ok(start) => start,
            Err(kind) => return Err(self.error(kind)),
        };
        if let Err(kind) = self.check(&start) {
            return Err(self.error(kind));
        }
        let mut headers = self.headers;
        headers.remove(HeaderName::ContentLength);
        let body = body.to_vec();
        Ok(match start {
            Start::Request(method, uri) => Message::Request(Request {
                method,
                uri,
                headers,
                body,
            }),
            Start::Response(status, reason) => Message::Response(Response {
                status,
                reason,
                headers,
                body,
            }),
        })
    }

    fn start(&self) -> Result<Start, ParseErrorKind> {
        if self
            .start_line
            .get(..4)
            .is_some_and(|s| s.eq_ignore_ascii_case(b"SIP/"))
        {
            status_line(self.start_line)
        } else {
            request_line(self.start_line)
        }
    }

    /// What every element that receives a message depends on.
    fn check(&self, start: &Start) -> Result<(), ParseErrorKind> {
        let headers = &self.headers;
        if headers.vias()?.is_empty() {
            return Err(HeaderError::Missing(HeaderName::Via).into());
        }
        headers.from()?;
        headers.to()?;
        headers.call_id()?;
        let cseq = headers.cseq()?;
        headers.contacts()?;
        headers.routes()?;
        headers.record_routes()?;
        for name in [HeaderName::MaxForwards, HeaderName::ContentType] {
            if headers.all(name.clone()).nth(1).is_some() {
                return Err(HeaderError::Repeated(name).into());
            }
        }
        if let Start::Request(method, _) = start {
            if cseq.method != *method {
                return Err(ParseErrorKind::CSeqMethod);
            }
            // RFC 4475 section 3.2.1: the cookie alone identifies nothing.
            if headers.top_via()?.branch() == Some("z9hG4bK") {
                let bare = ValueError("its branch is the magic cookie alone");
                return Err(HeaderError::Malformed(HeaderName::Via, bare).into());
            }
        }
        Ok(())
    }

    /// The error, with a response if this was a request that may get one.
    pub(super) fn error(&self, kind: ParseErrorKind) -> ParseError {
        let reply = self.status_for(&kind).map(|status| {
            let mut response = Response::new(status);
            let tag = stateless_tag(&self.headers);
            copy_for_response(&self.headers, &mut response.headers, Some(&tag));
            if status == StatusCode::BAD_REQUEST {
                response.reason = format!("Bad Request ({kind})");
            }
            response
        });
        ParseError::new(kind, reply)
    }

    /// RFC 3261 section 16.11 and 8.1.3.5; none where silence is right.
    fn status_for(&self, kind: &ParseErrorKind) -> Option<StatusCode> {
        let mut words = self
            .start_line
            .split(|b| is_lws(*b))
            .filter(|word| !word.is_empty());
        let (first, last) = (words.next()?, words.next_back()?);
        let is_request = !first
            .get(..4)
            .is_some_and(|s| s.eq_ignore_ascii_case(b"SIP/"))
            && last
                .get(..4)
                .is_some_and(|s| s.eq_ignore_ascii_case(b"SIP/"));
        // RFC 3261 section 17.1.1.3: an ACK is never answered.
        let is_ack = first == b"ACK" || self.headers.cseq().is_ok_and(|c| c.method == Method::Ack);
        if !is_request || is_ack || !self.headers.contains(HeaderName::Via) {
            return None;
        }
        Some(match kind {
            ParseErrorKind::Version => StatusCode::VERSION_NOT_SUPPORTED,
            ParseErrorKind::TooLarge => StatusCode::MESSAGE_TOO_LARGE,
            // RFC 4475 section 3.1.2.18: the method may be one of tomorrow.
            ParseErrorKind::CSeqMethod if matches!(text(first).parse(), Ok(Method::Other(_))) => {
                StatusCode::NOT_IMPLEMENTED
            }
            _ => StatusCode::BAD_REQUEST,
        })
    }
}

enum Start {
    Request(Method, Uri),
    Response(StatusCode, String),
}

fn request_line(line: &[u8]) -> Result<Start, ParseErrorKind> {
    let is_sip = line.rsplit(|b| is_lws(*b)).find(|word| !word.is_empty());
    if !is_sip.is_some_and(|w| w.get(..4).is_some_and(|s| s.eq_ignore_ascii_case(b"SIP/"))) {
        return Err(ParseErrorKind::NotSip);
    }
    let bad = |what| ParseErrorKind::StartLine(ValueError(what));
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(uri), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("method, URI and version have one space between them"));
    };
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        let is_version = version
            .get(4..)
            .is_some_and(|v| !v.is_empty() && v.iter().all(|b| b.is_ascii_digit() || *b == b'.'));
        return Err(if is_version {
            ParseErrorKind::Version
        } else {
            bad("the version is SIP/2.0")
        });
    }
    let method = std::str::from_utf8(method).map_err(|_| bad("a method is a token"))?;
    let method = method.parse().map_err(ParseErrorKind::StartLine)?;
    let uri = std::str::from_utf8(uri).map_err(|_| bad("a URI is ASCII"))?;
    let uri: Uri = uri.parse().map_err(ParseErrorKind::StartLine)?;
    // RFC 3261 section 19.1.1, table 1: no headers in a Request-URI.
    if matches!(uri.scheme, Scheme::Sip | Scheme::Sips) && !uri.headers.is_empty() {
        return Err(bad("a Request-URI has no headers"));
    }
    Ok(Start::Request(method, uri))
}

fn status_line(line: &[u8]) -> Result<Start, ParseErrorKind> {
    let bad = |what| ParseErrorKind::StartLine(ValueError(what));
    let (version, rest) =
        split_once(line, b' ').ok_or(bad("after the version comes a status code"))?;
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Err(ParseErrorKind::Version);
    }
    // RFC 4475 section 3.1.1.13: liberal when the space before an empty reason is missing.
    let (code, reason) = split_once(rest, b' ').unwrap_or((rest, b""));
    let status = Some(code)
        .filter(|code| code.len() == 3)
        .and_then(number)
        .and_then(|code| StatusCode::new(u16::try_from(code).ok()?))
        .ok_or(ParseErrorKind::StatusCode)?;
    if reason.contains(&b'\r') {
        return Err(bad("CR without LF"));
    }
    Ok(Start::Response(status, text(reason)))
}

/// The line that `bytes` begins with, without its end (CRLF, or LF from the sloppy).
fn next_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match split_once(bytes, b'\n') {
        Some((line, rest)) => (line.strip_suffix(b"\r").unwrap_or(line), rest),
        None => (bytes, b""),
    }
}
