//! SIP, SIPS and tel URIs (RFC 3261 section 19.1, RFC 3966); others are carried as they are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::params::Params;
use crate::syntax::{ValueError, escapes_are_whole, unescape};

/// The scheme of a [`Uri`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other, in lower case.
    Other(String),
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sip => "sip",
            Self::Sips => "sips",
            Self::Tel => "tel",
            Self::Other(scheme) => scheme,
        })
    }
}

/// A host: a name or an address. IPv6 addresses are printed in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A domain name, as it was written.
    Name(String),
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// `tel:` and other schemes have none; prints as nothing.
    Absent,
}

impl Host {
    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ipv4(ip) => Some((*ip).into()),
            Self::Ipv6(ip) => Some((*ip).into()),
            Self::Name(_) | Self::Absent => None,
        }
    }

    /// Whether both name the same host; names compare without regard to case.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            _ => self == other,
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::Ipv4(ip),
            IpAddr::V6(ip) => Self::Ipv6(ip),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ipv4(ip) => ip.fmt(f),
            Self::Ipv6(ip) => write!(f, "[{ip}]"),
            Self::Absent => Ok(()),
        }
    }
}

impl FromStr for Host {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner
                .strip_suffix(']')
                .ok_or(ValueError("`[` has no `]`"))?;
            return inner
                .parse()
                .map(Self::Ipv6)
                .map_err(|_| ValueError("an IPv6 address stands between `[` and `]`"));
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ipv4(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let labels_are_good = !name.is_empty()
            && name.split('.').all(|label| {
                // The underscore is not in the grammar, but in the names of many an office network.
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            });
        let ends_in_digits = name
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
        // RFC 3261 section 25.1: the top label begins with a letter, so 300.1.2.3 is no name.
        if labels_are_good && !ends_in_digits {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(ValueError(
                "a host is a name, an IPv4 address or an IPv6 address in brackets",
            ))
        }
    }
}

/// Reads `host[:port]`, white space around the colon allowed (`sent-by` has COLON).
pub(crate) fn host_and_port(text: &str) -> Result<(Host, Option<u16>), ValueError> {
    let end = match text.strip_prefix('[') {
        Some(_) => text.find(']').map_or(text.len(), |at| at + 1),
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let host = host.trim_matches([' ', '\t']).parse()?;
    let rest = rest.trim_matches([' ', '\t']);
    if rest.is_empty() {
        return Ok((host, None));
    }
    let digits = rest
        .strip_prefix(':')
        .ok_or(ValueError("after a host comes `:` and a port"))?
        .trim_matches([' ', '\t']);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ValueError("a port is a number"));
    }
    let port = digits
        .parse()
        .map_err(|_| ValueError("a port is at most 65535"))?;
    Ok((host, Some(port)))
}

/// A URI. Everything is kept as it was written, escapes too; comparison undoes them
/// ([`Uri::is_equivalent`]), while `==` compares the spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    /// The scheme.
    pub scheme: Scheme,
    /// The user part, escaped; the number of a `tel:` URI; everything after the colon
    /// of another scheme.
    pub user: Option<String>,
    /// The password, escaped (RFC 3261 section 19.1.1 advises against it).
    pub password: Option<String>,
    /// The host; [`Host::Absent`] for schemes other than sip and sips.
    pub host: Host,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// The parameters, escaped. Ask [`Uri::param`] when escapes matter.
    pub params: Params,
    /// What follows `?`: names and values, escaped.
    pub headers: Vec<(String, String)>,
}

impl Uri {
    /// `sip:user@host:port`. Characters of `user` that need it are escaped.
    pub fn sip(user: Option<&str>, host: Host, port: Option<u16>) -> Self {
        Self {
            scheme: Scheme::Sip,
            user: user.map(escape_user),
            password: None,
            host,
            port,
            params: Params::new(),
            headers: Vec::new(),
        }
    }

    /// `sip:user@address:port`.
    pub fn at(user: Option<&str>, address: SocketAddr) -> Self {
        Self::sip(user, address.ip().into(), Some(address.port()))
    }

    /// Whether the scheme is sip or sips.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user part with escapes undone; bytes that are not UTF-8 become U+FFFD.
    pub fn user_text(&self) -> Option<String> {
        self.user.as_deref().map(decoded)
    }

    /// The value of a parameter, both with escapes undone; empty for one without a value.
    pub fn param(&self, name: &str) -> Option<String> {
        self.params
            .iter()
            .find(|(n, _)| decoded(n).eq_ignore_ascii_case(name))
            .map(|(_, value)| decoded(value.unwrap_or_default()))
    }

