use super::*;
use crate::{FRAME_TIME, SAMPLE_RATE, tone};

/// A file in the system's temporary directory that goes away again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("ringtrue-media-{}-{name}.wav", std::process::id());
        Scratch(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn read_all(source: &mut dyn Source) -> Vec<i16> {
    let mut samples = Vec::new();
    let mut frame = [0; FRAME];
    while source.read(&mut frame) {
        samples.extend(frame);
    }
    samples
}

#[test]
fn what_is_written_is_read_again() {
    let file = Scratch::new("round");
    let option = file.0.display().to_string();
    let mut tone = Tone::new(500.0);
    let mut sink = AudioOutput::parse(&option).unwrap().open().unwrap();
    let mut frame = [0; FRAME];
    for _ in 0..100 {
        tone.read(&mut frame);
        sink.write(&frame).unwrap();
    }
    sink.finish().unwrap();
    let mut source = AudioInput::parse(&option).unwrap().open().unwrap();
    let samples = read_all(source.as_mut());
    assert_eq!(samples.len(), 100 * FRAME);
    let report = tone::measure(&samples, 500.0, SAMPLE_RATE, 0.2);
    assert!(
        report.seconds > 0.98 && report.longest_gap_ms == 0.0,
        "{report:?}"
    );
    // After the end: silence, and no more sound.
    assert!(!source.read(&mut frame));
    assert!(frame.iter().all(|&sample| sample == 0));
}

#[test]
fn a_sink_that_is_dropped_leaves_a_whole_file() {
    let file = Scratch::new("dropped");
    let mut sink = WavSink::create(&file.0, Channels::Mono).unwrap();
    sink.write(&[7; FRAME]).unwrap();
    drop(sink);
    let samples = read_all(&mut WavSource::open(&file.0, Channels::Mono).unwrap());
    assert_eq!(samples, [7; FRAME]);
}

#[test]
fn a_file_can_be_played_while_it_is_written() {
    let file = Scratch::new("growing");
    let mut sink = WavSink::create(&file.0, Channels::Mono).unwrap();
    for _ in 0..120 {
        sink.write(&[7; FRAME]).unwrap();
    }
    let samples = read_all(&mut WavSource::open(&file.0, Channels::Mono).unwrap());
    assert_eq!(samples.len(), 100 * FRAME);
}

#[test]
fn files_of_any_rate_channels_and_depth_are_understood() {
    for (rate, channels, bits) in [
        (8_000, 1, 8),
        (16_000, 1, 16),
        (44_100, 2, 16),
        (96_000, 2, 24),
        (48_000, 1, 32),
    ] {
        let file = Scratch::new(&format!("{rate}-{bits}"));
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: bits,
            sample_format: if bits == 32 {
                hound::SampleFormat::Float
            } else {
                hound::SampleFormat::Int
            },
        };
        let mut writer = hound::WavWriter::create(&file.0, spec).unwrap();
        for n in 0..rate {
            let sample =
                0.5 * (std::f64::consts::TAU * 600.0 * f64::from(n) / f64::from(rate)).sin();
            for _ in 0..channels {
                match bits {
                    32 => writer.write_sample(sample as f32).unwrap(),
                    _ => writer
                        .write_sample((sample * 2f64.powi(i32::from(bits) - 1)) as i32)
                        .unwrap(),
                }
            }
        }
        writer.finalize().unwrap();
        let samples = read_all(&mut WavSource::open(&file.0, Channels::Mono).unwrap());
        let seconds = samples.len() as f64 / f64::from(SAMPLE_RATE);
        assert!((1.0..1.05).contains(&seconds), "{rate} {seconds}");
        let report = tone::measure(&samples, 600.0, SAMPLE_RATE, 0.45);
        assert!(
            report.seconds > 0.97 && report.longest_gap_ms == 0.0,
            "{rate} {report:?}"
        );
    }
}

