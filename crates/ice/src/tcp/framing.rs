//! The framing of RFC 4571: a packet on a stream stands behind its length in two bytes.

/// The bytes of the length.
const HEADER: usize = 2;

/// Puts a packet behind its length; `None` if it is longer than a length can say.
pub(super) fn frame(packet: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(packet.len()).ok()?;
    let mut framed = Vec::with_capacity(HEADER + packet.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(packet);
    Some(framed)
}

/// A packet was announced that is longer than is allowed: the stream is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Cuts the bytes of a stream into packets, whatever pieces they come in.
#[derive(Debug, Default)]
pub(super) struct Deframer {
    /// The beginning of the next packet, with its length before it.
    begun: Vec<u8>,
}

impl Deframer {
    /// Takes what has come and gives the packets that it completes, of at most `longest` bytes
    /// each. Empty ones say nothing and are left out (RFC 4571 section 2 allows them).
    pub(super) fn read(&mut self, bytes: &[u8], longest: usize) -> Result<Vec<Vec<u8>>, TooLong> {
        self.begun.extend_from_slice(bytes);
        let mut packets = Vec::new();
        let mut rest = self.begun.as_slice();
        while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
            let length = usize::from(u16::from_be_bytes(*header));
            if length > longest {
                return Err(TooLong);
            }
            let Some((packet, after)) = after.split_at_checked(length) else {
                break;
            };
            if !packet.is_empty() {
                packets.push(packet.to_vec());
            }
            rest = after;
        }
        self.begun = rest.to_vec();
        Ok(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(packets: &[&[u8]]) -> Vec<u8> {
        packets.iter().flat_map(|p| frame(p).unwrap()).collect()
    }

    #[test]
    fn packets_come_out_as_they_went_in_however_the_bytes_are_cut() {
        let long = vec![7; 1500];
        let packets: [&[u8]; 4] = [b"one", b"", &long, b"4"];
        let bytes = stream(&packets);
        for size in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut deframer = Deframer::default();
            let mut read = Vec::new();
            for piece in bytes.chunks(size) {
                read.extend(deframer.read(piece, 2000).unwrap());
            }
            assert_eq!(
                read,
                [b"one".to_vec(), long.clone(), b"4".to_vec()],
                "{size}"
            );
            assert!(deframer.begun.is_empty());
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
        let mut deframer = Deframer::default();
        assert_eq!(deframer.read(&[0x07], 1500), Ok(Vec::new()));
        assert_eq!(deframer.read(&[0xd1], 2000), Err(TooLong));
        let mut exact = Deframer::default();
        let packet = vec![1; 1500];
        let read = exact.read(&frame(&packet).unwrap(), 1500);
        assert_eq!(read, Ok(vec![packet]));
    }

    #[test]
    fn what_does_not_fit_a_length_is_not_framed() {
        assert_eq!(frame(&vec![0; 65_535]).map(|f| f.len()), Some(65_537));
        assert_eq!(frame(&vec![0; 65_536]), None);
    }

    /// The buffer never holds more than one packet and its length.
    #[test]
    fn the_buffer_is_bounded() {
        let mut deframer = Deframer::default();
        for _ in 0..100_000 {
            let _ = deframer.read(&[0x01], 1500);
            assert!(deframer.begun.len() <= 1502);
        }
    }
}
