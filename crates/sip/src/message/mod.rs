//! SIP messages: parser, printer, header fields (RFC 3261 sections 7, 20 and 25).
//!
//! The parser works on bytes and copies what it keeps. It checks at once what every element
//! needs (start line, Via, From, To, Call-ID, CSeq, and Contact, Route, Record-Route where
//! present) and leaves the rest to the typed accessors of [`Headers`]. A request that does
//! not hold up comes back as a [`ParseError`] with the response that it deserves, if any.
//!
//! Limits, before anything is read: [`MAX_MESSAGE`], [`MAX_HEADERS`], [`MAX_LINE`].

mod headers;
mod method;
mod name;
mod parse;
mod stream;
#[cfg(test)]
mod tests;
mod values;

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

pub use headers::{Header, HeaderError, Headers};
pub use method::{Method, StatusCode};
pub use name::HeaderName;
pub use parse::{MAX_HEADERS, MAX_LINE, MAX_MESSAGE, ParseError, ParseErrorKind};
pub use stream::StreamParser;
pub use values::{CSeq, Challenge, MediaType, NameAddr, RAck, Via, Warning};

pub use crate::params::Params;
pub use crate::syntax::ValueError;
use crate::uri::Uri;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// The header fields; Content-Length is not among them, the body says it.
    pub headers: Headers,
    /// The body, any bytes.
    pub body: Vec<u8>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// The reason phrase, for people; may be empty.
    pub reason: String,
    /// The header fields; Content-Length is not among them, the body says it.
    pub headers: Headers,
    /// The body, any bytes.
    pub body: Vec<u8>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Request {
    /// A request without header fields and body.
    pub fn new(method: Method, uri: Uri) -> Self {
        Self {
            method,
            uri,
            headers: Headers::new(),
            body: Vec::new(),
        }
    }

    /// A response with what RFC 3261 section 8.2.6.2 copies: every Via, From, To, Call-ID and
    /// CSeq. `tag` goes to To unless To has one; 100 takes none.
    pub fn respond(&self, status: StatusCode, tag: Option<&str>) -> Response {
        let mut response = Response::new(status);
        copy_for_response(&self.headers, &mut response.headers, tag);
        if status == StatusCode::TRYING {
            // RFC 3261 section 8.2.6.1.
            response.headers.copy(HeaderName::Timestamp, &self.headers);
        }
        response
    }

    /// The message as it goes over the wire. Content-Length is written last.
    pub fn to_bytes(&self) -> Vec<u8> {
        print(
            format_args!("{} {} SIP/2.0", self.method, self.uri),
            &self.headers,
            &self.body,
        )
    }

    /// The same with the compact names of header fields, for a message that would otherwise be too
    /// large for its transport (RFC 3261 section 7.3.3); without User-Agent and Allow, which it may
    /// do without. Via keeps its long name: proxies put theirs before ours, and not every peer knows
    /// the two for one header field (SIPp does not).
    pub fn to_compact_bytes(&self) -> Vec<u8> {
        let mut headers = self.headers.clone();
        headers.remove(HeaderName::UserAgent);
        headers.remove(HeaderName::Allow);
        print_with(
            format_args!("{} {} SIP/2.0", self.method, self.uri),
            &headers,
            &self.body,
            |name| match name {
                HeaderName::Via => name.as_str(),
                name => name.as_compact_str(),
            },
        )
    }
}

impl Response {
    /// A response with the standard reason phrase, without header fields and body.
    pub fn new(status: StatusCode) -> Self {
        let reason = status.default_reason().to_owned();
        Self {
            status,
            reason,
            headers: Headers::new(),
            body: Vec::new(),
        }
    }

    /// The message as it goes over the wire. Content-Length is written last.
    pub fn to_bytes(&self) -> Vec<u8> {
        let reason: String = self
            .reason
            .chars()
            .filter(|c| !matches!(c, '\r' | '\n'))
            .collect();
        print(
            format_args!("SIP/2.0 {} {reason}", self.status),
            &self.headers,
            &self.body,
        )
    }
}

impl Message {
    /// The header fields.
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        match self {
            Self::Request(request) => &request.body,
            Self::Response(response) => &response.body,
        }
    }

    /// The message as it goes over the wire. Content-Length is written last.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

fn copy_for_response(from: &Headers, to: &mut Headers, tag: Option<&str>) {
    to.copy(HeaderName::Via, from);
    for name in [
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
        HeaderName::CSeq,
    ] {
        // Of a header field that a faulty request repeats, the first.
        if let Some(value) = from.get_bytes(name.clone()) {
            to.push(name, value);
        }
    }
    if let (Some(tag), Ok(address)) = (tag, to.to())
        && address.tag().is_none()
    {
        to.set(HeaderName::To, address.with_tag(tag).to_string());
    }
}

/// RFC 3261 section 8.2.7: the same request gets the same tag each time, without any memory.
fn stateless_tag(headers: &Headers) -> String {
    let mut hasher = DefaultHasher::new();
    for name in [
        HeaderName::Via,
        HeaderName::From,
        HeaderName::CallId,
        HeaderName::CSeq,
    ] {
        headers.get_bytes(name).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

fn print(start: fmt::Arguments<'_>, headers: &Headers, body: &[u8]) -> Vec<u8> {
    print_with(start, headers, body, HeaderName::as_str)
}

fn print_with(
    start: fmt::Arguments<'_>,
    headers: &Headers,
    body: &[u8],
    spelling: impl Fn(&HeaderName) -> &str,
) -> Vec<u8> {
    let mut bytes = format!("{start}\r\n").into_bytes();
    for header in headers.iter() {
        if header.name == HeaderName::ContentLength {
            continue;
        }
        bytes.extend_from_slice(spelling(&header.name).as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(header.value());
        bytes.extend_from_slice(b"\r\n");
    }
    let length = spelling(&HeaderName::ContentLength);
    bytes.extend_from_slice(format!("{length}: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}