/// A tone on each side, apart to the last sample where the rate is ours, and far apart where it is not.
#[test]
fn two_sides_are_written_and_read_again() {
    let file = Scratch::new("sides");
    let option = file.0.display().to_string();
    let (mut left, mut right) = (Tone::new(500.0), Tone::new(700.0));
    let sink = AudioOutput::parse(&option).unwrap();
    let mut sink = sink.open_channels(Channels::Stereo).unwrap();
    let mut written = Vec::new();
    for _ in 0..50 {
        let mut sides = [[0; FRAME]; 2];
        left.read(&mut sides[0]);
        right.read(&mut sides[1]);
        sink.write_sides(&sides).unwrap();
        written.push(sides);
    }
    // What has one side goes to both.
    sink.write(&[7; FRAME]).unwrap();
    written.push([[7; FRAME]; 2]);
    sink.finish().unwrap();
    assert_eq!(hound::WavReader::open(&file.0).unwrap().spec().channels, 2);
    let input = AudioInput::parse(&option).unwrap();
    let mut source = input.open_channels(Channels::Stereo).unwrap();
    let mut mono = input.open().unwrap();
    assert!(source.has_sides() && !mono.has_sides());
    for written in written {
        let mut sides = [[1; FRAME]; 2];
        assert!(source.read_sides(&mut sides));
        let near = |(a, b): (&i16, &i16)| a.abs_diff(*b) <= 1;
        assert!((0..2).all(|side| sides[side].iter().zip(&written[side]).all(near)));
        let mut mixed = [1; FRAME];
        assert!(mono.read(&mut mixed));
        assert!(mixed.iter().zip(&mix(&sides)).all(near));
    }
    let mut sides = [[1; FRAME]; 2];
    assert!(!source.read_sides(&mut sides));
    assert_eq!(sides, [[0; FRAME]; 2]);
}

#[test]
fn sides_of_files_of_other_rates_and_more_channels_are_apart() {
    for (rate, channels) in [(44_100u32, 2u16), (8_000, 4)] {
        let file = Scratch::new(&format!("sides-{rate}"));
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&file.0, spec).unwrap();
        for n in 0..rate {
            for channel in 0..channels {
                let hz = if channel % 2 == 0 { 500.0 } else { 700.0 };
                let phase = std::f64::consts::TAU * hz * f64::from(n) / f64::from(rate);
                writer
                    .write_sample((10_000.0 * phase.sin()) as i16)
                    .unwrap();
            }
        }
        writer.finalize().unwrap();
        let mut source = WavSource::open(&file.0, Channels::Stereo).unwrap();
        let (mut sides, mut heard) = ([[0; FRAME]; 2], [Vec::new(), Vec::new()]);
        while source.read_sides(&mut sides) {
            heard[0].extend(sides[0]);
            heard[1].extend(sides[1]);
        }
        for (heard, own, other) in [(&heard[0], 500.0, 700.0), (&heard[1], 700.0, 500.0)] {
            let report = tone::measure(heard, own, SAMPLE_RATE, 0.28);
            assert!(report.seconds > 0.97, "{rate} {report:?}");
            let middle = &heard[SAMPLE_RATE as usize / 4..][..SAMPLE_RATE as usize / 2];
            assert!(tone::level(middle, other) < 0.003, "{rate}");
        }
    }
}

#[test]
fn files_that_are_none_are_refused_by_name() {
    let file = Scratch::new("broken");
    std::fs::write(&file.0, b"RIFF").unwrap();
    let Err(error) = WavSource::open(&file.0, Channels::Mono) else {
        panic!("it was read")
    };
    assert!(error.to_string().contains("broken"), "{error}");
    let missing = AudioInput::parse("/no/such/file.wav").unwrap().open();
    assert!(matches!(missing, Err(AudioError::Read { .. })));
    let unwritable = AudioOutput::parse("/no/such/file.wav").unwrap().open();
    assert!(matches!(unwritable, Err(AudioError::Write { .. })));
}

#[test]
fn options_are_read() {
    assert_eq!(AudioInput::parse("tone:440"), Ok(AudioInput::Tone(440.0)));
    assert_eq!(AudioInput::parse("silence"), Ok(AudioInput::Silence));
    assert_eq!(AudioInput::parse("default"), Ok(AudioInput::Device(None)));
    assert_eq!(
        AudioInput::parse("a.WAV"),
        Ok(AudioInput::Wav("a.WAV".into()))
    );
    assert_eq!(
        AudioInput::parse("mic"),
        Ok(AudioInput::Device(Some("mic".into())))
    );
    for bad in ["tone:", "tone:x", "tone:NaN", "tone:5", "tone:99999", ""] {
        assert!(AudioInput::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(AudioOutput::parse("null"), Ok(AudioOutput::Null));
    assert_eq!(
        AudioOutput::parse("b.wav"),
        Ok(AudioOutput::Wav("b.wav".into()))
    );
    assert!(AudioOutput::parse("").is_err());
}

#[test]
fn tones_and_silence_never_end() {
    let mut frame = [1; FRAME];
    assert!(Silence.read(&mut frame));
    assert!(frame.iter().all(|&sample| sample == 0));
    let mut tone = Tone::new(440.0);
    let frames: Vec<_> = (0..1_000)
        .map(|_| {
            assert!(tone.read(&mut frame));
            frame
        })
        .collect();
    let report = tone::measure_frames(&frames, 440.0, 0.24);
    assert!(report.seconds > 10.0 - 2.0 * FRAME_TIME.as_secs_f64() && report.longest_gap_ms == 0.0);
}