    /// Whether it has `;lr`, the loose router's mark (RFC 3261 section 19.1.1).
    pub fn is_loose_router(&self) -> bool {
        self.param("lr").is_some()
    }

    /// The `transport` parameter in lower case.
    pub fn transport(&self) -> Option<String> {
        self.param("transport").map(|t| t.to_ascii_lowercase())
    }

    /// Adds or replaces a parameter and gives the URI back, for building one in a line.
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Self {
        self.params.set(name, value);
        self
    }

    /// The comparison of RFC 3261 section 19.1.4 (RFC 3966 section 5 for tel).
    pub fn is_equivalent(&self, other: &Self) -> bool {
        if self.scheme != other.scheme {
            return false;
        }
        match &self.scheme {
            Scheme::Sip | Scheme::Sips => {
                same_escaped(self.user.as_deref(), other.user.as_deref())
                    && same_escaped(self.password.as_deref(), other.password.as_deref())
                    && self.host.is_same(&other.host)
                    && self.port == other.port
                    && self.params_match(other)
                    && self.headers_match(other)
            }
            Scheme::Tel => {
                tel_digits(self.user.as_deref()) == tel_digits(other.user.as_deref())
                    && self.params.len() == other.params.len()
                    && self.params.iter().all(|(name, value)| {
                        other.params.has(name)
                            && tel_digits(other.params.value(name)) == tel_digits(value)
                    })
            }
            Scheme::Other(_) => self.user == other.user,
        }
    }

    fn params_match(&self, other: &Self) -> bool {
        // These count even when only one side names them, whatever their default.
        const ALWAYS: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
        let common_ones_match = self.params.iter().all(|(name, value)| {
            other
                .param(&decoded(name))
                .is_none_or(|there| there.eq_ignore_ascii_case(&decoded(value.unwrap_or_default())))
        });
        common_ones_match
            && ALWAYS
                .iter()
                .all(|name| self.param(name).is_some() == other.param(name).is_some())
    }

    fn headers_match(&self, other: &Self) -> bool {
        let normal = |uri: &Self| {
            let mut list: Vec<_> = uri
                .headers
                .iter()
                .map(|(n, v)| (decoded(n).to_ascii_lowercase(), decoded(v)))
                .collect();
            list.sort();
            list
        };
        normal(self) == normal(other)
    }
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&unescape(text)).into_owned()
}

/// RFC 3261 section 19.1.4: an escape equals the character it stands for, unless that
/// character is reserved.
fn same_escaped(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => normal_escapes(a) == normal_escapes(b),
        (a, b) => a == b,
    }
}

fn normal_escapes(text: &str) -> Vec<u8> {
    const RESERVED: &[u8] = b";/?:@&=+$,%";
    let mut normal = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (plain, escape) = rest.split_at(at);
        normal.extend_from_slice(plain.as_bytes());
        let (escape, tail) = escape.split_at_checked(3).unwrap_or((escape, ""));
        match &*unescape(escape) {
            [byte] if !RESERVED.contains(byte) => normal.push(*byte),
            _ => normal.extend_from_slice(escape.to_ascii_uppercase().as_bytes()),
        }
        rest = tail;
    }
    normal.extend_from_slice(rest.as_bytes());
    normal
}

