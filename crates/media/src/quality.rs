//! How a call sounds, in figures: the distribution of losses, and the mean opinion score that ITU-T
//! G.107 (the E-model) estimates from them.

mod levels;
mod losses;
mod order;
mod remote;

pub(crate) use self::levels::Levels;
pub(crate) use self::losses::{GMIN, Losses};
pub(crate) use self::order::Order;
pub(crate) use self::remote::Remote;

/// The rating of a call without any impairment, with the default values of G.107.
const BEST: f64 = 93.2;

/// The rating, R of the E-model, of what is heard with a share of packets missing in runs of so
/// many packets, and of a conversation with so much delay from mouth to ear.
///
/// Ie and Bpl are those of G.113 appendix I for G.711 with packet loss concealment. Opus and G.722
/// are not in its narrow-band table: they lose nothing against G.711 there, and are concealed as
/// well, so that they are rated as it is. The scale is that of telephone sound: that they carry more
/// is not in it (docs/decisions/0024).
pub(crate) fn rating(share: f64, run: Option<f64>, delay_ms: f64) -> f64 {
    BEST - equipment_impairment(share, run) - delay_impairment(delay_ms)
}

/// The mean opinion score, 1 to 4.41, of the same.
pub(crate) fn opinion(share: f64, run: Option<f64>, delay_ms: f64) -> f64 {
    score(rating(share, run, delay_ms))
}

/// Ie,eff of G.107 section 7.5.
fn equipment_impairment(share: f64, run: Option<f64>) -> f64 {
    const EQUIPMENT: f64 = 0.0;
    const ROBUSTNESS: f64 = 25.1;
    let percent = (share * 100.0).clamp(0.0, 100.0);
    // BurstR: the mean run over what it would be with losses at random, at least 1.
    let ratio = run.map_or(1.0, |run| (run * (1.0 - share)).max(1.0));
    EQUIPMENT + (95.0 - EQUIPMENT) * percent / (percent / ratio + ROBUSTNESS)
}

/// Idd of G.107 section 7.4: what delay alone does to a conversation. Of the echo beside it (Idte and
/// Idle) nothing is known here; it is taken to be cancelled.
fn delay_impairment(ms: f64) -> f64 {
    if ms <= 100.0 {
        return 0.0;
    }
    let x = (ms / 100.0).log2();
    let bent = |by: f64| (1.0 + (x / by).powi(6)).powf(1.0 / 6.0);
    25.0 * (bent(1.0) - 3.0 * bent(3.0) + 2.0)
}

/// The opinion that goes with a rating (G.107 annex B).
pub(crate) fn score(rating: f64) -> f64 {
    match rating {
        ..=0.0 => 1.0,
        100.0.. => 4.5,
        r => (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R to MOS: G.107 annex B, worked by hand.
    #[test]
    fn ratings_are_opinions() {
        for (rating, opinion) in [
            (93.2, 4.41),
            (90.0, 4.34),
            (80.0, 4.02),
            (70.0, 3.60),
            (60.0, 3.10),
            (50.0, 2.58),
            (0.0, 1.0),
            (-20.0, 1.0),
            (3.0, 1.0),
            (100.0, 4.5),
            (120.0, 4.5),
        ] {
            assert_eq!((score(rating) * 100.0).round() / 100.0, opinion, "{rating}");
        }
    }

    /// Worked by hand: 95 * 5 / (5 + 25.1) = 15.78; of 5 % in runs of 2, BurstR is 1.9 and
    /// 95 * 5 / (5 / 1.9 + 25.1) = 17.13.
    #[test]
    fn losses_impair_as_the_recommendation_says() {
        let near = |is: f64, should: f64| assert!((is - should).abs() < 0.01, "{is} {should}");
        near(equipment_impairment(0.0, None), 0.0);
        near(equipment_impairment(0.05, None), 15.78);
        near(equipment_impairment(0.05, Some(1.0 / 0.95)), 15.78);
        near(equipment_impairment(0.05, Some(2.0)), 17.13);
        near(equipment_impairment(1.0, Some(1e3)), 75.94);
        near(rating(0.05, None, 0.0), 77.42);
        near(opinion(0.05, None, 0.0), 3.92);
    }

    /// Worked by hand: at 150 ms X = 0.585 and Idd = 25 (1.00657 - 3.00003 + 2) = 0.16; at 400 ms
    /// X = 2 and Idd = 25 (65^(1/6) - 3 (1 + (2/3)^6)^(1/6) + 2) = 24.08.
    #[test]
    fn delay_impairs_as_the_recommendation_says() {
        let near = |is: f64, should: f64| assert!((is - should).abs() < 0.02, "{is} {should}");
        near(delay_impairment(0.0), 0.0);
        near(delay_impairment(100.0), 0.0);
        near(delay_impairment(100.1), 0.0);
        near(delay_impairment(150.0), 0.16);
        near(delay_impairment(400.0), 24.08);
        near(rating(0.0, None, 400.0), 69.12);
        near(opinion(0.0, None, 150.0), 4.41);
        near(opinion(0.0, None, 400.0), 3.56);
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
