//! What RTP's receiver keeps about a source (RFC 3550 sections 6.4 and appendix A).

use std::time::{Duration, Instant};

/// A jump ahead by fewer packets is a loss, not a restart (RFC 3550 appendix A.1).
const MAX_DROPOUT: u16 = 3_000;
/// A packet behind by fewer is only late.
const MAX_MISORDER: u16 = 100;

/// The state of RFC 3550's `source`.
#[derive(Debug)]
pub(crate) struct Reception {
    clock_rate: u32,
    began: Instant,
    base: u32,
    max: u16,
    cycles: u32,
    /// The sequence number that would confirm a restart of the sender.
    bad: Option<u16>,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    /// Losses of what the sender sent before it restarted.
    lost_before: u64,
    transit: Option<i64>,
    jitter: f64,
    report: Option<SenderReport>,
}

/// What a sender report left behind, for LSR and DLSR.
#[derive(Clone, Copy, Debug)]
struct SenderReport {
    middle: u32,
    arrival: Instant,
}

/// A report block about this source (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) fraction_lost: u8,
    pub(crate) cumulative_lost: u32,
    pub(crate) highest: u32,
    pub(crate) jitter: u32,
    pub(crate) last_report: u32,
    pub(crate) delay_since: u32,
}

impl Reception {
    /// A source whose first packet has this sequence number.
    pub(crate) fn new(clock_rate: u32, now: Instant, sequence: u16) -> Reception {
        Reception {
            clock_rate,
            began: now,
            base: u32::from(sequence),
            max: sequence.wrapping_sub(1),
            cycles: if sequence == 0 { u32::MAX << 16 } else { 0 },
            bad: None,
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            lost_before: 0,
            transit: None,
            jitter: 0.0,
            report: None,
        }
    }

    /// A packet came: whether its sequence number makes sense (`update_seq` of appendix A.1).
    pub(crate) fn update_sequence(&mut self, sequence: u16) -> bool {
        let delta = sequence.wrapping_sub(self.max);
        if delta < MAX_DROPOUT {
            if sequence < self.max {
                self.cycles = self.cycles.wrapping_add(1 << 16);
            }
            self.max = sequence;
        } else if delta <= (u16::MAX - MAX_MISORDER) + 1 {
            if self.bad != Some(sequence) {
                self.bad = Some(sequence.wrapping_add(1));
                return false;
            }
            // Two in a row: the sender restarted without telling anyone.
            self.lost_before = self.lost();
            self.base = u32::from(sequence);
            self.max = sequence;
            self.cycles = 0;
            self.received = 0;
            self.expected_prior = 0;
            self.received_prior = 0;
        }
        self.bad = None;
        self.received += 1;
        true
    }

    /// Takes the arrival into the jitter (appendix A.8).
    pub(crate) fn update_jitter(&mut self, now: Instant, timestamp: u32) {
        let elapsed = now.saturating_duration_since(self.began).as_nanos();
        let arrival = elapsed * u128::from(self.clock_rate) / 1_000_000_000;
        let transit = i64::from((arrival as u32).wrapping_sub(timestamp) as i32);
        if let Some(before) = self.transit {
            // Both are modulo 2^32.
            let difference = i64::from((transit - before) as i32).abs() as f64;
            // A jump of the timestamps is no jitter.
            if difference < f64::from(self.clock_rate) {
                self.jitter += (difference - self.jitter) / 16.0;
            }
        }
        self.transit = Some(transit);
    }

    /// From now on the timestamps count at this rate (RFC 7160).
    pub(crate) fn set_clock_rate(&mut self, clock_rate: u32) {
        if self.clock_rate != clock_rate {
            self.clock_rate = clock_rate;
            self.transit = None;
            self.jitter = 0.0;
        }
    }

