//! RTP and RTCP, codecs, the jitter buffer, sound devices and sound files of Ringtrue.
//!
//! The heart is [`MediaStream`], a sans-IO core: it reads no clock, opens no socket and draws its
//! randomness from the seed that it is given. Its owner
//!
//! 1. gives it captured frames ([`MediaStream::handle_capture`]), received packets
//!    ([`MediaStream::handle_rtp`], [`MediaStream::handle_rtcp`]) and the passing of time
//!    ([`MediaStream::handle_timeout`], due at [`MediaStream::poll_timeout`]);
//! 2. then drains [`MediaStream::poll_transmit`] and [`MediaStream::poll_event`];
//! 3. and takes a frame out of [`MediaStream::playout`] every 20 ms.
//!
//! Inside, sound is mono, 16 bit, 48 kHz, in frames of 20 ms ([`FRAME`] samples).
#![deny(unsafe_code)]

pub mod audio;
pub mod codec;
pub mod stream;
pub mod tone;

pub use codec::{Codec, UnknownCodec};
pub use stream::{
    Channel, MediaEvent, MediaStream, MediaTransmit, StreamConfig, StreamError, StreamStats,
};

/// Samples a second of the inner sound format.
pub const SAMPLE_RATE: u32 = 48_000;

/// Samples of one frame (20 ms) of the inner sound format.
pub const FRAME: usize = 960;

/// The time that one frame lasts.
pub const FRAME_TIME: std::time::Duration = std::time::Duration::from_millis(20);
