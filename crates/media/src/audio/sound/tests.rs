use super::*;

/// A ring filled by a device and emptied by an owner whose clocks differ by 300 ppm.
#[test]
fn the_level_is_kept_against_a_drifting_clock() {
    for drift in [1.0003, 0.9997] {
        let target = 1_920.0;
        let mut level = Level::new(target);
        let mut waiting = 960.0f64;
        let mut worst = 0.0f64;
        for tick in 0..30_000 {
            waiting += 960.0 * drift;
            let trim = level.correct(waiting as usize);
            waiting -= 960.0 / trim;
            if tick > 2_000 {
                worst = worst.max((waiting + 960.0 - target).abs());
            }
        }
        assert!(worst < 200.0, "{drift} {worst}");
    }
}

#[test]
fn a_device_that_is_not_there_is_named_with_its_alternatives() {
    let Err(error) = CaptureDevice::open(Some("no such microphone")) else {
        panic!("it was opened");
    };
    let message = error.to_string();
    assert!(message.contains("no such microphone"), "{message}");
    assert!(message.contains("--audio-in"), "{message}");
    assert!(!message.contains('\n'), "{message}");
    let Err(error) = PlaybackDevice::open(Some("no such speaker")) else {
        panic!("it was opened");
    };
    assert!(error.to_string().contains("--audio-out"), "{error}");
}

#[test]
fn devices_are_things_that_a_driver_can_own() {
    fn send<T: Send>() {}
    send::<CaptureDevice>();
    send::<PlaybackDevice>();
}
