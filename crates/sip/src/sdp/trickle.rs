//! Trickled candidates: `application/trickle-ice-sdpfrag` (RFC 8840 section 9).

use ringtrue_ice::{Candidate, ComponentId, Credentials, IceDescription, Trickle};

use super::ice::{END_OF_CANDIDATES, candidate, candidate_value, checked_credentials};
use super::{MAX_CANDIDATES, MAX_DESCRIPTION, MAX_STREAMS};

/// Why bytes are no fragment that concerns the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// More than [`MAX_DESCRIPTION`] bytes.
    #[error("the fragment is longer than {MAX_DESCRIPTION} bytes")]
    TooLarge,
    /// More than [`MAX_STREAMS`] pseudo `m=` lines.
    #[error("the fragment has more than {MAX_STREAMS} streams")]
    TooManyStreams,
    /// Without ufrag and password nobody knows which generation the candidates belong to
    /// (RFC 8840 section 4.4).
    #[error("the fragment has no usable ice-ufrag and ice-pwd")]
    NoCredentials,
    /// No pseudo `m=` line bears the stream's `a=mid`.
    #[error("the fragment does not speak of the stream")]
    OtherStream,
}

/// What a fragment says about one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrickleFragment {
    /// The generation that the candidates belong to.
    pub credentials: Credentials,
    /// The candidates that can be used, in the order in which they stand there: addresses that are
    /// names, unknown types and transports are left out (RFC 8839 section 5.1). At most
    /// [`MAX_CANDIDATES`].
    pub candidates: Vec<Candidate>,
    /// No more will come.
    pub end_of_candidates: bool,
}

/// A pseudo `m=` section, or what stands before the first one.
#[derive(Debug, Default)]
struct Section<'a> {
    media: &'a str,
    mid: Option<&'a str>,
    ufrag: Option<&'a str>,
    pwd: Option<&'a str>,
    candidates: Vec<Candidate>,
    ended: bool,
}

impl<'a> Section<'a> {
    /// Takes an attribute; what this document does not define is passed over (section 9.2).
    fn take(&mut self, attribute: &'a str) {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let value = value.trim();
        let is = |wanted: &str| name.trim().eq_ignore_ascii_case(wanted);
        if is("candidate") {
            if self.candidates.len() < MAX_CANDIDATES {
                self.candidates.extend(candidate(value));
            }
        } else if is("mid") {
            self.mid.get_or_insert(value);
        } else if is("ice-ufrag") {
            self.ufrag.get_or_insert(value);
        } else if is("ice-pwd") {
            self.pwd.get_or_insert(value);
        } else if is(END_OF_CANDIDATES) {
            self.ended = true;
        }
    }
}

impl TrickleFragment {
    /// Reads what a fragment says about the audio stream that bears `mid` in offer and answer;
    /// without one there, about the first audio stream.
    ///
    /// # Errors
    /// [`FragmentError`], when nothing in it can be used.
    pub fn parse(bytes: &[u8], mid: Option<&str>) -> Result<Self, FragmentError> {
        if bytes.len() > MAX_DESCRIPTION {
            return Err(FragmentError::TooLarge);
        }
        let text = String::from_utf8_lossy(bytes);
        let mut session = Section::default();
        let mut streams: Vec<Section<'_>> = Vec::new();
        for line in text.split(['\r', '\n']) {
            if let Some(media) = line.strip_prefix("m=") {
                if streams.len() >= MAX_STREAMS {
                    return Err(FragmentError::TooManyStreams);
                }
                streams.push(Section {
                    media: media.trim(),
                    ..Section::default()
                });
            } else if let Some(attribute) = line.strip_prefix("a=") {
                streams.last_mut().unwrap_or(&mut session).take(attribute);
            }
        }
        let is_ours = |stream: &Section<'_>| match (mid, stream.mid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => is_audio(stream.media),
        };
        // The end of all candidates may be told without any stream.
        let stream = match streams.into_iter().find(is_ours) {
            Some(stream) => stream,
            None if session.ended => Section::default(),
            None => return Err(FragmentError::OtherStream),
        };
        let ufrag = stream.ufrag.or(session.ufrag);
        let pwd = stream.pwd.or(session.pwd);
        let credentials = ufrag
            .zip(pwd)
            .and_then(|(ufrag, pwd)| checked_credentials(ufrag, pwd))
            .ok_or(FragmentError::NoCredentials)?;
        Ok(Self {
            credentials,
            candidates: stream.candidates,
            end_of_candidates: stream.ended || session.ended,
        })
    }
}

fn is_audio(media: &str) -> bool {
    let kind = media.split_ascii_whitespace().next().unwrap_or_default();
    kind.eq_ignore_ascii_case("audio")
}

/// Our candidates of these components as a fragment: all of the generation, with its end when they
/// are all. `mid` is the stream's, if offer and answer name one.
pub fn trickle_fragment(
    ice: &IceDescription,
    components: &[ComponentId],
    mid: Option<&str>,
) -> Vec<u8> {
    let Credentials { ufrag, pwd } = &ice.credentials;
    // RFC 8840 section 4.4: port, profile and format of a pseudo m= line say nothing.
    let mut text = format!("a=ice-pwd:{pwd}\r\na=ice-ufrag:{ufrag}\r\nm=audio 9 RTP/AVP 0\r\n");
    if let Some(mid) = mid {
        text.push_str(&format!("a=mid:{mid}\r\n"));
    }
    for candidate in &ice.candidates {
        if components.contains(&candidate.component) {
            text.push_str(&format!("a=candidate:{}\r\n", candidate_value(candidate)));
        }
    }
    if ice.trickle == Trickle::Ended {
        text.push_str("a=end-of-candidates\r\n");
    }
    text.into_bytes()
}