/// A telephone number without its visual separators (RFC 3966 section 5).
fn tel_digits(number: Option<&str>) -> String {
    number
        .unwrap_or_default()
        .chars()
        .filter(|c| !matches!(c, '-' | '.' | '(' | ')'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

const UNRESERVED_MARKS: &[u8] = b"-_.!~*'()";

fn is_user_byte(byte: u8) -> bool {
    // user-unreserved, and `#`, which star codes need and no grammar misreads.
    byte.is_ascii_alphanumeric() || UNRESERVED_MARKS.contains(&byte) || b"&=+$,;?/#".contains(&byte)
}

fn escape_user(user: &str) -> String {
    let mut escaped = String::with_capacity(user.len());
    for byte in user.bytes() {
        if is_user_byte(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn all_of(text: &str, also: &[u8]) -> bool {
    escapes_are_whole(text)
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric()
                || b == b'%'
                || UNRESERVED_MARKS.contains(&b)
                || also.contains(&b)
        })
}

impl FromStr for Uri {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (scheme, rest) = text
            .split_once(':')
            .ok_or(ValueError("a URI has a scheme and `:`"))?;
        let scheme_is_good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !scheme_is_good {
            return Err(ValueError(
                "a URI's scheme is letters, digits, `+`, `-` and `.`",
            ));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "sip" => sip_uri(Scheme::Sip, rest),
            "sips" => sip_uri(Scheme::Sips, rest),
            "tel" => tel_uri(rest),
            other => other_uri(other, rest),
        }
    }
}

fn sip_uri(scheme: Scheme, rest: &str) -> Result<Uri, ValueError> {
    // An unescaped `@` can stand nowhere but after the user part.
    let (userinfo, rest) = match rest.split_once('@') {
        Some((userinfo, rest)) => (Some(userinfo), rest),
        None => (None, rest),
    };
    let (user, password) = match userinfo {
        Some(userinfo) => match userinfo.split_once(':') {
            Some((user, password)) => (Some(user), Some(password)),
            None => (Some(userinfo), None),
        },
        None => (None, None),
    };
    if user.is_some_and(|user| user.is_empty() || !all_of(user, b"&=+$,;?/#")) {
        return Err(ValueError(
            "a URI's user part is empty or holds a character that must be escaped",
        ));
    }
    if password.is_some_and(|password| !all_of(password, b"&=+$,")) {
        return Err(ValueError(
            "a URI's password holds a character that must be escaped",
        ));
    }
    let (rest, headers) = match rest.split_once('?') {
        Some((rest, headers)) => (rest, uri_headers(headers)?),
        None => (rest, Vec::new()),
    };
    let (hostport, params) = match rest.split_once(';') {
        Some((hostport, params)) => (hostport, uri_params(params)?),
        None => (rest, Params::new()),
    };
    if hostport.contains([' ', '\t']) {
        return Err(ValueError("a URI has no white space"));
    }
    let (host, port) = host_and_port(hostport)?;
    Ok(Uri {
        scheme,
        user: user.map(str::to_owned),
        password: password.map(str::to_owned),
        host,
        port,
        params,
        headers,
    })
}

fn uri_params(text: &str) -> Result<Params, ValueError> {
    text.split(';')
        .map(|piece| {
            let (name, value) = match piece.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (piece, None),
            };
            if name.is_empty() || !all_of(name, b"[]/:&+$") {
                return Err(ValueError(
                    "a URI parameter has a name without special characters",
                ));
            }
            // `=` and `"` are not in the grammar but in Contacts of the field; only `=` is harmless.
            if value.is_some_and(|value| !all_of(value, b"[]/:&+$=,#")) {
                return Err(ValueError(
                    "a URI parameter's value holds a character that must be escaped",
                ));
            }
            Ok((name.to_owned(), value.map(str::to_owned)))
        })
        .collect::<Result<_, _>>()
        .map(Params)
}

fn uri_headers(text: &str) -> Result<Vec<(String, String)>, ValueError> {
    text.split('&')
        .map(|piece| {
            let (name, value) = piece
                .split_once('=')
                .ok_or(ValueError("a URI header has `=`"))?;
            if name.is_empty() || !all_of(name, b"[]/?:+$") || !all_of(value, b"[]/?:+$=;,") {
                return Err(ValueError(
                    "a URI header holds a character that must be escaped",
                ));
            }
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn tel_uri(rest: &str) -> Result<Uri, ValueError> {
    let (number, params) = match rest.split_once(';') {
        Some((number, params)) => (number, uri_params(params)?),
        None => (rest, Params::new()),
    };
    let digits = number.strip_prefix('+').unwrap_or(number);
    if tel_digits(Some(digits)).is_empty()
        || !digits
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b"*#-.()".contains(&b))
    {
        return Err(ValueError("a tel URI has a telephone number"));
    }
    Ok(Uri {
        params,
        ..bare(Scheme::Tel, number)
    })
}

fn other_uri(scheme: &str, rest: &str) -> Result<Uri, ValueError> {
    if rest.is_empty()
        || rest
            .bytes()
            .any(|b| !b.is_ascii_graphic() || b"<>\"".contains(&b))
    {
        return Err(ValueError(
            "a URI holds printable characters other than `<`, `>` and `\"`",
        ));
    }
    Ok(bare(Scheme::Other(scheme.to_owned()), rest))
}

fn bare(scheme: Scheme, user: &str) -> Uri {
    Uri {
        scheme,
        user: Some(user.to_owned()),
        password: None,
        host: Host::Absent,
        port: None,
        params: Params::new(),
        headers: Vec::new(),
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if let Some(password) = &self.password {
                write!(f, ":{password}")?;
            }
            if self.is_sip() {
                f.write_str("@")?;
            }
        }
        self.host.fmt(f)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.fmt(f)?;
        for (at, (name, value)) in self.headers.iter().enumerate() {
            write!(f, "{}{name}={value}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn reads_every_kind_of_host_and_user() {
        for (text, user, host, port) in [
            (
                "sip:john.doe@example.com",
                Some("john.doe"),
                "example.com",
                None,
            ),
            (
                "sips:a%40b@[2001:db8::1]:5061",
                Some("a%40b"),
                "[2001:db8::1]",
                Some(5061),
            ),
            ("sip:[::1]", None, "[::1]", None),
            ("SIP:192.0.2.1:5060", None, "192.0.2.1", Some(5060)),
            (
                "sip:+49(30)1-2@host_1.example.",
                Some("+49(30)1-2"),
                "host_1.example.",
                None,
            ),
            ("sip:*21#@pbx", Some("*21#"), "pbx", None),
            (
                "sip:alice;day=tuesday@atlanta.com",
                Some("alice;day=tuesday"),
                "atlanta.com",
                None,
            ),
        ] {
            let uri = uri(text);
            assert_eq!(uri.user.as_deref(), user, "{text}");
            assert_eq!(
                (uri.host.to_string().as_str(), uri.port),
                (host, port),
                "{text}"
            );
            assert_eq!(uri.to_string().to_lowercase(), text.to_lowercase());
        }
    }

    #[test]
    fn reads_tel() {
        let tel = uri("tel:+1-201-555-0123;phone-context=example.com");
        assert_eq!(
            (tel.scheme.clone(), tel.user.as_deref()),
            (Scheme::Tel, Some("+1-201-555-0123"))
        );
        assert_eq!(tel.param("phone-context").as_deref(), Some("example.com"));
        assert!(tel.is_equivalent(&uri("tel:+12015550123;phone-context=example.com")));
        assert!(!tel.is_equivalent(&uri("tel:+12015550123")));
        assert_eq!(
            tel.to_string(),
            "tel:+1-201-555-0123;phone-context=example.com"
        );
    }

    #[test]
    fn refuses_what_is_no_uri() {
        for bad in [
            "",
            "sip",
            "sip:",
            "sip:@b",
            "sip:a@",
            "sip:a@b@c",
            "sip:a b@c",
            "sip:a@b c",
            "sip:a@b:",
            "sip:a@b:x",
            "sip:a@b:65536",
            "sip:a@300.1.1.1",
            "sip:a@[::1",
            "sip:a@::1",
            "sip:a@[1.2.3.4]",
            "sip:a%4@b",
            "sip:a@b;",
            "sip:a@b;;x",
            "sip:a@b;x=\"",
            "sip:a@b?x",
            "sip:a<b@c",
            "sip:a@b..c",
            "sip:jürgen@b",
            "1x:y",
            "tel:",
            "tel:++1",
            "tel:abc xyz",
            "http:<a>",
            "nothing:",
        ] {
            assert!(bad.parse::<Uri>().is_err(), "{bad:?}");
        }
    }

    /// The examples of RFC 3261 section 19.1.4.
    #[test]
    fn compares_as_the_rfc_says() {
        for (a, b) in [
            (
                "sip:%61lice@atlanta.com;transport=TCP",
                "sip:alice@AtLanTa.CoM;Transport=tcp",
            ),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            (
                "sip:carol@chicago.com;security=on",
                "sip:carol@chicago.com;newparam=5",
            ),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ] {
            assert!(
                uri(a).is_equivalent(&uri(b)) && uri(b).is_equivalent(&uri(a)),
                "{a} {b}"
            );
        }
        for (a, b) in [
            (
                "SIP:ALICE@AtLanTa.CoM;Transport=udp",
                "sip:alice@AtLanTa.CoM;Transport=UDP",
            ),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            (
                "sip:bob@biloxi.com",
                "sip:bob@biloxi.com:6000;transport=tcp",
            ),
            (
                "sip:carol@chicago.com",
                "sip:carol@chicago.com?Subject=next%20meeting",
            ),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            (
                "sip:carol@chicago.com;security=on",
                "sip:carol@chicago.com;security=off",
            ),
            ("sip:a@b", "sips:a@b"),
            ("sip:a%40b@c", "sip:a%2540b@c"),
            ("sip:a%3Bb@c", "sip:a;b@c"),
        ] {
            assert!(
                !uri(a).is_equivalent(&uri(b)) && !uri(b).is_equivalent(&uri(a)),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn builds_with_escapes() {
        let at = Uri::at(Some("a b@c"), "[2001:db8::1]:5070".parse().unwrap());
        assert_eq!(at.to_string(), "sip:a%20b%40c@[2001:db8::1]:5070");
        assert_eq!(at.user_text().as_deref(), Some("a b@c"));
        let lr = uri("sip:p.example.com").with_param("lr", None);
        assert_eq!(lr.to_string(), "sip:p.example.com;lr");
        assert!(lr.is_loose_router());
        assert_eq!(
            uri("sip:p;TransPort=TcP").transport().as_deref(),
            Some("tcp")
        );
    }
}
