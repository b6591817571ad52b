//! The values of the header fields that a phone reads.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::Method;
use crate::params::Params;
use crate::syntax::{
    ValueError, is_lws, is_token, is_token_byte, number, quote, quoted_string, split_once,
    split_outside, text, trim,
};
use crate::uri::{Host, Uri, host_and_port};

/// An address with a name: From, To, Contact, Route, Record-Route (RFC 3261 section 20.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name, quotes and escapes undone.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// The header field's parameters (not the URI's).
    pub params: Params,
}

impl NameAddr {
    /// An address without a display name and parameters.
    pub fn new(uri: Uri) -> Self {
        Self {
            display: None,
            uri,
            params: Params::new(),
        }
    }

    /// The `tag` parameter; an empty one is none.
    pub fn tag(&self) -> Option<&str> {
        self.params.value("tag").filter(|tag| !tag.is_empty())
    }

    /// Sets the `tag` parameter and gives the address back.
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.params.set("tag", Some(tag));
        self
    }

    /// A Contact's `expires` parameter in seconds; none too when it is no 32-bit number
    /// (RFC 4475 section 3.1.2.4 lets such a one stand for the default).
    pub fn expires(&self) -> Option<u32> {
        u32::try_from(number(self.params.value("expires")?.as_bytes())?).ok()
    }

    /// Reads one value of the header field, in either of its two forms.
    pub fn parse(bytes: &[u8]) -> Result<Self, ValueError> {
        let bytes = trim(bytes);
        if bytes.starts_with(b"\"") {
            let (display, rest) = quoted_string(bytes)?;
            return Self::angle(Some(display), trim(rest));
        }
        match bytes.iter().position(|b| *b == b'<') {
            Some(at) => {
                let (display, rest) = bytes.split_at_checked(at).unwrap_or_default();
                let display = trim(display);
                // RFC 4475 section 3.1.1.6: no white space is needed before `<`.
                let good = display
                    .iter()
                    .all(|b| is_token_byte(*b) || is_lws(*b) || !b.is_ascii());
                if !good {
                    return Err(ValueError(
                        "a display name with special characters is quoted",
                    ));
                }
                Self::angle((!display.is_empty()).then(|| text(display)), rest)
            }
            None => Self::bare(bytes),
        }
    }

    fn angle(display: Option<String>, bytes: &[u8]) -> Result<Self, ValueError> {
        let inner = bytes
            .strip_prefix(b"<")
            .ok_or(ValueError("after a display name comes `<`"))?;
        let (uri, params) = split_once(inner, b'>').ok_or(ValueError("`<` has no `>`"))?;
        Ok(Self {
            display,
            uri: uri_of(uri)?,
            params: Params::parse(params)?,
        })
    }

    /// Without brackets every parameter belongs to the header field, and the URI may hold
    /// neither `?` nor `,` nor `;` (RFC 3261 section 20.10).
    fn bare(bytes: &[u8]) -> Result<Self, ValueError> {
        let end = bytes.iter().position(|b| *b == b';').unwrap_or(bytes.len());
        let (uri, params) = bytes.split_at_checked(end).unwrap_or_default();
        if uri.contains(&b'?') || uri.contains(&b',') {
            return Err(ValueError(
                "a URI with `?` or `,` stands between `<` and `>`",
            ));
        }
        Ok(Self {
            display: None,
            uri: uri_of(trim(uri))?,
            params: Params::parse(params)?,
        })
    }
}

fn uri_of(bytes: &[u8]) -> Result<Uri, ValueError> {
    std::str::from_utf8(bytes)
        .map_err(|_| ValueError("a URI is ASCII"))?
        .parse()
}

impl FromStr for NameAddr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "{} ", quote(display))?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// One hop of a Via header field (RFC 3261 section 20.42).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// The transport in upper case: `UDP`, `TCP`, `TLS`, …
    pub transport: String,
    /// The host of `sent-by`.
    pub host: Host,
    /// The port of `sent-by`, if written.
    pub port: Option<u16>,
    /// branch, received, rport, …
    pub params: Params,
}

