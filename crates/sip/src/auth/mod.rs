//! Answers to digest challenges (RFC 3261 section 22, RFC 8760).

mod digest;

use crate::endpoint::AuthCredentials;
use crate::message::{Challenge, HeaderName, Request, Response};

use digest::{Algorithm, Calculation};

/// How many realms one call or registration remembers: a proxy or two and the peer.
const MAX_REALMS: usize = 4;
/// How often one request follows a `stale` challenge, which costs the server nothing to repeat.
const MAX_STALE: u8 = 2;

/// Who asked for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// 401
    Server,
    /// 407
    Proxy,
}

impl Asker {
    fn answer_header(self) -> HeaderName {
        match self {
            Self::Server => HeaderName::Authorization,
            Self::Proxy => HeaderName::ProxyAuthorization,
        }
    }
}

/// One protected realm and the nonce that it gave last.
#[derive(Debug, Clone)]
struct Realm {
    asker: Asker,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// The name as the challenge spells it, if it does.
    algorithm_name: Option<String>,
    algorithm: Algorithm,
    qop: bool,
    /// How often the nonce was used (`nc`).
    count: u32,
}

/// The realms that a call or a registration has met: they are answered unasked from then on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Realms(Vec<Realm>);

/// Which challenges one request has answered, over all its repetitions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts(Vec<(Asker, String, u8)>);

impl Realms {
    /// Takes in the challenges of a 401 or 407. Whether sending the request again makes sense:
    /// a realm that turns down an answer to its own challenge will not take it twice.
    pub(crate) fn challenged(&mut self, response: &Response, attempts: &mut Attempts) -> bool {
        let mut answerable = false;
        let lists = [
            (Asker::Server, response.headers.www_authenticate()),
            (Asker::Proxy, response.headers.proxy_authenticate()),
        ];
        for (asker, challenges) in lists {
            let mut settled: Vec<String> = Vec::new();
            for challenge in challenges {
                let Some(realm) = readable(asker, &challenge) else {
                    continue;
                };
                // RFC 8760 section 2.4: the topmost challenge that we understand.
                if settled.contains(&realm.realm) {
                    continue;
                }
                settled.push(realm.realm.clone());
                let stale = challenge
                    .param("stale")
                    .is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
                if !attempts.allows(asker, &realm.realm, stale) {
                    return false;
                }
                self.remember(realm);
                answerable = true;
            }
        }
        answerable
    }

    fn remember(&mut self, realm: Realm) {
        self.0
            .retain(|old| (old.asker, &old.realm) != (realm.asker, &realm.realm));
        if self.0.len() >= MAX_REALMS {
            self.0.remove(0);
        }
        self.0.push(realm);
    }

    /// `Authentication-Info: nextnonce="…"` (RFC 2617 section 3.2.3): saves the next round trip.
    pub(crate) fn next_nonce(&mut self, response: &Response) {
        let Some(value) = response.headers.get_bytes(HeaderName::AuthenticationInfo) else {
            return;
        };
        // The header field has a challenge's parameters without its scheme.
        let mut line = b"Digest ".to_vec();
        line.extend_from_slice(value);
        let next = Challenge::parse(&line)
            .ok()
            .and_then(|info| info.param("nextnonce").map(str::to_owned));
        let server = self.0.iter_mut().find(|realm| realm.asker == Asker::Server);
        if let (Some(next), Some(realm)) = (next, server) {
            realm.nonce = next;
            realm.count = 0;
        }
    }

    /// Puts credentials for every realm met so far into the request, in place of old ones.
    pub(crate) fn authorize(
        &mut self,
        credentials: &AuthCredentials,
        cnonce: &str,
        request: &mut Request,
    ) {
        request.headers.remove(HeaderName::Authorization);
        request.headers.remove(HeaderName::ProxyAuthorization);
        for realm in &mut self.0 {
            let value = realm.answer(credentials, cnonce, request);
            request
                .headers
                .push(realm.asker.answer_header(), value.to_string());
        }
    }
}

impl Attempts {
    fn allows(&mut self, asker: Asker, realm: &str, stale: bool) -> bool {
        let full = self.0.len() >= MAX_REALMS;
        let known = self
            .0
            .iter_mut()
            .find(|(who, name, _)| *who == asker && name == realm);
        match known {
            Some((_, _, times)) if stale && *times <= MAX_STALE => {
                *times += 1;
                true
            }
            Some(_) => false,
            None if full => false,
            None => {
                self.0.push((asker, realm.to_owned(), 1));
                true
            }
        }
    }
}

/// What a challenge asks for, if it is one that we can answer.
fn readable(asker: Asker, challenge: &Challenge) -> Option<Realm> {
    if !challenge.is_digest() {
        return None;
    }
    let algorithm_name = challenge.param("algorithm").map(str::to_owned);
    let qop = challenge.param("qop");
    let offers_auth = qop.is_some_and(|list| {
        list.split(',')
            .any(|q| q.trim().eq_ignore_ascii_case("auth"))
    });
    if qop.is_some() && !offers_auth {
        return None;
    }
    Some(Realm {
        asker,
        realm: challenge.param("realm")?.to_owned(),
        nonce: challenge.param("nonce")?.to_owned(),
        opaque: challenge.param("opaque").map(str::to_owned),
        algorithm: Algorithm::named(algorithm_name.as_deref())?,
        algorithm_name,
        qop: offers_auth,
        count: 0,
    })
}

impl Realm {
    fn answer(
        &mut self,
        credentials: &AuthCredentials,
        cnonce: &str,
        request: &Request,
    ) -> Challenge {
        self.count = self.count.saturating_add(1);
        let uri = request.uri.to_string();
        let response = Calculation {
            algorithm: self.algorithm,
            user: &credentials.user,
            realm: &self.realm,
            password: &credentials.password,
            method: request.method.as_str(),
            uri: &uri,
            nonce: &self.nonce,
            cnonce,
            count: self.qop.then_some(self.count),
        }
        .response();
        let mut params = vec![
            ("username", credentials.user.clone()),
            ("realm", self.realm.clone()),
            ("nonce", self.nonce.clone()),
            ("uri", uri),
            ("response", response),
        ];
        if let Some(name) = &self.algorithm_name {
            params.push(("algorithm", name.clone()));
        }
        if self.qop || self.algorithm.is_session() {
            params.push(("cnonce", cnonce.to_owned()));
        }
        if self.qop {
            params.push(("qop", "auth".to_owned()));
            params.push(("nc", format!("{:08x}", self.count)));
        }
        if let Some(opaque) = &self.opaque {
            params.push(("opaque", opaque.clone()));
        }
        Challenge {
            scheme: "Digest".to_owned(),
            params: params
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
