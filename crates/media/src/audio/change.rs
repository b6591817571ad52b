//! What is told of a sound device in the middle of its use.

use super::DeviceKind;

/// Another device has taken over from the one that was in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChange {
    /// Microphone or speaker.
    pub kind: DeviceKind,
    /// Why.
    pub reason: ChangeReason,
    /// The id ([`DeviceInfo::id`](super::DeviceInfo::id)) of the device that is in use now; `None`: there is none, until one comes.
    pub device: Option<String>,
}

/// Why another device has taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeReason {
    /// The one that was in use is gone.
    Lost,
    /// The one that the user named is there again, or any at all after there was none.
    Back,
    /// The system's default device is another one now, and the user named none.
    Default,
}

/// Who hears of it, on a thread of the device's own.
pub type OnChange = Box<dyn Fn(DeviceChange) + Send>;
