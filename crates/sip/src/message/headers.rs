//! The header fields of a message, in order, with typed access.

use std::borrow::Cow;

use super::name::HeaderName;
use super::values::{CSeq, Challenge, MediaType, NameAddr, RAck, Via, Warning};
use super::{Method, ParseErrorKind};
use crate::syntax::{ValueError, number, split_outside, text, trim};

/// What is wrong with a header field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A mandatory header field is absent.
    #[error("no {0} header field")]
    Missing(HeaderName),
    /// A header field that may stand once stands there again.
    #[error("more than one {0} header field")]
    Repeated(HeaderName),
    /// Its value does not match the grammar.
    #[error("bad {0}: {1}")]
    Malformed(HeaderName, ValueError),
}

impl From<HeaderError> for ParseErrorKind {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

/// One header field: a name, and a value without folds and without white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: HeaderName,
    pub(crate) value: Vec<u8>,
}

impl Header {
    /// The value's bytes. They never hold CR or LF.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// The header fields of a message, in order.
///
/// Values are bytes. The typed accessors read them when asked; a message that came through
/// [`super::Message::parse_datagram`] has a readable Via, From, To, Call-ID, CSeq, and
/// Contact, Route and Record-Route if present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// No header fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many header fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }

    /// Appends a header field. CR and LF in the value become spaces.
    pub fn push(&mut self, name: impl Into<HeaderName>, value: impl AsRef<[u8]>) {
        self.0.push(header(name.into(), value.as_ref()));
    }

    /// Puts a header field before all others of its name; at the very front if there are none.
    pub fn insert_front(&mut self, name: impl Into<HeaderName>, value: impl AsRef<[u8]>) {
        let name = name.into();
        let at = self.0.iter().position(|h| h.name == name).unwrap_or(0);
        self.0.insert(at, header(name, value.as_ref()));
    }

    /// Replaces all header fields of that name by one, in the place of the first.
    pub fn set(&mut self, name: impl Into<HeaderName>, value: impl AsRef<[u8]>) {
        let name = name.into();
        let at = self
            .0
            .iter()
            .position(|h| h.name == name)
            .unwrap_or(self.0.len());
        self.remove(name.clone());
        self.0
            .insert(at.min(self.0.len()), header(name, value.as_ref()));
    }

    /// Removes all header fields of that name; how many there were.
    pub fn remove(&mut self, name: impl Into<HeaderName>) -> usize {
        let (name, before) = (name.into(), self.0.len());
        self.0.retain(|h| h.name != name);
        before - self.0.len()
    }

    /// Appends all header fields of that name from `other`, bytes as they are.
    pub fn copy(&mut self, name: impl Into<HeaderName>, other: &Headers) {
        let name = name.into();
        self.0
            .extend(other.0.iter().filter(|h| h.name == name).cloned());
    }

    /// Whether a header field of that name is there.
    pub fn contains(&self, name: impl Into<HeaderName>) -> bool {
        self.get_bytes(name).is_some()
    }

    /// The bytes of the first header field of that name.
    pub fn get_bytes(&self, name: impl Into<HeaderName>) -> Option<&[u8]> {
        let name = name.into();
        self.0.iter().find(|h| h.name == name).map(Header::value)
    }