impl Via {
    /// `SIP/2.0/transport host:port;branch=branch`.
    pub fn new(transport: &str, host: Host, port: Option<u16>, branch: &str) -> Self {
        let mut params = Params::new();
        params.set("branch", Some(branch));
        Self {
            transport: transport.to_ascii_uppercase(),
            host,
            port,
            params,
        }
    }

    /// The `branch` parameter; an empty one is none.
    pub fn branch(&self) -> Option<&str> {
        self.params
            .value("branch")
            .filter(|branch| !branch.is_empty())
    }

    /// The `received` parameter, if it is an address.
    pub fn received(&self) -> Option<IpAddr> {
        let value = self.params.value("received")?;
        value
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()
    }

    /// `rport` with a value (RFC 3581).
    pub fn rport(&self) -> Option<u16> {
        self.params.value("rport")?.parse().ok()
    }

    /// Whether `rport` is there, with or without a value.
    pub fn asks_rport(&self) -> bool {
        self.params.has("rport")
    }

    /// Reads one value.
    pub fn parse(bytes: &[u8]) -> Result<Self, ValueError> {
        const FORM: ValueError = ValueError("a Via value is SIP/2.0/transport host:port");
        let (name, rest) = split_once(bytes, b'/').ok_or(FORM)?;
        let (version, rest) = split_once(rest, b'/').ok_or(FORM)?;
        if !trim(name).eq_ignore_ascii_case(b"SIP") || trim(version) != b"2.0" {
            return Err(ValueError("a Via value begins with SIP/2.0"));
        }
        let rest = trim(rest);
        let end = rest.iter().position(|b| is_lws(*b)).ok_or(FORM)?;
        let (transport, rest) = rest.split_at_checked(end).ok_or(FORM)?;
        if !is_token(transport) {
            return Err(ValueError("a Via value's transport is a token"));
        }
        let end = rest.iter().position(|b| *b == b';').unwrap_or(rest.len());
        let (sent_by, params) = rest.split_at_checked(end).ok_or(FORM)?;
        let sent_by = std::str::from_utf8(trim(sent_by)).map_err(|_| FORM)?;
        let (host, port) = host_and_port(sent_by)?;
        let transport = text(transport).to_ascii_uppercase();
        Ok(Self {
            transport,
            host,
            port,
            params: Params::parse(params)?,
        })
    }
}

impl FromStr for Via {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)
    }
}

/// CSeq: a number and a method (RFC 3261 section 20.16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    /// The sequence number.
    pub number: u32,
    /// The method.
    pub method: Method,
}

impl CSeq {
    /// Reads the value.
    pub fn parse(bytes: &[u8]) -> Result<Self, ValueError> {
        let (first, method) = first_word(bytes);
        Ok(Self {
            number: number_32(first)?,
            method: text(method).parse()?,
        })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// RAck: which reliable response a PRACK acknowledges (RFC 3262 section 7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RAck {
    /// The response's RSeq.
    pub rseq: u32,
    /// The response's CSeq.
    pub cseq: CSeq,
}

impl RAck {
    /// Reads the value.
    pub fn parse(bytes: &[u8]) -> Result<Self, ValueError> {
        let (first, rest) = first_word(bytes);
        Ok(Self {
            rseq: number_32(first)?,
            cseq: CSeq::parse(rest)?,
        })
    }
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rseq, self.cseq)
    }
}

fn first_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let bytes = trim(bytes);
    let end = bytes.iter().position(|b| is_lws(*b)).unwrap_or(bytes.len());
    let (word, rest) = bytes.split_at_checked(end).unwrap_or((bytes, b""));
    (word, trim(rest))
}

fn number_32(bytes: &[u8]) -> Result<u32, ValueError> {
    number(bytes)
        .and_then(|n| u32::try_from(n).ok())
        .ok_or(ValueError("a sequence number is 0 to 2^32 - 1"))
}

/// A challenge (WWW-Authenticate, Proxy-Authenticate) or credentials (Authorization,
/// Proxy-Authorization): a scheme and named values (RFC 3261 section 20.44).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// `Digest`, or another.
    pub scheme: String,
    /// Names and values, quotes and escapes undone.
    pub params: Vec<(String, String)>,
}

