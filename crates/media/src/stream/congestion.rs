//! What the peer's reports say about the path: how much may be sent (a rule of our own), and when sending has
//! to cease (RFC 8083).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a stream may send, in bits a second of RTP payload, redundancy included: at best, which the tags of SRTP
/// make 42 to 44 kbit/s, and at worst.
pub(super) const MOST: f64 = 38_000.0;
const LEAST: f64 = 16_000.0;
/// One report of congestion takes this share away; one without gives this one back.
const FALL: f64 = 0.8;
const RISE: f64 = 1.05;
/// Queues fill where the round trip is longer than the shortest by a third and this,
const LONGER: (f64, f64) = (1.3, 40.0);
/// and drain where it is no longer than by a tenth and this (milliseconds).
const AGAIN_SHORT: (f64, f64) = (1.1, 20.0);
/// A queue that overflows loses this much more than was lost while the round trip was short.
const MORE_LOSS: f64 = 0.03;
/// The shortest round trip is that of the last so many reports.
const REMEMBERED: usize = 60;
/// The loss that the path has without congestion is learnt by this share of every report.
const LEARNING: f64 = 0.2;

/// Three reporting intervals of RFC 3550's 5 s (RFC 8083 section 4.3): our reports may come more often,
/// but a shorter trouble is nothing to cease for.
const PATIENCE: Duration = Duration::from_secs(15);
/// And no fewer reports than this.
const REPORTS: u32 = 3;
/// IP and UDP headers and the like, for the packet size that RFC 8083 section 4.3 speaks of.
const HEADERS: f64 = 40.0;
/// A TCP flow's share times this is what breaks the circuit.
const TIMES_TCP: f64 = 10.0;

/// Why sending has ceased (RFC 8083).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitBreaker {
    /// The peer reports, but none of our packets reaches it (section 4.1).
    Media,
    /// Its reports have stopped, and nothing else comes (section 4.2).
    Reports,
    /// Over and over, far more is lost than a fair share of the path would lose (section 4.3).
    Congestion,
}

/// One report of the peer's about us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// The share of packets that were lost since the report before.
    pub(super) loss: f64,
    pub(super) round_trip_ms: Option<f64>,
    pub(super) highest: u32,
}

/// What is sent meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) packets: u64,
    /// Octets of the payloads.
    pub(super) octets: u64,
}

/// A trouble that lasts: since when, and over how many reports.
#[derive(Clone, Copy, Debug, Default)]
struct Lasting(Option<(Instant, u32)>);

impl Lasting {
    /// Whether it has lasted too long.
    fn goes_on(&mut self, now: Instant, trouble: bool) -> bool {
        if !trouble {
            self.0 = None;
            return false;
        }
        let (since, reports) = self.0.get_or_insert((now, 0));
        *reports += 1;
        *reports >= REPORTS && now.saturating_duration_since(*since) >= PATIENCE
    }
}

/// Follows the reports.
#[derive(Debug)]
pub(super) struct Congestion {
    budget: f64,
    round_trips: VecDeque<f64>,
    usual_loss: f64,
    before: Option<(Instant, u32, Sent)>,
    unheard: Lasting,
    unfair: Lasting,
}

impl Congestion {
    pub(super) fn new() -> Congestion {
        Congestion {
            budget: MOST,
            round_trips: VecDeque::new(),
            usual_loss: 0.0,
            before: None,
            unheard: Lasting::default(),
            unfair: Lasting::default(),
        }
    }

    /// Bits a second of RTP payload that may be sent.
    pub(super) fn budget(&self) -> f64 {
        self.budget
    }

