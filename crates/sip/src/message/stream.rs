//! Messages out of a byte stream (RFC 3261 section 18.3).

use super::Message;
use super::parse::{Head, MAX_MESSAGE, ParseError, ParseErrorKind};
use crate::syntax::ValueError;

/// Cuts a stream of bytes into messages by Content-Length.
///
/// Push what was read, then take messages until there is none; the parser holds one
/// unfinished message of at most [`MAX_MESSAGE`] bytes. After an error that
/// [`ParseError::is_fatal`] it yields nothing more.
///
/// ```
/// use ringtrue_sip::message::StreamParser;
///
/// let mut parser = StreamParser::new();
/// parser.push(b"\r\n\r\nOPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1;");
/// assert!(parser.next().is_none());
/// assert_eq!(parser.take_pings(), 1);
/// parser.push(b"branch=z9hG4bK1\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\n");
/// parser.push(b"Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 2\r\n\r\nhi");
/// assert_eq!(parser.next().unwrap().unwrap().body(), b"hi");
/// ```
#[derive(Debug, Default)]
pub struct StreamParser {
    buffer: Vec<u8>,
    /// Up to here there is no end of the header fields.
    searched: usize,
    /// Line ends since the last message.
    line_ends: usize,
    pings: usize,
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Head,
    /// The header fields end at `head`, the body at `end`.
    Body {
        head: usize,
        end: usize,
    },
    Broken,
}

impl StreamParser {
    /// A parser at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was read from the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Broken) {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// How many double CRLFs came between messages since the last call: each asks for a
    /// CRLF in return (RFC 5626 section 4.4.1). Read it after the messages.
    pub fn take_pings(&mut self) -> usize {
        std::mem::take(&mut self.pings)
    }

    /// Whether part of a message waits for its rest.
    pub fn is_mid_message(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn skip_line_ends(&mut self) {
        let count = self
            .buffer
            .iter()
            .take_while(|b| **b == b'\r' || **b == b'\n')
            .count();
        let ends = self.buffer.drain(..count).filter(|b| *b == b'\n').count();
        self.line_ends += ends;
        self.pings += self.line_ends / 2;
        self.line_ends %= 2;
    }

    fn find_head(&mut self) -> Option<Result<Message, ParseError>> {
        self.skip_line_ends();
        let Some(head_end) = head_end(&self.buffer, self.searched) else {
            // An LF may be the first of the two that are sought, a CR may stand between.
            self.searched = self.buffer.len().saturating_sub(3);
            if self.buffer.len() > MAX_MESSAGE {
                return Some(Err(self.lost(ParseErrorKind::TooLarge)));
            }
            return None;
        };
        let head = Head::read(self.buffer.get(..head_end).unwrap_or_default());
        let length = match head.content_length() {
            Ok(Some(length)) => length,
            // RFC 3261 section 18.3: a stream needs it.
            Ok(None) => {
                let absent = ValueError("there is none, and a stream needs it");
                return Some(Err(self.lost(ParseErrorKind::ContentLength(absent))));
            }
            Err(kind) => return Some(Err(self.lost(kind))),
        };
        match head_end
            .checked_add(length)
            .filter(|end| *end <= MAX_MESSAGE)
        {
            Some(end) => {
                self.state = State::Body {
                    head: head_end,
                    end,
                };
                self.take_message(head_end, end)
            }
            None => Some(Err(self.lost(ParseErrorKind::TooLarge))),
        }
    }

    fn take_message(&mut self, head_end: usize, end: usize) -> Option<Result<Message, ParseError>> {
        let (head, body) = self.buffer.get(..end)?.split_at_checked(head_end)?;
        let message = Head::read(head).message(body);
        self.buffer.drain(..end);
        (self.state, self.searched, self.line_ends) = (State::Head, 0, 0);
        Some(message)
    }

    /// The end of this message cannot be known, so nothing after it can be read.
    fn lost(&mut self, kind: ParseErrorKind) -> ParseError {
        let end = self.buffer.len().min(MAX_MESSAGE);
        let mut error = Head::read(self.buffer.get(..end).unwrap_or_default()).error(kind);
        error.fatal = true;
        self.buffer = Vec::new();
        self.state = State::Broken;
        error
    }
}

impl Iterator for StreamParser {
    type Item = Result<Message, ParseError>;

    /// The next whole message; none until more bytes come.
    fn next(&mut self) -> Option<Self::Item> {
        match self.state {
            State::Head => self.find_head(),
            State::Body { head, end } => self.take_message(head, end),
            State::Broken => None,
        }
    }
}

/// Where the header fields end: after the empty line. Looks from `start` on.
fn head_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let rest = bytes.get(at..)?;
        let lf = rest.iter().position(|b| *b == b'\n')?;
        at += lf + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}