impl Challenge {
    /// The value of that name; names compare without regard to case.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// Whether the scheme is Digest.
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }

    /// Reads the value.
    pub fn parse(bytes: &[u8]) -> Result<Self, ValueError> {
        let (scheme, rest) = first_word(bytes);
        if !is_token(scheme) {
            return Err(ValueError("an authentication scheme is a token"));
        }
        let params = split_outside(rest, b',')?
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .map(auth_param)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            scheme: text(scheme),
            params,
        })
    }
}

fn auth_param(piece: &[u8]) -> Result<(String, String), ValueError> {
    let (name, value) =
        split_once(piece, b'=').ok_or(ValueError("an authentication parameter has `=`"))?;
    let (name, value) = (trim(name), trim(value));
    if !is_token(name) {
        return Err(ValueError("an authentication parameter's name is a token"));
    }
    let value = if value.starts_with(b"\"") {
        quoted_string(value)?.0
    } else {
        text(value)
    };
    Ok((text(name), value))
}

impl fmt::Display for Challenge {
    /// Values are quoted where RFC 3261 section 25.1 wants them quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BARE: [&str; 4] = ["algorithm", "stale", "nc", "qop"];
        f.write_str(&self.scheme)?;
        let is_challenge = self.param("response").is_none();
        for (at, (name, value)) in self.params.iter().enumerate() {
            f.write_str(if at == 0 { " " } else { ", " })?;
            // In a challenge qop is a quoted list, in credentials a token.
            let quoted_qop = is_challenge && name.eq_ignore_ascii_case("qop");
            let bare = BARE.iter().any(|b| name.eq_ignore_ascii_case(b)) && !quoted_qop;
            if bare && is_token(value.as_bytes()) {
                write!(f, "{name}={value}")?;
            } else {
                write!(f, "{name}={}", quote(value))?;
            }
        }
        Ok(())
    }
}

/// A media type: Content-Type, Accept (RFC 3261 section 20.15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    /// `application`, in lower case.
    pub kind: String,
    /// `sdp`, in lower case.
    pub subtype: String,
    /// boundary, charset, …
    pub params: Params,
}

impl MediaType {
    /// Whether it is `kind/subtype`, parameters aside.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }

    /// Whether it is `application/sdp`.
    pub fn is_sdp(&self) -> bool {
        self.is("application", "sdp")
    }

    /// Reads one value.
    pub fn parse(bytes: &[u8]) -> Result<Self, ValueError> {
        let end = bytes.iter().position(|b| *b == b';').unwrap_or(bytes.len());
        let (media, params) = bytes.split_at_checked(end).unwrap_or_default();
        let (kind, subtype) =
            split_once(media, b'/').ok_or(ValueError("a media type is type/subtype"))?;
        let (kind, subtype) = (trim(kind), trim(subtype));
        if !is_token(kind) || !is_token(subtype) {
            return Err(ValueError("a media type is type/subtype"));
        }
        Ok(Self {
            kind: text(kind).to_ascii_lowercase(),
            subtype: text(subtype).to_ascii_lowercase(),
            params: Params::parse(params)?,
        })
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.kind, self.subtype, self.params)
    }
}

/// Warning (RFC 3261 section 20.43).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Three digits; 399 is for people to read.
    pub code: u16,
    /// Who says it: a host or a pseudonym.
    pub agent: String,
    /// What it says.
    pub text: String,
}

impl Warning {
    /// Reads one value.
    pub fn parse(bytes: &[u8]) -> Result<Self, ValueError> {
        let (code, rest) = first_word(bytes);
        let (agent, rest) = first_word(rest);
        let code = number(code)
            .filter(|_| code.len() == 3)
            .and_then(|n| u16::try_from(n).ok())
            .ok_or(ValueError("a warning's code has three digits"))?;
        if agent.is_empty() {
            return Err(ValueError("a warning names its agent"));
        }
        let (content, rest) = quoted_string(rest)?;
        if !trim(rest).is_empty() {
            return Err(ValueError("something follows a warning's text"));
        }
        Ok(Self {
            code,
            agent: text(agent),
            text: content,
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {} {}", self.code, self.agent, quote(&self.text))
    }
}
