//! RTCP (RFC 3550 section 6): compound packets written and read. The bytes are rtcp-types' work.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rtcp_types::prelude::*;
use rtcp_types::{
    Bye, Compound, Packet, ReceiverReport, ReportBlock, Sdes, SdesChunk, SdesItem, SenderReport,
};

mod voip_metrics;

use crate::reception::Block;
use crate::redundancy::trace::Reported;

pub(crate) use self::voip_metrics::{UNKNOWN, VoipMetrics};

/// The longest compound packet that is looked at.
const LONGEST: usize = 1_500;
/// Seconds from 1900 to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;
/// The SDES item CNAME (RFC 3550 section 6.5.1), and the longest one that fits.
const CNAME: u8 = 1;
const LONGEST_CNAME: usize = 255;
/// The packet type of extended reports (RFC 3611 section 2).
const EXTENDED_REPORT: u8 = 207;

/// What our sender tells about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderInfo {
    pub(crate) ntp: u64,
    pub(crate) rtp_timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
}

/// One compound packet of ours.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) ssrc: u32,
    pub(crate) cname: &'a str,
    /// Present if we sent since the last but one report.
    pub(crate) sender: Option<SenderInfo>,
    pub(crate) block: Option<(u32, Block)>,
    /// Blocks of an extended report (RFC 3611), as they stand on the wire; empty: none.
    pub(crate) extended: &'a [u8],
    /// Our last one, under this SSRC.
    pub(crate) bye: bool,
}

impl Report<'_> {
    /// The packet's bytes.
    pub(crate) fn write(&self) -> Vec<u8> {
        let block = self.block.map(|(ssrc, block)| {
            ReportBlock::builder(ssrc)
                .fraction_lost(block.fraction_lost)
                .cumulative_lost(block.cumulative_lost)
                .extended_sequence_number(block.highest)
                .interarrival_jitter(block.jitter)
                .last_sender_report_timestamp(block.last_report)
                .delay_since_last_sender_report_timestamp(block.delay_since)
        });
        let mut compound = Compound::builder();
        match self.sender {
            Some(sender) => {
                let mut report = SenderReport::builder(self.ssrc)
                    .ntp_timestamp(sender.ntp)
                    .rtp_timestamp(sender.rtp_timestamp)
                    .packet_count(sender.packets)
                    .octet_count(sender.octets);
                if let Some(block) = block {
                    report = report.add_report_block(block);
                }
                compound = compound.add_packet(report);
            }
            None => {
                let mut report = ReceiverReport::builder(self.ssrc);
                if let Some(block) = block {
                    report = report.add_report_block(block);
                }
                compound = compound.add_packet(report);
            }
        }
        let item = SdesItem::builder(CNAME, clip(self.cname));
        let chunk = SdesChunk::builder(self.ssrc).add_item(item);
        compound = compound.add_packet(Sdes::builder().add_chunk(chunk));
        let mut bytes = written(&compound);
        if bytes.is_empty() {
            return bytes;
        }
        if !self.extended.is_empty() {
            let words = u16::try_from(1 + self.extended.len() / 4).unwrap_or(u16::MAX);
            bytes.extend([0x80, EXTENDED_REPORT]);
            bytes.extend(words.to_be_bytes());
            bytes.extend(self.ssrc.to_be_bytes());
            bytes.extend(self.extended);
        }
        if self.bye {
            // RFC 3550 section 6.1: the last packet of all.
            bytes.extend(written(&Bye::builder().add_source(self.ssrc)));
        }
        bytes
    }
}

/// The bytes of a packet; none if it cannot be written.
fn written(packet: &impl RtcpPacketWriter) -> Vec<u8> {
    let mut bytes = vec![0; packet.calculate_size().unwrap_or(0)];
    match packet.write_into(&mut bytes) {
        Ok(length) => bytes.truncate(length),
        Err(_) => bytes.clear(),
    }
    bytes
}

