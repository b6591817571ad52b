use super::*;
use crate::Channels;
use crate::codec::libopus::{Decoder, Input};
use crate::tone;

/// A file of its own for each test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let directory = std::env::temp_dir().join(format!("ringtrue-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Scratch(directory.join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn sine(hertz: f64, frame: u64) -> [i16; FRAME] {
    let mut samples = [0; FRAME];
    for (index, sample) in samples.iter_mut().enumerate() {
        let time = (frame * FRAME as u64 + index as u64) as f64 / f64::from(SAMPLE_RATE);
        *sample = (8_000.0 * (std::f64::consts::TAU * hertz * time).sin()) as i16;
    }
    samples
}

/// Two seconds: 440 Hz here, and 1 kHz from there, which pauses in the middle.
fn record(path: &Path) {
    let mut recorder = Recorder::create(path).unwrap();
    for frame in 0..200 {
        if !(80..120).contains(&frame) {
            recorder.play(&sine(1_000.0, frame));
        }
        recorder.capture(&sine(440.0, frame));
        if frame % 20 == 0 {
            // The ring is not for a call that is over in an instant.
            thread::sleep(Duration::from_millis(1));
        }
    }
    recorder.finish().unwrap();
}

#[test]
fn each_side_has_its_channel_and_its_time_in_a_wav_file() {
    let file = Scratch::new("sides.wav");
    record(&file.0);
    let reader = hound::WavReader::open(&file.0).unwrap();
    assert_eq!(
        (reader.spec().channels, reader.spec().sample_rate),
        (2, 48_000)
    );
    let samples: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
    let side = |which: usize| {
        samples
            .iter()
            .copied()
            .skip(which)
            .step_by(2)
            .collect::<Vec<_>>()
    };
    let (left, right) = (side(0), side(1));
    assert_eq!(left.len(), 200 * FRAME);
    let wanted: Vec<i16> = (0..200).flat_map(|frame| sine(440.0, frame)).collect();
    assert_eq!(left, wanted);
    let silent = right.iter().enumerate().filter(|(_, sample)| **sample == 0);
    let pause = silent
        .filter(|(index, _)| (80 * FRAME..120 * FRAME).contains(index))
        .count();
    assert_eq!(pause, 40 * FRAME);
    assert_eq!(
        right[..80 * FRAME],
        (0..80).flat_map(|f| sine(1_000.0, f)).collect::<Vec<_>>()
    );
    assert_eq!(
        right[120 * FRAME..],
        (120..200)
            .flat_map(|f| sine(1_000.0, f))
            .collect::<Vec<_>>()
    );
}

#[test]
fn an_ogg_opus_file_is_as_long_as_the_call() {
    let file = Scratch::new("sides.ogg");
    record(&file.0);
    let mut packets = ogg::PacketReader::new(File::open(&file.0).unwrap());
    let head = packets.read_packet_expected().unwrap().data;
    assert_eq!(
        (&head[..8], head[8], head[9]),
        (b"OpusHead".as_slice(), 1, 2)
    );
    let pre_skip = usize::from(u16::from_le_bytes([head[10], head[11]]));
    assert!(
        packets
            .read_packet_expected()
            .unwrap()
            .data
            .starts_with(b"OpusTags")
    );
    let mut decoder = Decoder::new(Channels::Stereo).unwrap();
    let (mut sound, mut last) = (Vec::new(), 0);
    while let Some(packet) = packets.read_packet().unwrap() {
        let mut samples = [0; 2 * 5_760];
        let count = decoder
            .decode(Input::Packet(&packet.data), &mut samples)
            .unwrap();
        sound.extend_from_slice(&samples[..2 * count]);
        last = packet.absgp_page();
        assert_eq!(
            packet.last_in_stream(),
            sound.len() / 2 >= last as usize && last > 95_000
        );
    }
    // RFC 7845 section 4.4: the last granule position tells where it ends.
    assert_eq!(last as usize - pre_skip, 200 * FRAME);
    let side = |which: usize| {
        let side = sound.iter().copied().skip(which).step_by(2).skip(pre_skip);
        side.take(200 * FRAME).collect::<Vec<i16>>()
    };
    let (left, right) = (side(0), side(1));
    let level = |side: &[i16], from: usize, hertz| {
        tone::level(&side[from * FRAME..(from + 30) * FRAME], hertz)
    };
    assert!(level(&left, 10, 440.0) > 0.2 && level(&left, 90, 440.0) > 0.2);
    assert!(level(&right, 10, 1_000.0) > 0.2 && level(&right, 150, 1_000.0) > 0.2);
    assert!(level(&right, 85, 1_000.0) < 0.02 && level(&left, 10, 1_000.0) < 0.02);
}

#[test]
fn sound_that_is_played_late_is_put_where_it_belongs() {
    let file = Scratch::new("late.wav");
    let mut recorder = Recorder::create(&file.0).unwrap();
    for group in 0..30 {
        (0..3).for_each(|frame| recorder.capture(&sine(440.0, group * 3 + frame)));
        (0..3).for_each(|frame| recorder.play(&sine(1_000.0, group * 3 + frame)));
    }
    recorder.finish().unwrap();
    let reader = hound::WavReader::open(&file.0).unwrap();
    let samples: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
    let right: Vec<i16> = samples.iter().copied().skip(1).step_by(2).collect();
    let wanted: Vec<i16> = (0..90).flat_map(|frame| sine(1_000.0, frame)).collect();
    assert_eq!(right, wanted);
}

#[test]
fn a_name_says_what_it_is_and_a_full_disk_is_told_once() {
    assert!(is_recordable(Path::new("a.WAV")) && is_recordable(Path::new("b.opus")));
    assert!(!is_recordable(Path::new("a.mp3")) && !is_recordable(Path::new("wav")));
    assert!(Recorder::create(Path::new("/no/such/place/a.wav")).is_err());
    let full = Path::new("/dev/full");
    if !full.exists() {
        println!("skipped: no /dev/full here");
        return;
    }
    // A file of a name that can be recorded to, on a disk that is always full.
    let file = Scratch::new("full.ogg");
    std::os::unix::fs::symlink(full, &file.0).unwrap();
    let mut recorder = Recorder::create(&file.0).unwrap();
    let mut told = Vec::new();
    for frame in 0..2_000 {
        recorder.capture(&sine(440.0, frame));
        told.extend(recorder.poll_error());
        if frame % 100 == 99 {
            thread::sleep(Duration::from_millis(60));
        }
        if told.len() == 1 && frame > 1_000 {
            break;
        }
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].to_string().contains("full.ogg"));
    assert_eq!(recorder.finish(), Ok(()));
}