    /// The first header field of that name as text; bytes that are not UTF-8 become U+FFFD.
    pub fn get(&self, name: impl Into<HeaderName>) -> Option<Cow<'_, str>> {
        self.get_bytes(name).map(String::from_utf8_lossy)
    }

    /// The bytes of every header field of that name, in order, commas not looked at.
    pub fn all(&self, name: impl Into<HeaderName>) -> impl Iterator<Item = &[u8]> {
        let name = name.into();
        self.0
            .iter()
            .filter(move |h| h.name == name)
            .map(Header::value)
    }

    /// Every value of a list, over all header fields of that name and the commas in each.
    fn list<T>(
        &self,
        name: HeaderName,
        read: impl Fn(&[u8]) -> Result<T, ValueError>,
    ) -> Result<Vec<T>, HeaderError> {
        let mut values = Vec::new();
        for line in self.all(name.clone()) {
            let pieces =
                split_outside(line, b',').map_err(|e| HeaderError::Malformed(name.clone(), e))?;
            for piece in pieces {
                values.push(read(piece).map_err(|e| HeaderError::Malformed(name.clone(), e))?);
            }
        }
        Ok(values)
    }

    /// A list of tokens; empty pieces are passed over, since `Supported:` may be empty.
    fn tokens(&self, name: HeaderName) -> Vec<String> {
        self.all(name)
            .flat_map(|line| line.split(|b| *b == b','))
            .map(trim)
            .filter(|piece| !piece.is_empty())
            .map(text)
            .collect()
    }

    /// The value of a header field that stands exactly once.
    fn single<T>(
        &self,
        name: HeaderName,
        read: impl Fn(&[u8]) -> Result<T, ValueError>,
    ) -> Result<T, HeaderError> {
        let mut all = self.all(name.clone());
        match (all.next(), all.next()) {
            (None, _) => Err(HeaderError::Missing(name)),
            (Some(_), Some(_)) => Err(HeaderError::Repeated(name)),
            (Some(value), None) => read(value).map_err(|e| HeaderError::Malformed(name, e)),
        }
    }

    /// A number of at most 32 bits; absent, malformed and too large are all none.
    fn number(&self, name: HeaderName) -> Option<u32> {
        u32::try_from(number(self.get_bytes(name)?)?).ok()
    }

    /// Every Via value, topmost first.
    pub fn vias(&self) -> Result<Vec<Via>, HeaderError> {
        self.list(HeaderName::Via, Via::parse)
    }

    /// The topmost Via value.
    pub fn top_via(&self) -> Result<Via, HeaderError> {
        let bytes = self
            .get_bytes(HeaderName::Via)
            .ok_or(HeaderError::Missing(HeaderName::Via))?;
        let malformed = |e| HeaderError::Malformed(HeaderName::Via, e);
        let pieces = split_outside(bytes, b',').map_err(malformed)?;
        Via::parse(pieces.first().copied().unwrap_or_default()).map_err(malformed)
    }

    /// Replaces the topmost Via value and leaves the others as they are.
    pub fn set_top_via(&mut self, via: &Via) {
        match self.0.iter_mut().find(|h| h.name == HeaderName::Via) {
            Some(first) => {
                let mut value = via.to_string().into_bytes();
                for piece in split_outside(&first.value, b',')
                    .unwrap_or_default()
                    .iter()
                    .skip(1)
                {
                    value.extend_from_slice(b", ");
                    value.extend_from_slice(piece);
                }
                first.value = value;
            }
            None => self.insert_front(HeaderName::Via, via.to_string()),
        }
    }

    /// Removes the topmost Via value, as a proxy does with a response.
    pub fn pop_via(&mut self) {
        let Some(at) = self.0.iter().position(|h| h.name == HeaderName::Via) else {
            return;
        };
        let rest = self.0.get(at).map(|first| {
            let pieces = split_outside(&first.value, b',').unwrap_or_default();
            pieces.get(1..).unwrap_or_default().join(&b", "[..])
        });
        match (rest, self.0.get_mut(at)) {
            (Some(rest), Some(first)) if !rest.is_empty() => first.value = rest,
            _ => drop(self.0.remove(at)),
        }
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        self.single(HeaderName::From, NameAddr::parse)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        self.single(HeaderName::To, NameAddr::parse)
    }

    /// Call-ID, a word that compares byte by byte.
    pub fn call_id(&self) -> Result<String, HeaderError> {
        self.single(HeaderName::CallId, |value| {
            if value.is_empty() || value.iter().any(|b| !b.is_ascii_graphic()) {
                return Err(ValueError("a Call-ID is one word"));
            }
            Ok(text(value))
        })
    }

    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        self.single(HeaderName::CSeq, CSeq::parse)
    }

    /// Whether Contact is `*` (RFC 3261 section 10.2.2).
    pub fn is_wildcard_contact(&self) -> bool {
        self.get_bytes(HeaderName::Contact) == Some(b"*")
    }

    /// Every Contact; none for `*`.
    pub fn contacts(&self) -> Result<Vec<NameAddr>, HeaderError> {
        if self.is_wildcard_contact() {
            return Ok(Vec::new());
        }
        self.list(HeaderName::Contact, NameAddr::parse)
    }

    /// Every Route value, topmost first.
    pub fn routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::Route, NameAddr::parse)
    }

    /// Every Record-Route value, topmost first.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::RecordRoute, NameAddr::parse)
    }

    /// The option tags of Require.
    pub fn require(&self) -> Vec<String> {
        self.tokens(HeaderName::Require)
    }

    /// The option tags of Proxy-Require.
    pub fn proxy_require(&self) -> Vec<String> {
        self.tokens(HeaderName::ProxyRequire)
    }

    /// The option tags of Supported.
    pub fn supported(&self) -> Vec<String> {
        self.tokens(HeaderName::Supported)
    }

    /// The option tags of Unsupported.
    pub fn unsupported(&self) -> Vec<String> {
        self.tokens(HeaderName::Unsupported)
    }

    /// The methods of Allow.
    pub fn allow(&self) -> Vec<Method> {
        let tokens = self.tokens(HeaderName::Allow);
        tokens
            .iter()
            .filter_map(|token| token.parse().ok())
            .collect()
    }

    /// The media types of Accept; none when there is no such header field, which stands
    /// for `application/sdp` (RFC 3261 section 20.1).
    pub fn accept(&self) -> Option<Vec<MediaType>> {
        self.contains(HeaderName::Accept).then(|| {
            self.all(HeaderName::Accept)
                .flat_map(|line| split_outside(line, b',').unwrap_or_default())
                .filter_map(|piece| MediaType::parse(piece).ok())
                .collect()
        })
    }

    /// Content-Type.
    pub fn content_type(&self) -> Option<MediaType> {
        self.single(HeaderName::ContentType, MediaType::parse).ok()
    }

    /// Max-Forwards; one above 255 counts as absent (RFC 4475 section 3.1.2.4).
    pub fn max_forwards(&self) -> Option<u8> {
        u8::try_from(self.number(HeaderName::MaxForwards)?).ok()
    }

    /// Expires in seconds.
    pub fn expires(&self) -> Option<u32> {
        self.number(HeaderName::Expires)
    }

    /// Min-Expires in seconds.
    pub fn min_expires(&self) -> Option<u32> {
        self.number(HeaderName::MinExpires)
    }

    /// Retry-After in seconds; comment and parameters are passed over.
    pub fn retry_after(&self) -> Option<u32> {
        let value = self.get_bytes(HeaderName::RetryAfter)?;
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        u32::try_from(number(value.get(..digits)?)?).ok()
    }

    /// RSeq (RFC 3262).
    pub fn rseq(&self) -> Option<u32> {
        self.number(HeaderName::RSeq)
    }

    /// RAck (RFC 3262).
    pub fn rack(&self) -> Result<RAck, HeaderError> {
        self.single(HeaderName::RAck, RAck::parse)
    }

    /// Every readable challenge of WWW-Authenticate.
    pub fn www_authenticate(&self) -> Vec<Challenge> {
        self.challenges(HeaderName::WwwAuthenticate)
    }

    /// Every readable challenge of Proxy-Authenticate.
    pub fn proxy_authenticate(&self) -> Vec<Challenge> {
        self.challenges(HeaderName::ProxyAuthenticate)
    }

    /// Every readable value of Authorization.
    pub fn authorization(&self) -> Vec<Challenge> {
        self.challenges(HeaderName::Authorization)
    }

    /// Every readable value of Proxy-Authorization.
    pub fn proxy_authorization(&self) -> Vec<Challenge> {
        self.challenges(HeaderName::ProxyAuthorization)
    }

    /// Commas separate parameters here, not values (RFC 3261 section 7.3.1).
    fn challenges(&self, name: HeaderName) -> Vec<Challenge> {
        self.all(name)
            .filter_map(|line| Challenge::parse(line).ok())
            .collect()
    }

    /// Every readable Warning.
    pub fn warnings(&self) -> Vec<Warning> {
        self.all(HeaderName::Warning)
            .flat_map(|line| split_outside(line, b',').unwrap_or_default())
            .filter_map(|piece| Warning::parse(piece).ok())
            .collect()
    }
}

fn header(name: HeaderName, value: &[u8]) -> Header {
    let clean = |b: &u8| if *b == b'\r' || *b == b'\n' { b' ' } else { *b };
    let value: Vec<u8> = value.iter().map(clean).collect();
    Header {
        name,
        value: trim(&value).to_vec(),
    }
}
