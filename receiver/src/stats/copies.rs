//! What user space copies of pages on the main stream: counted in tests only.

use super::Counter;

/// Copies on the way from the socket to guest RAM; the main thread writes.
#[derive(Debug, Default)]
pub struct Copies {
    /// Where main's buffer lies, into which the kernel writes: its first byte, its length.
    buffer: (Counter, Counter),
    /// Bytes of full pages copied from there into guest RAM.
    pub placed: Counter,
    /// Bytes of full pages copied into guest RAM from elsewhere: they had been copied before.
    pub placed_again: Counter,
    /// Bytes moved inside the buffer, to make room for a read.
    pub moved: Counter,
    /// The most of it at once.
    pub moved_max: Counter,
    /// Times that there was something to move.
    pub moves: Counter,
}

impl Copies {
    /// Bytes of a full page are about to be copied into guest RAM.
    pub fn place(&self, page: &[u8]) {
        let first = page.as_ptr().addr() as u64;
        let (buffer, bytes) = (self.buffer.0.get(), self.buffer.1.get());
        let is_inside = first >= buffer && first + page.len() as u64 <= buffer + bytes;
        let counter = if is_inside { &self.placed } else { &self.placed_again };
        counter.add(page.len() as u64);
    }

    /// `bytes` bytes are about to be moved inside main's buffer.
    pub fn make_room(&self, buffer: &[u8], bytes: usize) {
        self.buffer.0.set(buffer.as_ptr().addr() as u64);
        self.buffer.1.set(buffer.len() as u64);
        if bytes > 0 {
            self.moved.add(bytes as u64);
            self.moved_max.set(self.moved_max.get().max(bytes as u64));
            self.moves.add(1);
        }
    }
}