    /// A sender report came, with this NTP timestamp.
    pub(crate) fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.report = Some(SenderReport {
            middle: (ntp >> 16) as u32,
            arrival: now,
        });
    }

    /// The extended highest sequence number.
    fn highest(&self) -> u32 {
        self.cycles.wrapping_add(u32::from(self.max))
    }

    fn expected(&self) -> u64 {
        u64::from(self.highest().wrapping_sub(self.base).wrapping_add(1))
    }

    /// Packets lost so far; duplicates are taken for received (appendix A.3), so never below zero.
    pub(crate) fn lost(&self) -> u64 {
        self.lost_before + self.expected().saturating_sub(self.received)
    }

    /// Interarrival jitter, in milliseconds; `None` before the first packet.
    pub(crate) fn jitter_ms(&self) -> Option<f64> {
        self.transit?;
        Some(self.jitter * 1e3 / f64::from(self.clock_rate.max(1)))
    }

    /// The report block for now; begins the next interval of `fraction lost`.
    pub(crate) fn block(&mut self, now: Instant) -> Block {
        let expected = self.expected();
        let interval = expected.saturating_sub(self.expected_prior);
        let received = self.received.saturating_sub(self.received_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost = interval.saturating_sub(received);
        let fraction = (lost << 8).checked_div(interval).unwrap_or(0).min(255);
        let cumulative = self.lost().min(0x7f_ffff);
        Block {
            fraction_lost: fraction as u8,
            cumulative_lost: cumulative as u32,
            highest: self.highest(),
            jitter: self.jitter as u32,
            last_report: self.report.map_or(0, |report| report.middle),
            delay_since: self.report.map_or(0, |report| {
                short_ntp(now.saturating_duration_since(report.arrival))
            }),
        }
    }
}

/// A duration in units of 1/65536 s.
fn short_ntp(duration: Duration) -> u32 {
    u32::try_from((duration.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_counted_over_the_wrap() {
        let now = Instant::now();
        let mut reception = Reception::new(8_000, now, 65_530);
        for n in 0..100u16 {
            if n % 10 != 9 {
                assert!(reception.update_sequence(65_530u16.wrapping_add(n)));
            }
        }
        // The last one of the hundred is missing, but nobody knows yet.
        assert_eq!(reception.lost(), 9);
        let block = reception.block(now);
        assert_eq!(block.cumulative_lost, 9);
        assert_eq!(block.fraction_lost, (9 * 256 / 99) as u8);
        assert_eq!(block.highest, 65_530 + 98);
        assert_eq!(reception.block(now).fraction_lost, 0);
    }

    #[test]
    fn a_first_sequence_number_of_zero_is_no_wrap() {
        let mut reception = Reception::new(8_000, Instant::now(), 0);
        for n in 0..3 {
            assert!(reception.update_sequence(n));
        }
        assert_eq!((reception.lost(), reception.highest()), (0, 2));
    }

    #[test]
    fn one_stray_packet_is_refused_and_two_are_a_restart() {
        let mut reception = Reception::new(8_000, Instant::now(), 100);
        for n in 100..110 {
            assert!(reception.update_sequence(n));
        }
        assert!(!reception.update_sequence(30_000));
        assert!(reception.update_sequence(110));
        assert!(!reception.update_sequence(40_000));
        assert!(reception.update_sequence(40_001));
        assert!(reception.update_sequence(40_003));
        assert_eq!(reception.lost(), 1);
    }

    #[test]
    fn jitter_of_alternating_delays() {
        let now = Instant::now();
        let mut reception = Reception::new(8_000, now, 0);
        for n in 0..400u32 {
            let delay = u64::from(n % 2) * 10;
            let at = now + Duration::from_millis(u64::from(n) * 20 + delay);
            reception.update_jitter(at, (u32::MAX - 3_000).wrapping_add(n * 160));
        }
        let jitter = reception.jitter_ms().unwrap();
        assert!((jitter - 10.0).abs() < 0.2, "{jitter}");
    }
}
