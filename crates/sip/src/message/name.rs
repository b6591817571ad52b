//! Names of header fields and their compact forms (RFC 3261 section 7.3.3).

use std::fmt;
use std::hash::{Hash, Hasher};

macro_rules! header_names {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $compact:expr;)*) => {
        /// The name of a header field. Names compare without regard to case, and a
        /// compact form is the same name.
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub enum HeaderName {
            $($(#[$doc])* $variant,)*
            /// Any other.
            Other(String),
        }

        impl HeaderName {
            /// The name in its long form.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(name) => name,
                }
            }

            /// The name in its compact form, where it has one.
            pub fn as_compact_str(&self) -> &str {
                let compact = match self {
                    $(Self::$variant => $compact,)*
                    Self::Other(_) => "",
                };
                if compact.is_empty() { self.as_str() } else { compact }
            }

            fn known(name: &str) -> Option<Self> {
                const COMPACT: &[(&str, HeaderName)] = &[$(($compact, HeaderName::$variant),)*];
                const LONG: &[(&str, HeaderName)] = &[$(($name, HeaderName::$variant),)*];
                let table = if name.len() == 1 { COMPACT } else { LONG };
                table
                    .iter()
                    .find(|(known, _)| known.eq_ignore_ascii_case(name))
                    .map(|(_, variant)| variant.clone())
            }
        }
    };
}

header_names! {
    /// Accept
    Accept, "Accept", "";
    /// Accept-Encoding
    AcceptEncoding, "Accept-Encoding", "";
    /// Accept-Language
    AcceptLanguage, "Accept-Language", "";
    /// Alert-Info
    AlertInfo, "Alert-Info", "";
    /// Allow
    Allow, "Allow", "";
    /// Allow-Events, `u`
    AllowEvents, "Allow-Events", "u";
    /// Authentication-Info
    AuthenticationInfo, "Authentication-Info", "";
    /// Authorization
    Authorization, "Authorization", "";
    /// Call-ID, `i`
    CallId, "Call-ID", "i";
    /// Call-Info
    CallInfo, "Call-Info", "";
    /// Contact, `m`
    Contact, "Contact", "m";
    /// Content-Disposition
    ContentDisposition, "Content-Disposition", "";
    /// Content-Encoding, `e`
    ContentEncoding, "Content-Encoding", "e";
    /// Content-Language
    ContentLanguage, "Content-Language", "";
    /// Content-Length, `l`. The parser takes it away and the printer writes it anew.
    ContentLength, "Content-Length", "l";
    /// Content-Type, `c`
    ContentType, "Content-Type", "c";
    /// CSeq
    CSeq, "CSeq", "";
    /// Date
    Date, "Date", "";
    /// Event, `o`
    Event, "Event", "o";
    /// Expires
    Expires, "Expires", "";
    /// From, `f`
    From, "From", "f";
    /// In-Reply-To
    InReplyTo, "In-Reply-To", "";
    /// Info-Package (RFC 6086)
    InfoPackage, "Info-Package", "";
    /// Max-Forwards
    MaxForwards, "Max-Forwards", "";
    /// Min-Expires
    MinExpires, "Min-Expires", "";
    /// Organization
    Organization, "Organization", "";
    /// Path (RFC 3327)
    Path, "Path", "";
    /// Proxy-Authenticate
    ProxyAuthenticate, "Proxy-Authenticate", "";
    /// Proxy-Authorization
    ProxyAuthorization, "Proxy-Authorization", "";
    /// Proxy-Require
    ProxyRequire, "Proxy-Require", "";
    /// RAck (RFC 3262)
    RAck, "RAck", "";
    /// Reason (RFC 3326)
    Reason, "Reason", "";
    /// Record-Route
    RecordRoute, "Record-Route", "";
    /// Recv-Info (RFC 6086)
    RecvInfo, "Recv-Info", "";
    /// Refer-To, `r`
    ReferTo, "Refer-To", "r";
    /// Referred-By, `b`
    ReferredBy, "Referred-By", "b";
    /// Replaces
    Replaces, "Replaces", "";
    /// Require
    Require, "Require", "";
    /// Retry-After
    RetryAfter, "Retry-After", "";
    /// Route
    Route, "Route", "";
    /// RSeq (RFC 3262)
    RSeq, "RSeq", "";
    /// Server
    Server, "Server", "";
    /// Session-Expires, `x`
    SessionExpires, "Session-Expires", "x";
    /// Subject, `s`
    Subject, "Subject", "s";
    /// Supported, `k`
    Supported, "Supported", "k";
    /// Timestamp
    Timestamp, "Timestamp", "";
    /// To, `t`
    To, "To", "t";
    /// Unsupported
    Unsupported, "Unsupported", "";
    /// User-Agent
    UserAgent, "User-Agent", "";
    /// Via, `v`
    Via, "Via", "v";
    /// Warning
    Warning, "Warning", "";
    /// WWW-Authenticate
    WwwAuthenticate, "WWW-Authenticate", "";
}

impl From<&str> for HeaderName {
    /// Any spelling. What is no token character is left out, so that a name made up at run
    /// time cannot break the message.
    fn from(name: &str) -> Self {
        Self::known(name).unwrap_or_else(|| {
            let token = name.bytes().filter(|b| crate::syntax::is_token_byte(*b));
            Self::Other(token.map(char::from).collect())
        })
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str().eq_ignore_ascii_case(other.as_str())
    }
}

impl Eq for HeaderName {}

impl Hash for HeaderName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.as_str().bytes() {
            byte.to_ascii_lowercase().hash(state);
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_and_compact_forms_are_one_name() {
        for (spelling, name) in [
            ("vIA", HeaderName::Via),
            ("v", HeaderName::Via),
            ("I", HeaderName::CallId),
            ("call-id", HeaderName::CallId),
            ("x-own", HeaderName::Other("X-Own".to_owned())),
        ] {
            assert_eq!(HeaderName::from(spelling), name);
        }
        assert_eq!(HeaderName::from("q").as_str(), "q");
        assert_eq!(HeaderName::from("").as_str(), "");
        assert_eq!(HeaderName::from("a\r\nb: c").as_str(), "abc");
    }
}
