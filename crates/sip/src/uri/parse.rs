//! From text to a URI.

use std::str::FromStr;

use super::compare::tel_digits;
use super::{Host, Scheme, UNRESERVED_MARKS, Uri};
use crate::params::Params;
use crate::syntax::{ValueError, escapes_are_whole};

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
