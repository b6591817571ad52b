//! When two URIs are the same (RFC 3261 section 19.1.4, RFC 3966 section 5).

use super::{Scheme, Uri, decoded};
use crate::syntax::unescape;

impl Uri {
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
pub(super) fn tel_digits(number: Option<&str>) -> String {
    number
        .unwrap_or_default()
        .chars()
        .filter(|c| !matches!(c, '-' | '.' | '(' | ')'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}
