//! The exit status: a contract with scripts.

use std::process::ExitCode;

use ringtrue_phone::event::Outcome;

/// One of the numbers that the program ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The call took place and ended in order.
    Fine,
    /// Something unexpected.
    Unexpected,
    /// Usage or settings.
    Usage,
    /// No media path.
    NoMediaPath,
    /// The call was refused.
    Refused,
    /// Nobody answered.
    NoAnswer,
    /// Network, transport or server failure.
    Network,
    /// Authentication.
    Authentication,
    /// Interrupted before the answer.
    Interrupted,
}

impl Status {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::NoMediaPath => 3,
            Self::Refused => 4,
            Self::NoAnswer => 5,
            Self::Network => 6,
            Self::Authentication => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Fine,
            Outcome::NoMediaPath => Self::NoMediaPath,
            Outcome::Refused => Self::Refused,
            Outcome::NoAnswer => Self::NoAnswer,
            Outcome::Network => Self::Network,
            Outcome::Authentication => Self::Authentication,
            Outcome::Interrupted => Self::Interrupted,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_contract() {
        let outcomes = [
            (Outcome::Completed, 0),
            (Outcome::NoMediaPath, 3),
            (Outcome::Refused, 4),
            (Outcome::NoAnswer, 5),
            (Outcome::Network, 6),
            (Outcome::Authentication, 7),
            (Outcome::Interrupted, 130),
        ];
        for (outcome, code) in outcomes {
            assert_eq!(Status::from(outcome).code(), code);
        }
        assert_eq!(Status::Unexpected.code(), 1);
        assert_eq!(Status::Usage.code(), 2);
    }
}
