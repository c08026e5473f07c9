//! The receiver's end of a connection.

use super::random::Random;

/// How far a connection has been read, and how far it can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket {
    /// Bytes read so far.
    pub(super) taken: usize,
    /// Bytes that can come.
    pub(super) limit: usize,
    /// What comes behind them.
    pub(super) last: Last,
    /// In which pieces they come.
    pub(super) pieces: Pieces,
}

/// What comes behind the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// Nothing.
    Silence,
    /// The end of the stream.
    Closed,
    /// An error.
    Reset,
}

/// How the network cuts a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    /// Some bytes at a time.
    Tiny,
    /// Up to a network packet or so.
    Small,
    /// As much as is wanted, mostly.
    Large,
}

impl Socket {
    /// Bytes that can come without anybody else moving.
    pub(super) fn there(&self) -> usize {
        self.limit - self.taken
    }

    /// How many bytes, up to `most`, one receive brings; 0 if none can come.
    pub(super) fn piece(&self, random: &mut Random, most: usize) -> usize {
        let most = most.min(self.there());
        let cut = match self.pieces {
            _ if most == 0 => return 0,
            Pieces::Tiny => random.within(1, 150),
            Pieces::Small => random.within(1, 3000),
            Pieces::Large if random.one_in(4) => random.within(1, most),
            Pieces::Large => most,
        };
        cut.min(most)
    }
}
