//! Messages on a stream (RFC 8656 section 12.5, RFC 8489 section 6.2.2): one after the other, each a
//! multiple of four bytes long.

/// The longest message that the length fields allow: the header of STUN and 65,535 bytes. So much
/// waits at most.
const LONGEST: usize = 20 + 65_535 + 3;
const STUN_HEADER: usize = 20;
const CHANNEL_HEADER: usize = 4;
/// RFC 8489 section 5.
const MAGIC_COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();

/// What came is neither STUN nor ChannelData: nothing after it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbled;

/// Cuts a stream into messages.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    read: usize,
}

impl Frames {
    /// More bytes have come. Take every message out before the next ones come.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, without its padding.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Garbled> {
        let rest = self.buffer.get(self.read..).unwrap_or_default();
        let [first, _, high, low, after @ ..] = rest else {
            return Ok(None);
        };
        let value = usize::from(u16::from_be_bytes([*high, *low]));
        let (length, padded) = match first >> 6 {
            0 => {
                let cookie = after.get(..4);
                if value % 4 != 0 || cookie.is_some_and(|cookie| cookie != MAGIC_COOKIE) {
                    return Err(Garbled);
                }
                (STUN_HEADER + value, STUN_HEADER + value)
            }
            1 => {
                let length = CHANNEL_HEADER + value;
                (length, length.next_multiple_of(4))
            }
            _ => return Err(Garbled),
        };
        debug_assert!(padded <= LONGEST, "two bytes of length");
        if rest.len() < padded {
            return Ok(None);
        }
        let message = rest.get(..length).unwrap_or_default().to_vec();
        self.read += padded;
        Ok(Some(message))
    }
}

/// A message as it goes on a stream.
pub(super) fn padded(mut message: Vec<u8>) -> Vec<u8> {
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stun(length: u16) -> Vec<u8> {
        let mut message = vec![0x01, 0x03];
        message.extend(length.to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.resize(STUN_HEADER + usize::from(length), 7);
        message
    }

    fn channel(data: &[u8]) -> Vec<u8> {
        let mut message = vec![0x40, 0x01, 0, data.len() as u8];
        message.extend(data);
        message
    }

    fn read(frames: &mut Frames) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| frames.next().unwrap()).collect()
    }

    #[test]
    fn messages_come_out_whatever_the_pieces() {
        let messages = [
            stun(0),
            channel(b"12345"),
            channel(b""),
            stun(400),
            channel(b"1"),
        ];
        let stream: Vec<u8> = messages.iter().cloned().flat_map(padded).collect();
        for piece in [1, 2, 3, 5, 19, 21, 1000] {
            let mut frames = Frames::default();
            let mut out = Vec::new();
            for bytes in stream.chunks(piece) {
                frames.extend(bytes);
                out.extend(read(&mut frames));
            }
            assert_eq!(out, messages, "in pieces of {piece}");
            assert_eq!(frames.buffer.len(), frames.read);
        }
    }

    #[test]
    fn what_is_neither_ends_it() {
        let no_cookie = {
            let mut message = stun(4);
            message[5] ^= 1;
            message
        };
        let odd_length = stun(6);
        for wrong in [vec![0x80, 0, 0, 0], vec![0xff; 9], no_cookie, odd_length] {
            let mut frames = Frames::default();
            frames.extend(&wrong);
            assert_eq!(frames.next(), Err(Garbled), "{wrong:?}");
        }
    }

    /// One whole message of either kind.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let stun = (0_u16..400).prop_map(|words| stun(words * 4));
        let data = proptest::collection::vec(any::<u8>(), 0..255);
        prop_oneof![stun, data.prop_map(|data| channel(&data))]
    }

    /// Feeds a stream in pieces of these lengths.
    fn feed(stream: &[u8], pieces: &[usize]) -> (Vec<Vec<u8>>, Result<(), Garbled>) {
        let mut frames = Frames::default();
        let mut out = Vec::new();
        let mut rest = stream;
        for length in pieces.iter().cycle() {
            let (piece, later) = rest.split_at((*length).min(rest.len()));
            rest = later;
            frames.extend(piece);
            loop {
                match frames.next() {
                    Ok(Some(message)) => out.push(message),
                    Ok(None) => break,
                    Err(garbled) => return (out, Err(garbled)),
                }
            }
            assert!(frames.buffer.len() - frames.read < LONGEST);
            if rest.is_empty() {
                break;
            }
        }
        (out, Ok(()))
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(
            messages in proptest::collection::vec(message(), 0..12),
            pieces in proptest::collection::vec(1_usize..3000, 1..20),
        ) {
            let stream: Vec<u8> = messages.iter().cloned().flat_map(padded).collect();
            prop_assert_eq!(feed(&stream, &pieces), (messages, Ok(())));
        }

        /// How a stream is cut is nothing to what it says, garbled or not.
        #[test]
        fn noise_is_cut_the_same_in_any_pieces(
            messages in proptest::collection::vec(message(), 0..4),
            noise in proptest::collection::vec(any::<u8>(), 0..300),
            pieces in proptest::collection::vec(1_usize..300, 1..20),
        ) {
            let mut stream: Vec<u8> = messages.into_iter().flat_map(padded).collect();
            stream.extend(noise);
            let whole = feed(&stream, &[stream.len().max(1)]);
            for message in &whole.0 {
                prop_assert!(message.len() <= LONGEST);
            }
            prop_assert_eq!(feed(&stream, &pieces), whole);
        }
    }

    #[test]
    fn no_more_waits_than_one_message() {
        let mut frames = Frames::default();
        let mut most = 0;
        let stream = padded({
            let mut message = vec![0x40, 0, 0xff, 0xff];
            message.resize(4 + 65_535, 1);
            message
        });
        for bytes in stream.repeat(3).chunks(1400) {
            frames.extend(bytes);
            while frames.next().unwrap().is_some() {}
            most = most.max(frames.buffer.len() - frames.read);
        }
        assert!(most <= LONGEST, "{most}");
    }
}