    /// The peer reported.
    pub(super) fn report(
        &mut self,
        now: Instant,
        heard: Heard,
        sent: Sent,
    ) -> Option<CircuitBreaker> {
        if let Some(round_trip) = heard.round_trip_ms {
            self.follow(heard.loss, round_trip);
        }
        let (at, highest, sent_before) = self.before.replace((now, heard.highest, sent))?;
        let sends = sent.packets > sent_before.packets;
        let unheard = sends && highest == heard.highest;
        if self.unheard.goes_on(now, unheard) {
            return Some(CircuitBreaker::Media);
        }
        let seconds = now.saturating_duration_since(at).as_secs_f64();
        let packets = sent.packets.saturating_sub(sent_before.packets) as f64;
        let octets = sent.octets.saturating_sub(sent_before.octets) as f64 + packets * HEADERS;
        let unfair = heard.round_trip_ms.is_some_and(|round_trip| {
            let fair = fair_rate(octets / packets.max(1.0), round_trip / 1e3, heard.loss);
            sends && octets / seconds.max(0.1) > TIMES_TCP * fair
        });
        let unfair = self.unfair.goes_on(now, unfair);
        unfair.then_some(CircuitBreaker::Congestion)
    }

    /// Less is sent while the round trip and the losses rise together; losses alone are no congestion, but
    /// the way of some networks, and to send less would help nobody.
    fn follow(&mut self, loss: f64, round_trip: f64) {
        self.round_trips.push_back(round_trip);
        if self.round_trips.len() > REMEMBERED {
            self.round_trips.pop_front();
        }
        let least = self.round_trips.iter().copied().fold(f64::MAX, f64::min);
        let over = |(times, more): (f64, f64)| round_trip > least * times + more;
        if !over(LONGER) {
            self.usual_loss += (loss - self.usual_loss) * LEARNING;
        }
        if over(LONGER) && loss > self.usual_loss + MORE_LOSS {
            self.budget = (self.budget * FALL).max(LEAST);
        } else if !over(AGAIN_SHORT) {
            self.budget = (self.budget * RISE).min(MOST);
        }
    }

    /// The path is another one.
    pub(super) fn path_changed(&mut self) {
        *self = Congestion {
            budget: self.budget,
            ..Congestion::new()
        };
    }
}

/// The octets a second of a TCP flow with packets of this size (RFC 8083 section 4.3, the simple equation with b
/// = 1).
fn fair_rate(size: f64, round_trip: f64, loss: f64) -> f64 {
    if loss <= 0.0 {
        return f64::MAX;
    }
    size / (round_trip.max(0.001) * (2.0 * loss / 3.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports once a second for so many seconds; gives what broke the circuit, and when.
    fn run(
        congestion: &mut Congestion,
        begin: Instant,
        seconds: u32,
        loss: f64,
        round_trip: f64,
        hears: bool,
    ) -> Option<(CircuitBreaker, u32)> {
        (0..seconds).find_map(|second| {
            let n = second + 1;
            let heard = Heard {
                loss,
                round_trip_ms: Some(round_trip),
                highest: if hears { n * 50 } else { 7 },
            };
            let sent = Sent {
                packets: u64::from(n) * 50,
                octets: u64::from(n) * 5_000,
            };
            let at = begin + Duration::from_secs(u64::from(second));
            congestion.report(at, heard, sent).map(|why| (why, second))
        })
    }

    #[test]
    fn random_loss_is_no_congestion_and_a_filling_queue_is() {
        let begin = Instant::now();
        let mut congestion = Congestion::new();
        assert_eq!(run(&mut congestion, begin, 60, 0.3, 80.0, true), None);
        assert_eq!(congestion.budget(), MOST);
        assert_eq!(run(&mut congestion, begin, 10, 0.4, 300.0, true), None);
        assert_eq!(congestion.budget(), LEAST);
        assert_eq!(run(&mut congestion, begin, 60, 0.0, 85.0, true), None);
        assert_eq!(congestion.budget(), MOST);
    }

    #[test]
    fn who_is_not_heard_or_takes_too_much_ceases_after_fifteen_seconds() {
        let begin = Instant::now();
        let unheard = run(&mut Congestion::new(), begin, 60, 0.0, 80.0, false);
        assert_eq!(unheard, Some((CircuitBreaker::Media, 16)));
        let unfair = run(&mut Congestion::new(), begin, 60, 0.9, 2_000.0, true);
        assert_eq!(unfair, Some((CircuitBreaker::Congestion, 16)));
    }
}
