//! Which extended reports a side wants: `a=rtcp-xr` (RFC 3611 section 5).

use sdp_types::{Attribute, Media, Session};

/// The attribute.
const NAME: &str = "rtcp-xr";
/// The format of section 4.7's VoIP metrics.
const VOIP_METRICS: &str = "voip-metrics";

/// The extended reports that a side asks the other one for, as far as they are known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtendedReports {
    /// The VoIP metrics report block (RFC 3611 section 4.7).
    pub voip_metrics: bool,
}

impl ExtendedReports {
    /// Every report that is known here.
    pub const ALL: Self = Self { voip_metrics: true };

    /// What a stream's description asks for: its own attribute counts, also an empty one, else the
    /// session's. Other formats, and parameters of theirs, are passed over.
    pub(super) fn read(session: &Session, media: &Media) -> Self {
        let own = |a: &&Attribute| a.attribute.eq_ignore_ascii_case(NAME);
        let list = match media.attributes.iter().any(|a| own(&a)) {
            true => &media.attributes,
            false => &session.attributes,
        };
        let formats = list
            .iter()
            .filter(own)
            .filter_map(|a| a.value.as_deref())
            .flat_map(str::split_ascii_whitespace);
        Self {
            voip_metrics: formats
                .into_iter()
                .any(|format| format.eq_ignore_ascii_case(VOIP_METRICS)),
        }
    }

    /// Writes the attribute, if there is anything to ask for.
    pub(super) fn write(self, attributes: &mut Vec<Attribute>) {
        if self.voip_metrics {
            attributes.push(Attribute::with_value(NAME, VOIP_METRICS));
        }
    }
}
