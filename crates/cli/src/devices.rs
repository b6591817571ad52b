//! `ringtrue devices`.

use ringtrue_media::audio::{DeviceInfo, DeviceKind, devices};

use crate::escape::for_screen;

/// The list, or one line that says why there is none.
pub fn list() -> Result<String, String> {
    let found = devices().map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err(
            "no sound devices; calls work without: --audio-in FILE.wav, tone:440 or silence, \
             --audio-out FILE.wav or null"
                .to_owned(),
        );
    }
    Ok(shown(&found))
}

fn shown(found: &[DeviceInfo]) -> String {
    let mut text = String::new();
    for (kind, title) in [
        (DeviceKind::Input, "Microphones (--audio-in):"),
        (DeviceKind::Output, "Speakers (--audio-out):"),
    ] {
        text.push_str(title);
        text.push('\n');
        for device in found.iter().filter(|device| device.kind == kind) {
            let mark = if device.default { '*' } else { ' ' };
            let id = for_screen(&device.id);
            text.push_str(&format!("{mark} {id}"));
            if device.name != device.id {
                text.push_str(&format!("  {}", for_screen(&device.name)));
            }
            text.push_str(&format!("  ({})\n", for_screen(&device.host)));
        }
    }
    if found.iter().any(|device| device.default) {
        text.push_str("* is used when none is named.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_one_is_marked() {
        let device = |id: &str, kind, default| DeviceInfo {
            id: id.to_owned(),
            name: format!("The {id}"),
            kind,
            default,
            host: "PulseAudio".to_owned(),
        };
        let text = shown(&[
            device("mic", DeviceKind::Input, false),
            device("headset", DeviceKind::Input, true),
            device("speaker", DeviceKind::Output, true),
        ]);
        assert!(text.contains("\n  mic  The mic  (PulseAudio)\n"), "{text}");
        assert!(text.contains("\n* headset  "), "{text}");
        let speakers = text.find("Speakers").unwrap();
        assert!(text.find("speaker  ").unwrap() > speakers, "{text}");
    }
}
