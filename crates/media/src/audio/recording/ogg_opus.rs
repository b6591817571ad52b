//! Opus in Ogg (RFC 7845).

use std::fs::File;
use std::io::{BufWriter, Write};

use ogg::{PacketWriteEndInfo, PacketWriter};

use crate::Channels;
use crate::codec::libopus::{Application, Encoder, Setting};
use crate::{FRAME, SAMPLE_RATE};

/// Samples of one side in one packet: 20 ms.
const PACKET: usize = 2 * FRAME;
/// The largest packet that Opus makes (RFC 6716 section 3.4).
const PACKET_MAX: usize = 1_275;
/// Enough for two voices, each by itself.
const BITRATE: i32 = 64_000;
/// One stream a file: any number does.
const SERIAL: u32 = 0x5254_5452;

/// Writes a stereo stream.
pub(super) struct OggOpusWriter {
    packets: PacketWriter<'static, BufWriter<File>>,
    encoder: Encoder,
    /// Interleaved samples of the packet to come.
    samples: Vec<i16>,
    /// What the encoder adds before the first sample (RFC 7845 section 4.2).
    pre_skip: u64,
    /// Samples of one side that were given, and encoded.
    given: u64,
    encoded: u64,
    /// The next packet ends a page.
    end_page: bool,
}

impl OggOpusWriter {
    pub(super) fn new(file: BufWriter<File>) -> Result<OggOpusWriter, String> {
        let mut encoder = Encoder::new(Channels::Stereo, Application::Audio)
            .map_err(|error| error.to_string())?;
        let set = encoder.set(Setting::Bitrate, BITRATE);
        set.map_err(|error| error.to_string())?;
        let pre_skip = encoder.look_ahead().map_err(|error| error.to_string())?;
        let pre_skip = u16::try_from(pre_skip).map_err(|error| error.to_string())?;
        let mut packets = PacketWriter::new(file);
        for header in [identification(pre_skip), comments()] {
            packets
                .write_packet(header, SERIAL, PacketWriteEndInfo::EndPage, 0)
                .map_err(|error| error.to_string())?;
        }
        Ok(OggOpusWriter {
            packets,
            encoder,
            samples: Vec::with_capacity(2 * PACKET),
            pre_skip: u64::from(pre_skip),
            given: 0,
            encoded: 0,
            end_page: false,
        })
    }

    pub(super) fn write(
        &mut self,
        left: &[i16; FRAME],
        right: &[i16; FRAME],
    ) -> Result<(), String> {
        for (left, right) in left.iter().zip(right) {
            self.samples.extend([*left, *right]);
        }
        self.given += FRAME as u64;
        if self.samples.len() < 2 * PACKET {
            return Ok(());
        }
        let end = match std::mem::take(&mut self.end_page) {
            true => PacketWriteEndInfo::EndPage,
            false => PacketWriteEndInfo::NormalPacket,
        };
        self.encode(end)
    }

    /// Encodes what there is, filled up with silence.
    fn encode(&mut self, end: PacketWriteEndInfo) -> Result<(), String> {
        self.samples.resize(2 * PACKET, 0);
        let mut packet = Vec::new();
        let encoded = self.encoder.encode(&self.samples, &mut packet, PACKET_MAX);
        encoded.map_err(|error| error.to_string())?;
        self.samples.clear();
        self.encoded += PACKET as u64;
        // Where the sound ends, counted from before the pre-skip; on the last page earlier than
        // the packet does (RFC 7845 section 4.4).
        let granule = self.encoded.min(self.given + self.pre_skip);
        let written = self.packets.write_packet(packet, SERIAL, end, granule);
        written.map_err(|error| error.to_string())
    }

    /// What was written so far can be played.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        self.end_page = true;
        let flushed = self.packets.inner_mut().flush();
        flushed.map_err(|error| error.to_string())
    }

    pub(super) fn finish(mut self) -> Result<(), String> {
        // So much that the last sample has left the encoder, too.
        while self.encoded + (PACKET as u64) < self.given + self.pre_skip {
            self.encode(PacketWriteEndInfo::NormalPacket)?;
        }
        self.encode(PacketWriteEndInfo::EndStream)?;
        self.flush()
    }
}

/// The identification header (RFC 7845 section 5.1).
fn identification(pre_skip: u16) -> Vec<u8> {
    let mut header = b"OpusHead".to_vec();
    // Version 1, two channels.
    header.extend([1, 2]);
    header.extend(pre_skip.to_le_bytes());
    header.extend(SAMPLE_RATE.to_le_bytes());
    // No gain, and the mapping of plain stereo: left, right.
    header.extend([0, 0, 0]);
    header
}

/// The comment header (RFC 7845 section 5.2): who made it, and nothing about whom.
fn comments() -> Vec<u8> {
    let vendor = concat!("ringtrue ", env!("CARGO_PKG_VERSION"));
    let mut header = b"OpusTags".to_vec();
    header.extend((vendor.len() as u32).to_le_bytes());
    header.extend(vendor.as_bytes());
    header.extend(0u32.to_le_bytes());
    header
}
