//! How a call sounds, in figures: the distribution of losses, and the mean opinion score that ITU-T
//! G.107 (the E-model) estimates from them.

/// Which packets of a stream were missing when they were to be played.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    played: u64,
    missing: u64,
    /// Runs of missing packets, and whether the last packet was one.
    runs: u64,
    in_run: bool,
}

impl Losses {
    /// The next packet was there, or was not.
    pub(crate) fn note(&mut self, missing: bool) {
        if missing {
            self.missing += 1;
            self.runs += u64::from(!self.in_run);
        } else {
            self.played += 1;
        }
        self.in_run = missing;
    }

    /// The share of missing packets; `None` before there was any.
    pub(crate) fn share(&self) -> Option<f64> {
        let all = self.played + self.missing;
        (all > 0).then(|| self.missing as f64 / all as f64)
    }

    /// How many packets a run of missing ones had, in the mean; `None` without a loss.
    pub(crate) fn burst(&self) -> Option<f64> {
        (self.runs > 0).then(|| self.missing as f64 / self.runs as f64)
    }
}

/// The rating of a call without any impairment, with the default values of G.107.
const BEST: f64 = 93.2;

/// The mean opinion score, 1 to 4.41, of what is heard with a share of packets missing in
/// bursts of so many packets, and of a conversation with so much delay from mouth to ear.
///
/// Ie and Bpl are those of G.113 appendix I for G.711 with packet loss concealment. Opus and G.722
/// are not in its narrow-band table: they lose nothing against G.711 there, and are concealed as
/// well, so that they are rated as it is. The scale is that of telephone sound: that they carry more
/// is not in it.
pub(crate) fn opinion(share: f64, burst: Option<f64>, delay_ms: f64) -> f64 {
    const EQUIPMENT: f64 = 0.0;
    const ROBUSTNESS: f64 = 25.1;
    let percent = (share * 100.0).clamp(0.0, 100.0);
    // G.107 section 7.5: the mean run over what it would be with losses at random, at least 1.
    let ratio = burst.map_or(1.0, |burst| (burst * (1.0 - share)).max(1.0));
    let lost = (95.0 - EQUIPMENT) * percent / (percent / ratio + ROBUSTNESS);
    score(BEST - EQUIPMENT - lost - delay_impairment(delay_ms))
}

/// Idd of G.107 section 7.4: what delay alone does to a conversation.
fn delay_impairment(ms: f64) -> f64 {
    if ms <= 100.0 {
        return 0.0;
    }
    let x = (ms / 100.0).log2();
    let bent = |by: f64| (1.0 + (x / by).powi(6)).powf(1.0 / 6.0);
    25.0 * (bent(1.0) - 3.0 * bent(3.0) + 2.0)
}

/// The opinion that goes with a rating (G.107 annex B).
fn score(rating: f64) -> f64 {
    match rating {
        ..=0.0 => 1.0,
        100.0.. => 4.5,
        r => (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted() {
        let mut losses = Losses::default();
        assert_eq!((losses.share(), losses.burst()), (None, None));
        for packet in 0..20 {
            losses.note(matches!(packet, 3 | 4 | 5 | 9));
        }
        assert_eq!(losses.share(), Some(0.2));
        assert_eq!(losses.burst(), Some(2.0));
    }

    #[test]
    fn opinions_are_those_of_the_recommendation() {
        let of = |share, burst, ms| {
            let opinion = opinion(share, burst, ms);
            (opinion * 100.0).round() / 100.0
        };
        // G.107: R = 93.2 is 4.41; G.711 with concealment: 2 % of random loss is R = 86.2.
        assert_eq!(of(0.0, None, 50.0), 4.41);
        assert_eq!(of(0.02, Some(1.02), 50.0), 4.23);
        assert_eq!(of(0.10, Some(1.1), 50.0), 3.41);
        // Bursts are worse than losses at random.
        assert!(of(0.10, Some(4.0), 50.0) < of(0.10, Some(1.1), 50.0) - 0.3);
        assert_eq!(of(0.10, Some(4.0), 50.0), 3.05);
        // 200 ms cost about 3 points of the rating, 400 ms 25.
        assert!(
            (delay_impairment(200.0) - 3.0).abs() < 0.5,
            "{}",
            delay_impairment(200.0)
        );
        assert!(
            (delay_impairment(400.0) - 25.0).abs() < 3.0,
            "{}",
            delay_impairment(400.0)
        );
        for hostile in [0.0, 0.5, 1.0, 7.0] {
            for ms in [0.0, 1e3, 1e9] {
                let opinion = of(hostile, Some(1e9), ms);
                assert!((1.0..=4.5).contains(&opinion), "{opinion}");
            }
        }
    }
}
