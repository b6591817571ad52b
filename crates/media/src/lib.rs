//! RTP and RTCP, codecs, the jitter buffer, sound devices and sound files of Ringtrue.
//!
//! The heart is [`MediaStream`], a sans-IO core: it reads no clock, opens no socket and draws its
//! randomness from the seed that it is given. Its owner
//!
//! 1. gives it captured frames ([`MediaStream::handle_capture`]), received packets
//!    ([`MediaStream::handle_rtp`], [`MediaStream::handle_rtcp`]) and the passing of time
//!    ([`MediaStream::handle_timeout`], due at [`MediaStream::poll_timeout`]);
//! 2. then drains [`MediaStream::poll_transmit`] and [`MediaStream::poll_event`], and may give back what was
//!    sent ([`MediaStream::recycle`]), so that nothing more is allocated for it;
//! 3. and takes a frame out of [`MediaStream::playout`] every 10 ms.
//!
//! Inside, sound is 16 bit, 48 kHz, in frames of 10 ms ([`FRAME`] samples); mono, but where a stream has two
//! channels ([`Channels`]): then both sides go in by [`MediaStream::handle_capture_sides`] and come out by
//! [`MediaStream::sides`].
//!
//! ```
//! use std::time::{Instant, SystemTime};
//!
//! use ringtrue_media::audio::{Source, Tone};
//! use ringtrue_media::{Channel, Codec, FRAME, FRAME_TIME, MediaStream, StreamConfig, tone};
//!
//! // Alice plays a tone to bob; the network is a loop over what she wants to send.
//! let begin = Instant::now();
//! let wall = SystemTime::now();
//! let stream = |seed| MediaStream::new(StreamConfig::new(Codec::Opus, "cname"), seed, begin, wall);
//! let (mut alice, mut bob) = (stream(1)?, stream(2)?);
//! let mut microphone = Tone::new(440.0);
//! let mut heard = Vec::new();
//! for tick in 0..200 {
//!     let now = begin + FRAME_TIME * tick;
//!     let mut frame = [0; FRAME];
//!     microphone.read(&mut frame);
//!     alice.handle_capture(now, &frame);
//!     alice.handle_timeout(now);
//!     while let Some(packet) = alice.poll_transmit() {
//!         match packet.channel {
//!             Channel::Rtp => bob.handle_rtp(now, &packet.payload),
//!             Channel::Rtcp => bob.handle_rtcp(now, &packet.payload),
//!         }
//!     }
//!     heard.extend(bob.playout(now));
//! }
//! let report = tone::measure_frames(&heard, 440.0, 0.1);
//! assert!(report.seconds > 1.9 && report.longest_gap_ms < 10.0);
//! assert_eq!(bob.stats().lost, 0);
//! # Ok::<(), ringtrue_media::StreamError>(())
//! ```
#![deny(unsafe_code)]

pub mod audio;
mod channels;
pub mod codec;
pub mod comfort_noise;
pub mod jitter;
mod playout;
mod pool;
pub mod processing;
mod quality;
mod reception;
pub mod redundancy;
mod resample;
mod rtcp;
pub mod secure;
pub mod stream;
mod stretch;
mod telephone_event;
pub mod tone;

pub use channels::{Channels, Sides, mix};
pub use codec::{Codec, OpusSettings, UnknownCodec};
pub use stream::{
    Channel, CircuitBreaker, MediaEvent, MediaStream, MediaTransmit, PTIMES, StreamConfig,
    StreamError, StreamStats,
};

/// Samples a second of the inner sound format.
pub const SAMPLE_RATE: u32 = 48_000;

/// Samples of one frame (10 ms) of the inner sound format.
pub const FRAME: usize = 480;

/// The time that one frame lasts.
pub const FRAME_TIME: std::time::Duration = std::time::Duration::from_millis(10);
