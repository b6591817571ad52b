//! libopus, by its C interface: the only place that calls it. Each owner holds what libopus allocated,
//! frees it once, and lends it to nobody; every length that is passed on is that of the slice beside it.
//!
//! Payloads come from the network: libopus is built with its own checks (`OPUS_HARDENING`), and what is
//! asked of it here is bounded before it is asked.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::fmt;
use std::ptr::{self, NonNull};

use opusic_sys as sys;

use crate::{Channels, SAMPLE_RATE};

/// Samples a second, as libopus takes them.
const RATE: i32 = SAMPLE_RATE as i32;
/// The longest packet, 120 ms, in samples of one channel (RFC 6716 section 3.1).
pub(crate) const LONGEST: usize = 5_760;
/// libopus makes sound up in multiples of 2.5 ms.
pub(crate) const GRAIN: usize = 120;
/// The most frames of a packet (RFC 6716 section 3.2.5).
const MOST_FRAMES: usize = 48;
/// libopus keeps one second of DRED at most.
const MOST_DRED: usize = SAMPLE_RATE as usize;

/// What libopus said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Error(c_int);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: for any number, `opus_strerror` gives a constant string that ends in zero.
        let text = unsafe { CStr::from_ptr(sys::opus_strerror(self.0)) };
        f.write_str(&text.to_string_lossy())
    }
}

impl std::error::Error for Error {}

/// A count that libopus gives, or its error.
fn count(returned: c_int) -> Result<usize, Error> {
    usize::try_from(returned).map_err(|_| Error(returned))
}

/// A length for libopus; a slice that is too long is a bad argument.
fn length(slice_len: usize) -> Result<c_int, Error> {
    c_int::try_from(slice_len).map_err(|_| Error(sys::OPUS_BAD_ARG))
}

/// What libopus made, or its error.
fn made<T>(pointer: *mut T, error: c_int) -> Result<NonNull<T>, Error> {
    let otherwise = match error {
        sys::OPUS_OK => sys::OPUS_ALLOC_FAIL,
        error => error,
    };
    NonNull::new(pointer).ok_or(Error(otherwise))
}

/// What an encoder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Application {
    /// Speech that is understood.
    Voip,
    /// Anything, as it is.
    Audio,
}

/// What can be set of an encoder: each takes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Bits a second.
    Bitrate,
    /// 0 to 10.
    Complexity,
    /// 1: every packet takes what it needs; 0: all take the same.
    Vbr,
    /// One of [`Bandwidth`].
    MaxBandwidth,
    /// 1: with in-band FEC.
    InbandFec,
    /// The share of lost packets, in percent.
    PacketLoss,
    /// 1: pauses are told by packets of one or two octets.
    Dtx,
    /// How far back DRED reaches, in units of 10 ms, up to 104.
    Dred,
}

impl Setting {
    fn request(self) -> c_int {
        match self {
            Setting::Bitrate => sys::OPUS_SET_BITRATE_REQUEST,
            Setting::Complexity => sys::OPUS_SET_COMPLEXITY_REQUEST,
            Setting::Vbr => sys::OPUS_SET_VBR_REQUEST,
            Setting::MaxBandwidth => sys::OPUS_SET_MAX_BANDWIDTH_REQUEST,
            Setting::InbandFec => sys::OPUS_SET_INBAND_FEC_REQUEST,
            Setting::PacketLoss => sys::OPUS_SET_PACKET_LOSS_PERC_REQUEST,
            Setting::Dtx => sys::OPUS_SET_DTX_REQUEST,
            Setting::Dred => sys::OPUS_SET_DRED_DURATION_REQUEST,
        }
    }
}

/// How high the sound goes (RFC 6716 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bandwidth {
    Narrow = sys::OPUS_BANDWIDTH_NARROWBAND as isize,
    Medium = sys::OPUS_BANDWIDTH_MEDIUMBAND as isize,
    Wide = sys::OPUS_BANDWIDTH_WIDEBAND as isize,
}

/// An encoder of 48 kHz.
#[derive(Debug)]
pub(crate) struct Encoder {
    state: NonNull<sys::OpusEncoder>,
    channels: Channels,
}

// SAFETY: libopus keeps no thread's state; whoever owns the encoder may call it, one at a time.
unsafe impl Send for Encoder {}

impl Encoder {
    pub(crate) fn new(channels: Channels, application: Application) -> Result<Encoder, Error> {
        let application = match application {
            Application::Voip => sys::OPUS_APPLICATION_VOIP,
            Application::Audio => sys::OPUS_APPLICATION_AUDIO,
        };
        let mut error = sys::OPUS_OK;
        // SAFETY: `error` outlives the call; libopus checks the other arguments.
        let state = unsafe {
            sys::opus_encoder_create(RATE, channels as c_int, application, &raw mut error)
        };
        let state = made(state, error)?;
        Ok(Encoder { state, channels })
    }

