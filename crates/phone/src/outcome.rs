//! What a final SIP status means for the people and for the exit status.

use crate::event::{EndReason, Outcome};

/// Reads the final answer to an INVITE. `path_missing` says that at least one fork answered with
/// ICE and none gave a proof.
pub(crate) fn of_refusal(status: u16, path_missing: bool) -> (EndReason, Outcome) {
    match status {
        401 | 403 | 407 => (EndReason::Authentication, Outcome::Authentication),
        486 | 600 => (EndReason::Busy, Outcome::Refused),
        603 => (EndReason::Declined, Outcome::Refused),
        _ if path_missing => (EndReason::NoMediaPath, Outcome::NoMediaPath),
        408 | 480 => (EndReason::NoAnswer, Outcome::NoAnswer),
        421 => (EndReason::IceRequired, Outcome::Refused),
        488 | 606 => (EndReason::Incompatible, Outcome::Refused),
        500..=599 => (EndReason::Network, Outcome::Network),
        _ => (EndReason::Refused, Outcome::Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of design.md section 4.
    #[test]
    fn every_final_status_has_its_outcome() {
        let plain = |status| of_refusal(status, false).1;
        let unproven = |status| of_refusal(status, true).1;
        for status in [401, 403, 407] {
            assert_eq!(plain(status), Outcome::Authentication);
            assert_eq!(unproven(status), Outcome::Authentication);
        }
        for status in [486, 600, 603] {
            assert_eq!(plain(status), Outcome::Refused);
            assert_eq!(unproven(status), Outcome::Refused);
        }
        for status in [404, 480, 488, 503] {
            assert_eq!(unproven(status), Outcome::NoMediaPath);
        }
        assert_eq!(plain(404), Outcome::Refused);
        assert_eq!(plain(480), Outcome::NoAnswer);
        assert_eq!(plain(408), Outcome::NoAnswer);
        assert_eq!(plain(503), Outcome::Network);
        assert_eq!(plain(604), Outcome::Refused);
    }
}
