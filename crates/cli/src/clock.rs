//! When things happened, for JSON: a wall time that never jumps, and milliseconds since the start.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The program's start on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    wall: SystemTime,
}

impl Clock {
    /// The program starts now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The start itself.
    pub fn started(&self) -> Instant {
        self.start
    }

    /// Milliseconds from the start to `at`, to the microsecond.
    pub fn t_ms(&self, at: Instant) -> f64 {
        milliseconds(at.saturating_duration_since(self.start))
    }

    /// The wall time of `at` (RFC 3339, UTC, microseconds).
    pub fn time(&self, at: Instant) -> String {
        rfc3339(self.wall + at.saturating_duration_since(self.start))
    }
}

/// Milliseconds to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).map(f64::from);
    let micros = micros.unwrap_or_else(|_| (duration.as_secs_f64() * 1e6).round());
    micros / 1e3
}

fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil_date(since.as_secs() / 86_400);
    let second = since.as_secs() % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

/// The Gregorian date of a day counted from 1970-01-01. Years begin in March here, so that the
/// leap day is the last one, and 400 years always have 146,097 days.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, micros: u32) -> String {
        rfc3339(UNIX_EPOCH + Duration::new(seconds, micros * 1000))
    }

    #[test]
    fn wall_time_is_rfc_3339() {
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399, 999_999), "2000-02-28T23:59:59.999999Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000000Z");
        assert_eq!(at(1_234_567_890, 5), "2009-02-13T23:31:30.000005Z");
        assert_eq!(at(4_107_542_399, 0), "2100-02-28T23:59:59.000000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn milliseconds_have_three_decimals() {
        assert_eq!(milliseconds(Duration::from_micros(1_234_567)), 1234.567);
        assert_eq!(milliseconds(Duration::from_nanos(1_499)), 0.001);
        assert_eq!(milliseconds(Duration::from_secs(1_000_000)), 1e9);
    }
}
