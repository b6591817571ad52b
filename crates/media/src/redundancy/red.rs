//! The payload format of redundant audio data (RFC 2198).

/// The most blocks of one packet, the primary one too: what our own sender makes, and a browser's.
const BLOCKS: usize = 8;
/// The header of a redundant block (RFC 2198 section 3), and that of the primary one.
const HEADER: usize = 4;
/// What the 14 bits of a timestamp offset and the 10 bits of a length can say.
pub(crate) const LONGEST_OFFSET: u32 = (1 << 14) - 1;
pub(crate) const LONGEST_BLOCK: usize = (1 << 10) - 1;

/// A redundant block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    pub(crate) payload_type: u8,
    /// How many ticks before the packet's own timestamp it belongs.
    pub(crate) offset: u32,
    pub(crate) data: &'a [u8],
}

/// What a packet holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Red<'a> {
    redundant: [Block<'a>; BLOCKS],
    count: usize,
    pub(crate) payload_type: u8,
    pub(crate) primary: &'a [u8],
}

impl<'a> Red<'a> {
    /// The redundant blocks, as they stand in the packet: the oldest first, as a rule.
    pub(crate) fn redundant(&self) -> &[Block<'a>] {
        self.redundant.get(..self.count).unwrap_or_default()
    }

    /// A packet without redundancy.
    pub(crate) fn plain(payload_type: u8, payload: &'a [u8]) -> Red<'a> {
        Red {
            payload_type,
            primary: payload,
            ..Red::default()
        }
    }

    /// Reads a payload; `None` if it is malformed or holds more than anybody sends.
    pub(crate) fn parse(payload: &'a [u8]) -> Option<Red<'a>> {
        let mut red = Red::default();
        let mut lengths = [0; BLOCKS];
        let mut rest = payload;
        loop {
            let (&first, tail) = rest.split_first()?;
            if first & 0x80 == 0 {
                red.payload_type = first;
                rest = tail;
                break;
            }
            let header: [u8; HEADER] = *rest.first_chunk()?;
            rest = rest.get(HEADER..)?;
            let word = u32::from_be_bytes(header);
            let block = red.redundant.get_mut(red.count)?;
            block.payload_type = (word >> 24) as u8 & 0x7f;
            block.offset = word >> 10 & LONGEST_OFFSET;
            *lengths.get_mut(red.count)? = word as usize & LONGEST_BLOCK;
            red.count += 1;
        }
        for (block, length) in red.redundant.iter_mut().zip(lengths).take(red.count) {
            (block.data, rest) = rest.split_at_checked(length)?;
        }
        red.primary = rest;
        Some(red)
    }
}

/// Begins a payload: the header of one redundant block. All headers come before all data; the
/// primary one's is its payload type alone. `false` if the block does not fit the format.
pub(crate) fn push_header(payload: &mut Vec<u8>, block: Block<'_>) -> bool {
    if block.offset > LONGEST_OFFSET || block.data.len() > LONGEST_BLOCK {
        return false;
    }
    let word = 1 << 31
        | u32::from(block.payload_type & 0x7f) << 24
        | block.offset << 10
        | block.data.len() as u32;
    payload.extend(word.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(blocks: &[Block<'_>], payload_type: u8, primary: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        let fits: Vec<_> = blocks
            .iter()
            .filter(|block| push_header(&mut payload, **block))
            .collect();
        payload.push(payload_type);
        for block in fits {
            payload.extend(block.data);
        }
        payload.extend(primary);
        payload
    }

    #[test]
    fn a_browsers_packet_is_read() {
        // Payload type 111, 960 ticks back, 3 octets; then the primary encoding.
        let packet = [0xef, 0x0f, 0x00, 0x03, 0x6f, 1, 2, 3, 9, 9];
        let red = Red::parse(&packet).unwrap();
        let block = Block {
            payload_type: 111,
            offset: 960,
            data: &[1, 2, 3],
        };
        assert_eq!(red.redundant(), [block]);
        assert_eq!((red.payload_type, red.primary), (111, &[9, 9][..]));
        assert_eq!(write(&[block], 111, &[9, 9]), packet);
    }

    #[test]
    fn what_does_not_fit_is_not_written_and_what_lies_is_not_read() {
        let long = vec![0; LONGEST_BLOCK + 1];
        for block in [
            Block {
                data: &long,
                ..Block::default()
            },
            Block {
                offset: LONGEST_OFFSET + 1,
                ..Block::default()
            },
        ] {
            assert!(!push_header(&mut Vec::new(), block));
        }
        assert!(Red::parse(&[]).is_none());
        assert!(Red::parse(&[0xef, 0x0f, 0x00]).is_none());
        assert!(Red::parse(&[0xef, 0x0f, 0x00, 0x03, 0x6f, 1, 2]).is_none());
        // No end of headers.
        assert!(Red::parse(&[0x80; 400]).is_none());
    }

    proptest! {
        #[test]
        fn any_octets(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(red) = Red::parse(&bytes) {
                let held: usize = red.redundant().iter().map(|block| HEADER + block.data.len()).sum();
                prop_assert_eq!(held + 1 + red.primary.len(), bytes.len());
                prop_assert_eq!(write(red.redundant(), red.payload_type, red.primary), bytes);
            }
        }
    }
}