    /// Sets one thing; libopus refuses what makes no sense.
    pub(crate) fn set(&mut self, setting: Setting, value: i32) -> Result<(), Error> {
        // SAFETY: the encoder is ours alone, and every request of `Setting` takes one `opus_int32`.
        count(unsafe { sys::opus_encoder_ctl(self.state.as_ptr(), setting.request(), value) })
            .map(drop)
    }

    /// How many samples of one channel the sound comes later.
    pub(crate) fn look_ahead(&mut self) -> Result<usize, Error> {
        let mut samples: i32 = 0;
        // SAFETY: the encoder is ours alone; this request takes a pointer to an `opus_int32`, which
        // outlives the call.
        count(unsafe {
            sys::opus_encoder_ctl(
                self.state.as_ptr(),
                sys::OPUS_GET_LOOKAHEAD_REQUEST,
                &raw mut samples,
            )
        })?;
        count(samples)
    }

    /// Writes the packet of this (interleaved) sound, of `most` octets at most, in place of what `packet`
    /// holds; its capacity stays.
    pub(crate) fn encode(
        &mut self,
        sound: &[i16],
        packet: &mut Vec<u8>,
        most: usize,
    ) -> Result<(), Error> {
        packet.clear();
        packet.resize(most, 0);
        let samples = length(sound.len() / self.channels as usize)?;
        let room = length(packet.len())?;
        // SAFETY: libopus reads `samples` of each channel, which is no more than `sound` holds, and
        // writes `room` octets at most, which `packet` has.
        let written = count(unsafe {
            sys::opus_encode(
                self.state.as_ptr(),
                sound.as_ptr(),
                samples,
                packet.as_mut_ptr(),
                room,
            )
        });
        packet.truncate(*written.as_ref().unwrap_or(&0));
        written.map(drop)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: it came from `opus_encoder_create`, and nobody uses it any more.
        unsafe { sys::opus_encoder_destroy(self.state.as_ptr()) }
    }
}

