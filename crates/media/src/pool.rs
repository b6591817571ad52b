//! Buffers that come back, so that the audio path allocates nothing once it runs (docs/decisions/0027).

/// What a buffer has room for at first, in octets: a packet of sound, with what is sent beside it.
pub(crate) const ROOM: usize = 512;
/// One that has grown beyond this is not kept: a peer could make all of them grow.
const MOST_ROOM: usize = 4 * ROOM;

/// Buffers for packets that nobody uses now.
#[derive(Debug)]
pub(crate) struct Pool {
    spare: Vec<Vec<u8>>,
    most: usize,
}

impl Pool {
    /// So many buffers, and no more are kept. They are there from the begin: how many are needed at once
    /// may show only after a long time.
    pub(crate) fn new(most: usize) -> Pool {
        let buffers = (0..most).map(|_| Vec::with_capacity(ROOM));
        Pool {
            spare: buffers.collect(),
            most,
        }
    }

    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(ROOM))
    }

    /// A buffer that holds these octets.
    pub(crate) fn copy(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut buffer = self.take();
        buffer.extend_from_slice(octets);
        buffer
    }

    /// A buffer is not needed any more. One that is too small would have to grow when it is used next.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < self.most && (ROOM..=MOST_ROOM).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_good_size_come_back_and_no_more_than_are_wanted() {
        let mut pool = Pool::new(2);
        let first = pool.copy(&[1, 2, 3]);
        assert_eq!(first, [1, 2, 3]);
        let place = first.as_ptr();
        pool.give(first);
        let again = pool.take();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), place);
        pool.take();
        assert!(pool.spare.is_empty() && pool.take().capacity() == ROOM);
        pool.give(vec![0; 20]);
        pool.give(vec![0; MOST_ROOM + 1]);
        assert!(pool.spare.is_empty());
        (0..3).for_each(|_| pool.give(vec![0; ROOM]));
        assert_eq!(pool.spare.len(), 2);
    }
}