/// The name, no longer than an SDES item can be.
fn clip(name: &str) -> &str {
    let mut end = name.len().min(LONGEST_CNAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// What a compound packet said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Sender reports: the sender's SSRC and its NTP timestamp.
    pub(crate) senders: Vec<(u32, u64)>,
    /// Report blocks: the SSRC that they are about, and what they say.
    pub(crate) blocks: Vec<(u32, Block)>,
    /// Sources that said BYE.
    pub(crate) byes: Vec<u32>,
    /// Loss RLE blocks (RFC 3611 section 4.1): the SSRC that they are about, and what they say.
    pub(crate) fates: Vec<(u32, Reported)>,
    /// VoIP metrics blocks (section 4.7), likewise.
    pub(crate) voip: Vec<(u32, VoipMetrics)>,
}

/// Reads a compound packet; `None` if any part of it is malformed, or if it does not begin with a
/// report (RFC 3550 appendix A.2).
pub(crate) fn read(datagram: &[u8]) -> Option<Heard> {
    if datagram.len() > LONGEST {
        return None;
    }
    let packets: Vec<Packet<'_>> = Compound::parse(datagram)
        .ok()?
        .collect::<Result<_, _>>()
        .ok()?;
    if !matches!(packets.first()?, Packet::Sr(_) | Packet::Rr(_)) {
        return None;
    }
    let mut heard = Heard::default();
    for packet in &packets {
        match packet {
            Packet::Sr(report) => {
                heard.senders.push((report.ssrc(), report.ntp_timestamp()));
                heard.blocks.extend(report.report_blocks().map(block));
            }
            Packet::Rr(report) => heard.blocks.extend(report.report_blocks().map(block)),
            Packet::Bye(bye) => heard.byes.extend(bye.ssrcs()),
            _ => {}
        }
    }
    extended(datagram, &mut heard);
    Some(heard)
}

/// The blocks of the extended reports in a compound packet whose framing is known to be right.
fn extended(mut datagram: &[u8], heard: &mut Heard) {
    let words = |header: &[u8; 4]| 4 + 4 * usize::from(u16::from_be_bytes([header[2], header[3]]));
    while let Some(header) = datagram.first_chunk() {
        let Some((packet, rest)) = datagram.split_at_checked(words(header)) else {
            break;
        };
        datagram = rest;
        let mut blocks = match header[1] {
            EXTENDED_REPORT => packet.get(8..).unwrap_or_default(),
            _ => &[],
        };
        while let Some(header) = blocks.first_chunk() {
            let Some((block, rest)) = blocks.split_at_checked(words(header)) else {
                break;
            };
            blocks = rest;
            heard.fates.extend(Reported::parse(block));
            heard.voip.extend(VoipMetrics::parse(block));
        }
    }
}

fn block(block: ReportBlock<'_>) -> (u32, Block) {
    let heard = Block {
        fraction_lost: block.fraction_lost(),
        cumulative_lost: block.cumulative_lost(),
        highest: block.extended_sequence_number(),
        jitter: block.interarrival_jitter(),
        last_report: block.last_sender_report_timestamp(),
        delay_since: block.delay_since_last_sender_report_timestamp(),
    };
    (block.ssrc(), heard)
}

/// A moment of the calendar as an NTP timestamp (RFC 3550 section 4).
pub(crate) fn ntp(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs().wrapping_add(NTP_EPOCH) & 0xffff_ffff;
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (seconds << 32) | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Block = Block {
        fraction_lost: 12,
        cumulative_lost: 345,
        highest: 0x0001_8000,
        jitter: 77,
        last_report: 0xdead_beef,
        delay_since: 65_536,
    };

    /// A loss RLE block about source 9: of eight packets from 10 on, the second is missing.
    const EXTENDED: [u8; 16] = [1, 0, 0, 3, 0, 0, 0, 9, 0, 10, 0, 18, 0xdf, 0xff, 0, 0];

    fn report(sender: bool, bye: bool) -> Vec<u8> {
        let sender = sender.then_some(SenderInfo {
            ntp: 0x1234_5678_9abc_def0,
            rtp_timestamp: 1,
            packets: 2,
            octets: 3,
        });
        let cname = "a3fd9b";
        let block = Some((9, BLOCK));
        Report {
            ssrc: 5,
            cname,
            sender,
            block,
            extended: &EXTENDED,
            bye,
        }
        .write()
    }

    #[test]
    fn reports_make_the_round_trip() {
        let heard = read(&report(true, true)).unwrap();
        assert_eq!(heard.senders, [(5, 0x1234_5678_9abc_def0)]);
        assert_eq!(heard.blocks, [(9, BLOCK)]);
        assert_eq!(heard.byes, [5]);
        let heard = read(&report(false, false)).unwrap();
        assert!(heard.senders.is_empty() && heard.byes.is_empty());
        let mut arrived = vec![true; 8];
        arrived[1] = false;
        assert_eq!(heard.fates, [(9, Reported { begin: 10, arrived })]);
        assert_eq!(heard.blocks, [(9, BLOCK)]);
    }

    #[test]
    fn a_cname_of_any_length_fits() {
        for length in [0, 1, 100, 255, 256, 1_000] {
            let cname = "ü".repeat(length);
            let report = Report {
                ssrc: 5,
                cname: &cname,
                sender: None,
                block: None,
                extended: &[],
                bye: true,
            };
            assert_eq!(read(&report.write()).unwrap().byes, [5], "{length}");
        }
    }

    #[test]
    fn no_flipped_bit_and_no_truncation_panics() {
        for good in [
            report(true, true),
            report(false, false),
            report(false, true),
        ] {
            for end in 0..good.len() {
                let _ = read(&good[..end]);
            }
            for at in 0..good.len() {
                for value in 0..=255 {
                    let mut bad = good.clone();
                    bad[at] = value;
                    let _ = read(&bad);
                }
            }
        }
    }

    #[test]
    fn ntp_of_a_known_moment() {
        // 1970-01-01T00:00:01.5Z
        let at = UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(ntp(at), ((NTP_EPOCH + 1) << 32) | 0x8000_0000);
    }
}
