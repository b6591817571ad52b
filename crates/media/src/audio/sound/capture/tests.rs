use super::*;

/// A microphone's ring, filled in pieces as a device would.
fn ring() -> (Fill, Intake) {
    let health = Arc::new(Health::new(Vec::new()));
    let (line, fill) = line(SAMPLE_RATE, 2, &Bell::silent(), &health).unwrap();
    (fill, Intake::new(line))
}

/// A piece of stereo sound that counts on, as samples of 16 bits do.
fn piece(from: &mut i16, frames: usize) -> Vec<i16> {
    let mut samples = Vec::new();
    for _ in 0..frames {
        samples.extend([*from, *from]);
        *from = from.wrapping_add(1);
    }
    samples
}

#[test]
fn a_frame_is_there_with_its_last_sample_and_ends_where_a_piece_ended() {
    let (mut fill, mut intake) = ring();
    let mut next = 0;
    // A beginning that fits to nothing is left out.
    fill.take(&piece(&mut next, 100));
    assert!(!intake.has_frame());
    for _ in 0..2 {
        fill.take(&piece(&mut next, 240));
    }
    let mut frames = Vec::new();
    for _ in 0..20 {
        let mut frame = [0; FRAME];
        assert!(intake.read(&mut frame));
        frames.push(frame);
        assert!(!intake.has_frame());
        fill.take(&piece(&mut next, 240));
        assert!(!intake.has_frame());
        fill.take(&piece(&mut next, 240));
        assert!(intake.has_frame());
    }
    let heard: Vec<i16> = frames.concat();
    assert!(heard.windows(2).all(|pair| pair[1] - pair[0] <= 1));
    assert_eq!(heard[0], 100);
}

#[test]
fn whoever_was_away_hears_the_newest_frame() {
    let (mut fill, mut intake) = ring();
    let mut next = 0;
    for _ in 0..100 {
        fill.take(&piece(&mut next, 240));
    }
    let mut frame = [0; FRAME];
    assert!(intake.read(&mut frame));
    assert!(frame[0] >= 24_000 - FRAME as i16 - 1, "{}", frame[0]);
    assert!(!intake.has_frame());
}