/// What a decoder makes sound of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    /// A packet.
    Packet(&'a [u8]),
    /// The FEC data of a packet, about what is lost before it.
    Fec(&'a [u8]),
    /// Nothing: it is to be made up.
    Nothing,
    /// The DRED data of a packet; what begins so many samples before it.
    Dred(&'a Dred, usize),
}

/// A decoder of 48 kHz.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: NonNull<sys::OpusDecoder>,
    channels: Channels,
}

// SAFETY: as for the encoder.
unsafe impl Send for Decoder {}

impl Decoder {
    pub(crate) fn new(channels: Channels) -> Result<Decoder, Error> {
        let mut error = sys::OPUS_OK;
        // SAFETY: `error` outlives the call; libopus checks the other arguments.
        let state = unsafe { sys::opus_decoder_create(RATE, channels as c_int, &raw mut error) };
        let state = made(state, error)?;
        Ok(Decoder { state, channels })
    }

    pub(crate) fn channels(&self) -> Channels {
        self.channels
    }

    /// How much work it does, 0 to 10: from 5 on, a neural network makes up what is lost.
    pub(crate) fn set_complexity(&mut self, complexity: i32) -> Result<(), Error> {
        let request = sys::OPUS_SET_COMPLEXITY_REQUEST;
        // SAFETY: the decoder is ours alone, and this request takes one `opus_int32`.
        count(unsafe { sys::opus_decoder_ctl(self.state.as_ptr(), request, complexity) }).map(drop)
    }

    /// Fills the (interleaved) sound: from a packet with as much as it holds, else with all that there is
    /// room for. That is to be in multiples of [`GRAIN`]. Gives the samples of one channel.
    pub(crate) fn decode(&mut self, input: Input<'_>, sound: &mut [i16]) -> Result<usize, Error> {
        let samples = (sound.len() / self.channels as usize).min(LONGEST);
        let samples = length(samples)?;
        let (payload, fec) = match input {
            Input::Packet(payload) => (payload, 0),
            Input::Fec(payload) => (payload, 1),
            Input::Nothing => (&[][..], 0),
            Input::Dred(dred, before) => {
                let before = length(before.min(MOST_DRED))?;
                let (state, dred) = (self.state.as_ptr(), dred.state.as_ptr());
                // SAFETY: both states are whole, the first ours alone; libopus writes `samples` of each
                // channel at most, which `sound` has room for.
                let written = unsafe {
                    sys::opus_decoder_dred_decode(state, dred, before, sound.as_mut_ptr(), samples)
                };
                return count(written);
            }
        };
        let octets = length(payload.len())?;
        // A null pointer, not one to nothing, says that a packet is lost.
        let payload = match payload.is_empty() {
            true => ptr::null(),
            false => payload.as_ptr(),
        };
        // SAFETY: libopus reads `octets` of the payload, none of a null pointer, and writes `samples` of
        // each channel at most, which `sound` has room for.
        count(unsafe {
            sys::opus_decode(
                self.state.as_ptr(),
                payload,
                octets,
                sound.as_mut_ptr(),
                samples,
                fec,
            )
        })
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: it came from `opus_decoder_create`, and nobody uses it any more.
        unsafe { sys::opus_decoder_destroy(self.state.as_ptr()) }
    }
}

/// What a packet's DRED says about the time before it.
#[derive(Debug)]
pub(crate) struct Dred {
    reader: NonNull<sys::OpusDREDDecoder>,
    state: NonNull<sys::OpusDRED>,
}

// SAFETY: as for the encoder; a shared `Dred` is only read.
unsafe impl Send for Dred {}

impl Dred {
    pub(crate) fn new() -> Result<Dred, Error> {
        let mut error = sys::OPUS_OK;
        // SAFETY: `error` outlives the call.
        let reader = made(
            unsafe { sys::opus_dred_decoder_create(&raw mut error) },
            error,
        )?;
        // SAFETY: `error` outlives the call.
        let state = made(unsafe { sys::opus_dred_alloc(&raw mut error) }, error);
        let Ok(state) = state else {
            // SAFETY: it was made just now, and nobody else knows it.
            unsafe { sys::opus_dred_decoder_destroy(reader.as_ptr()) };
            return Err(Error(error));
        };
        // libopus leaves the state as it found the memory until something is parsed.
        let mut dred = Dred { reader, state };
        dred.parse(&[0], 0).map(|_| dred)
    }

    /// Reads the DRED of a packet, as far back as `most` samples. Gives the samples before the packet
    /// that it covers: from the first figure back to the second; nothing if the packet has none.
    pub(crate) fn parse(&mut self, packet: &[u8], most: usize) -> Result<(usize, usize), Error> {
        let octets = length(packet.len())?;
        let most = length(most.min(MOST_DRED))?;
        let mut end: c_int = 0;
        // SAFETY: both states are ours alone; libopus reads `octets` of the packet, and `end` outlives
        // the call.
        let reach = count(unsafe {
            sys::opus_dred_parse(
                self.reader.as_ptr(),
                self.state.as_ptr(),
                packet.as_ptr(),
                octets,
                most,
                RATE,
                &raw mut end,
                0,
            )
        })?;
        Ok((count(end)?, reach))
    }
}

impl Drop for Dred {
    fn drop(&mut self) {
        // SAFETY: both came from libopus' own functions, and nobody uses them any more.
        unsafe {
            sys::opus_dred_free(self.state.as_ptr());
            sys::opus_dred_decoder_destroy(self.reader.as_ptr());
        }
    }
}

/// How many samples of one channel a packet holds; an error if it is no Opus packet (RFC 6716
/// section 3.4).
pub(crate) fn samples(packet: &[u8]) -> Result<usize, Error> {
    let octets = length(packet.len())?;
    let mut sizes = [0; MOST_FRAMES];
    // SAFETY: libopus reads `octets` of the packet and writes `MOST_FRAMES` sizes at most; it takes null
    // pointers for what nobody asks for.
    count(unsafe {
        sys::opus_packet_parse(
            packet.as_ptr(),
            octets,
            ptr::null_mut(),
            ptr::null_mut(),
            sizes.as_mut_ptr(),
            ptr::null_mut(),
        )
    })?;
    // SAFETY: libopus reads `octets` of the packet, which is not empty, or was refused.
    count(unsafe { sys::opus_packet_get_nb_samples(packet.as_ptr(), octets, RATE) })
}

/// Whether a packet carries FEC data (LBRR) about the one before it.
pub(crate) fn has_fec(packet: &[u8]) -> bool {
    let (Ok(octets), false) = (length(packet.len()), packet.is_empty()) else {
        return false;
    };
    // SAFETY: libopus reads `octets` of the packet, and there is one at least.
    unsafe { sys::opus_packet_has_lbrr(packet.as_ptr(), octets) == 1 }
}

/// The TOC octet of a packet (RFC 6716 section 3.1), and the first octets of its frames but the empty ones;
/// `None` if it is no Opus packet.
pub(crate) fn frame_heads(packet: &[u8]) -> Option<(u8, impl Iterator<Item = u8>)> {
    const MOST: usize = 48;
    let octets = length(packet.len()).ok()?;
    if packet.is_empty() {
        return None;
    }
    let mut toc = 0;
    let mut frames = [std::ptr::null(); MOST];
    let mut sizes = [0; MOST];
    // SAFETY: libopus reads `octets` of the packet and writes at most 48 pointers and sizes (opus.h); the
    // offset of the payload is not asked for.
    let count = unsafe {
        sys::opus_packet_parse(
            packet.as_ptr(),
            octets,
            &mut toc,
            frames.as_mut_ptr(),
            sizes.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(count).ok()?;
    let base = packet.as_ptr() as usize;
    let mut heads = [None; MOST];
    for ((head, frame), size) in heads.iter_mut().zip(frames).zip(sizes).take(count) {
        // The frames lie within the packet.
        let at = (frame as usize).checked_sub(base);
        *head = at
            .and_then(|at| packet.get(at))
            .filter(|_| size > 0)
            .copied();
    }
    Some((toc, heads.into_iter().flatten()))
}
