//! Two streams whose sound cards run apart, in virtual time: the receiver's speaker plays a little
//! faster or slower, as [`MediaStream::pace`] says, and the delay stays what it was.

use std::time::{Duration, Instant, SystemTime};

use ringtrue_media::audio::{Source, Tone};
use ringtrue_media::{Codec, FRAME, FRAME_TIME, MediaStream, StreamConfig, tone};

/// What a run gave, after its first twenty seconds.
struct Heard {
    frames: Vec<[i16; FRAME]>,
    concealed: u64,
    /// The least and the most that the buffer held, in milliseconds.
    buffer: (f64, f64),
}

/// Alice's microphone is so many parts per million fast, and bob's speaker right.
fn talk(ppm: f64, ptime: u64, seconds: u64) -> Heard {
    let begin = Instant::now();
    let config = StreamConfig {
        ptime: Duration::from_millis(ptime),
        ..StreamConfig::new(Codec::Opus, "cname")
    };
    let stream = |seed| MediaStream::new(config.clone(), seed, begin, SystemTime::now()).unwrap();
    let (mut alice, mut bob) = (stream(1), stream(2));
    let mut microphone = Tone::new(440.0);
    let (end, settled) = (
        begin + Duration::from_secs(seconds),
        begin + Duration::from_secs(20),
    );
    let mut captured = begin + Duration::from_micros(3_700);
    let mut played = begin;
    let mut concealed_before = 0;
    let mut heard = Heard {
        frames: Vec::new(),
        concealed: 0,
        buffer: (f64::MAX, 0.0),
    };
    while captured < end {
        if captured <= played {
            let mut frame = [0; FRAME];
            microphone.read(&mut frame);
            alice.handle_capture(captured, &frame);
            while let Some(packet) = alice.poll_transmit() {
                bob.handle_rtp(captured, &packet.payload);
            }
            captured += FRAME_TIME.div_f64(1.0 + ppm / 1e6);
            continue;
        }
        let frame = bob.playout(played);
        let stats = bob.stats();
        if played < settled {
            concealed_before = stats.concealed;
        } else {
            heard.frames.extend(frame);
            let buffer = stats.buffer_ms.unwrap();
            heard.buffer = (heard.buffer.0.min(buffer), heard.buffer.1.max(buffer));
        }
        heard.concealed = stats.concealed - concealed_before;
        played += FRAME_TIME.mul_f64(bob.pace());
    }
    heard
}

#[test]
fn clocks_that_run_apart_are_kept_together_without_a_seam() {
    for ppm in [100.0, -100.0, 1_000.0, -1_000.0] {
        for ptime in [10, 20] {
            let heard = talk(ppm, ptime, 80);
            let (least, most) = heard.buffer;
            println!("{ppm} ppm, {ptime} ms: {least:.2} to {most:.2} ms");
            assert_eq!(heard.concealed, 0, "{ppm} ppm, {ptime} ms");
            assert!(
                most - least < 1.5,
                "{ppm} ppm, {ptime} ms: {least} to {most}"
            );
            assert!(most < 26.0, "{ppm} ppm, {ptime} ms: {most}");
            // A seam would be a step in the sine, or at least a steeper place.
            let report = tone::measure_frames(&heard.frames, 440.0, 0.2);
            assert_eq!(
                report.longest_gap_ms, 0.0,
                "{ppm} ppm, {ptime} ms: {report:?}"
            );
            assert!(report.seconds > 58.0, "{ppm} ppm, {ptime} ms: {report:?}");
        }
    }
}
