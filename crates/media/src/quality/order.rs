//! From the sequence numbers of what is played to what became of every packet.
//!
//! Whether a packet that is missing when its time comes was sent at all, only the next one's sequence
//! number tells: in a pause nothing is lost. So packets are judged when a later one is played.

use std::time::Duration;

use super::losses::Losses;

/// Sequence numbers that are kept, half of them ahead of what was played last: more than the
/// jitter buffer holds.
const WINDOW: u16 = 512;
const AHEAD: u16 = WINDOW / 2;
/// A jump ahead by fewer packets is a loss, not a restart (RFC 3550 appendix A.1).
const MAX_DROPOUT: u16 = 3_000;

/// What is known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing as yet.
    Unknown,
    /// It came, and waits for its time.
    Came,
    /// It held no sound, but a pressed key (RFC 4733).
    Apart,
    /// Its time is over, and it never came.
    Lost,
    /// Its time is over, and what comes now changes nothing.
    Settled,
}

/// What became of the packets of one source.
#[derive(Debug)]
pub(crate) struct Order {
    fates: [Fate; WINDOW as usize],
    /// The packet that was played last.
    last: Option<u16>,
    /// So many before the next were brought back by what the next one holds.
    mended: u16,
}

impl Order {
    pub(crate) fn new() -> Order {
        Order {
            fates: [Fate::Unknown; WINDOW as usize],
            last: None,
            mended: 0,
        }
    }

    fn fate(&mut self, sequence: u16) -> &mut Fate {
        &mut self.fates[usize::from(sequence % WINDOW)]
    }

    /// Whether the packet's time is still to come; `None` if it is out of reach.
    fn is_ahead(&self, sequence: u16) -> Option<bool> {
        let ahead = self.last.map_or(1, |last| sequence.wrapping_sub(last));
        match ahead {
            1..=AHEAD => Some(true),
            _ if ahead.wrapping_neg() < AHEAD => Some(false),
            _ => None,
        }
    }

    /// A packet of sound came, in time or not.
    pub(crate) fn came(&mut self, sequence: u16, losses: &mut Losses) {
        let is_ahead = self.is_ahead(sequence);
        let fate = self.fate(sequence);
        match (is_ahead, *fate) {
            (Some(true), Fate::Unknown) => *fate = Fate::Came,
            (Some(false), Fate::Lost) => {
                *fate = Fate::Settled;
                losses.came_late();
            }
            _ => {}
        }
    }

    /// A packet came that holds no sound.
    pub(crate) fn apart(&mut self, sequence: u16) {
        if self.is_ahead(sequence) == Some(true) {
            *self.fate(sequence) = Fate::Apart;
        }
    }

    /// One more of the packets just before the next one is lost, but the next one holds its sound too
    /// (in-band FEC, DRED).
    pub(crate) fn mended(&mut self) {
        self.mended = self.mended.saturating_add(1);
    }

    /// A packet was played, for this long; or thrown away, because it could not be decoded.
    pub(crate) fn played(
        &mut self,
        sequence: u16,
        decoded: bool,
        time: Duration,
        losses: &mut Losses,
    ) {
        let mended = std::mem::take(&mut self.mended);
        let step = self.last.map_or(1, |last| sequence.wrapping_sub(last));
        if !(1..=MAX_DROPOUT).contains(&step) {
            self.fates.fill(Fate::Unknown);
        } else {
            for missing in (1..step).rev() {
                let missing = sequence.wrapping_sub(missing);
                let is_mended = sequence.wrapping_sub(missing) <= mended;
                self.judge(missing, is_mended, time, losses);
            }
        }
        self.pass(sequence, Fate::Settled);
        self.last = Some(sequence);
        match decoded {
            true => losses.received(time),
            false => losses.discarded(time),
        }
    }

    /// The time of this packet is over, and it was not played.
    fn judge(&mut self, sequence: u16, mended: bool, time: Duration, losses: &mut Losses) {
        let fate = match *self.fate(sequence) {
            Fate::Apart => Fate::Settled,
            _ if mended => {
                losses.received(time);
                Fate::Settled
            }
            Fate::Came => {
                losses.discarded(time);
                Fate::Settled
            }
            Fate::Unknown | Fate::Lost | Fate::Settled => {
                losses.lost(time);
                Fate::Lost
            }
        };
        self.pass(sequence, fate);
    }

    /// Another packet is known of, and another comes within reach.
    fn pass(&mut self, sequence: u16, fate: Fate) {
        *self.fate(sequence) = fate;
        *self.fate(sequence.wrapping_add(AHEAD)) = Fate::Unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(20);

    /// What was lost, discarded and heard of all that was judged.
    fn shares(losses: &Losses) -> (f64, f64) {
        let share = losses.lost_share().unwrap();
        (share, losses.discarded_share().unwrap())
    }

    fn play(order: &mut Order, losses: &mut Losses, sequences: impl IntoIterator<Item = u16>) {
        for sequence in sequences {
            order.came(sequence, losses);
            order.played(sequence, true, TIME, losses);
        }
    }

    #[test]
    fn what_is_missing_between_played_packets_is_lost() {
        let (mut order, mut losses) = (Order::new(), Losses::default());
        // Over the wrap; 65535 and 0 are missing.
        play(&mut order, &mut losses, (65_528..=65_534).chain(1..=11));
        assert_eq!(shares(&losses), (0.1, 0.0));
        assert_eq!(losses.run(), Some(2.0));
        // One comes late, twice, and one that was played comes again.
        for sequence in [0, 0, 5] {
            order.came(sequence, &mut losses);
        }
        assert_eq!(shares(&losses), (0.05, 0.05));
    }

    #[test]
    fn what_came_and_was_not_played_is_discarded() {
        let (mut order, mut losses) = (Order::new(), Losses::default());
        play(&mut order, &mut losses, 0..8);
        order.came(8, &mut losses);
        play(&mut order, &mut losses, [9]);
        assert_eq!(shares(&losses), (0.0, 0.1));
        order.came(8, &mut losses);
        order.played(10, false, TIME, &mut losses);
        assert_eq!(losses.discards(), 2);
    }

    #[test]
    fn keys_and_what_the_next_packet_holds_are_no_losses() {
        let (mut order, mut losses) = (Order::new(), Losses::default());
        play(&mut order, &mut losses, 1..4);
        for key in 4..9 {
            order.apart(key);
        }
        play(&mut order, &mut losses, 9..12);
        order.mended();
        // 12 is lost, 13 brought back.
        play(&mut order, &mut losses, 14..16);
        assert_eq!(shares(&losses), (0.1, 0.0));
    }

    #[test]
    fn a_restart_and_what_is_out_of_reach_are_no_losses() {
        let (mut order, mut losses) = (Order::new(), Losses::default());
        play(
            &mut order,
            &mut losses,
            [0, 1, 2, 9_000, 9_001, 40_000, 4, 5],
        );
        assert_eq!(shares(&losses), (0.0, 0.0));
        // Marks of a lap ago are forgotten.
        order.came(5 + AHEAD, &mut losses);
        order.came(6 + AHEAD, &mut losses);
        let mut losses = Losses::default();
        play(&mut order, &mut losses, (6..2_000).filter(|n| *n != 1_400));
        assert_eq!(losses.lost_share(), Some(1.0 / 1_994.0));
        assert_eq!(losses.discards(), 0);
    }
}
