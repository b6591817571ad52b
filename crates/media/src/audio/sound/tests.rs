use super::*;

fn nobody() -> crate::audio::OnChange {
    Box::new(|_| ())
}

#[test]
fn a_device_that_is_not_there_is_named_with_its_alternatives() {
    let bell = Bell::silent();
    let Err(error) = CaptureDevice::open(Some("no such microphone"), &bell, nobody()) else {
        panic!("it was opened");
    };
    let message = error.to_string();
    assert!(message.contains("no such microphone"), "{message}");
    assert!(message.contains("--audio-in"), "{message}");
    assert!(!message.contains('\n'), "{message}");
    let (name, one) = (Some("no such speaker"), Channels::Mono);
    let Err(error) = PlaybackDevice::open(name, one, &bell, nobody()) else {
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
