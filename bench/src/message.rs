//! A step's bytes as pieces: some made for it, others sent from where they lie.

use std::ops::Range;

use crate::content;

/// The bytes of one step, in order. Used again and again: once it has grown, nothing is allocated.
#[derive(Clone, Debug, Default)]
pub struct Message {
    made: Vec<u8>,
    pieces: Vec<Piece>,
    /// The first piece of a packet's payload.
    payload: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// In `made`.
    Made(Range<usize>),
    /// In [`content::stretch`], which is there for ever and never changes.
    Lying(Range<usize>),
}

impl Message {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of these bytes.
    #[must_use]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut message = Self::default();
        message.make(|made| made.extend_from_slice(bytes));
        message
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.made.clear();
        self.pieces.clear();
        self.payload = None;
    }

    /// Appends what `make` appends to a buffer of its own, and returns what it returns.
    pub(crate) fn make<T>(&mut self, make: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.made.len();
        let result = make(&mut self.made);
        let end = self.made.len();
        let begins_payload = self.payload == Some(self.pieces.len());
        match self.pieces.last_mut() {
            Some(Piece::Made(last)) if !begins_payload => last.end = end,
            _ if start == end => {}
            _ => self.pieces.push(Piece::Made(start..end)),
        }
        result
    }

    /// Appends bytes of [`content::stretch`], in one piece with those before if they adjoin.
    pub(crate) fn lend(&mut self, bytes: Range<usize>) {
        match self.pieces.last_mut() {
            Some(Piece::Lying(last)) if last.end == bytes.start => last.end = bytes.end,
            _ => self.pieces.push(Piece::Lying(bytes)),
        }
    }

    /// What comes from now on is a packet's payload, in pages.
    pub(crate) fn begin_payload(&mut self) {
        self.payload = Some(self.pieces.len());
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.range().len()).sum()
    }

    /// Its pieces in order; a packet's payload begins with a piece of its own.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| self.slice(piece))
    }

    /// All bytes in one.
    #[must_use]
    pub fn concat(&self) -> Vec<u8> {
        self.slices().collect::<Vec<_>>().concat()
    }

    /// What stands before a packet's payload, and the payload; without a packet all is before it.
    pub(crate) fn parts(&self) -> [impl Iterator<Item = &[u8]>; 2] {
        let (head, payload) = self.pieces.split_at(self.payload.unwrap_or(self.pieces.len()));
        [head, payload].map(|part| part.iter().map(|piece| self.slice(piece)))
    }

    /// Whether a packet's payload has no byte that was made for it: nobody ever changes it.
    pub(crate) fn payload_lies(&self) -> bool {
        let payload = self.payload.map(|first| &self.pieces[first..]);
        payload.is_some_and(|payload| {
            !payload.is_empty() && payload.iter().all(|piece| matches!(piece, Piece::Lying(_)))
        })
    }

    /// Its first `bytes`, and the rest.
    pub(crate) fn split(&self, bytes: usize) -> [Self; 2] {
        let mut halves = [self.clone(), self.clone()];
        let mut before = 0;
        for index in 0..self.pieces.len() {
            let [first, rest] = halves.each_mut().map(|half| half.pieces[index].range_mut());
            let cut = first.start + bytes.saturating_sub(before).min(first.len());
            before += first.len();
            (first.end, rest.start) = (cut, cut);
        }
        halves
    }

    fn slice(&self, piece: &Piece) -> &[u8] {
        match piece {
            Piece::Made(range) => &self.made[range.clone()],
            Piece::Lying(range) => &content::stretch()[range.clone()],
        }
    }
}

impl Piece {
    fn range(&self) -> &Range<usize> {
        match self {
            Self::Made(range) | Self::Lying(range) => range,
        }
    }

    fn range_mut(&mut self) -> &mut Range<usize> {
        match self {
            Self::Made(range) | Self::Lying(range) => range,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let mut message = Message::of(b"head");
        message.begin_payload();
        message.lend(0..100);
        message.lend(100..300);
        message.lend(50..60);
        message
    }

    #[test]
    fn pieces_that_adjoin_are_one_and_the_bytes_are_those_that_were_named() {
        let message = message();
        let lengths: Vec<usize> = message.slices().map(<[u8]>::len).collect();
        assert_eq!(lengths, [4, 300, 10]);
        let stretch = content::stretch();
        assert_eq!(message.concat(), [b"head", &stretch[..300], &stretch[50..60]].concat());
        assert_eq!(message.bytes(), 314);
    }

    #[test]
    fn a_payload_is_never_in_one_piece_with_what_stands_before_it() {
        let mut message = Message::of(b"head");
        message.begin_payload();
        message.make(|made| made.extend_from_slice(b"pay"));
        message.make(|made| made.extend_from_slice(b"load"));
        let [head, payload] = message.parts();
        assert!(head.eq([b"head"]) && payload.eq([b"payload"]));
        assert!(!message.payload_lies());
        assert!(self::message().payload_lies());
    }

    #[test]
    fn a_split_loses_no_byte_wherever_it_is() {
        let message = message();
        let all = message.concat();
        for at in 0..=all.len() + 1 {
            let [first, rest] = message.split(at);
            assert_eq!(first.concat(), all[..at.min(all.len())], "{at}");
            assert_eq!(rest.concat(), all[at.min(all.len())..], "{at}");
        }
    }

    #[test]
    fn a_message_that_was_emptied_has_nothing_of_before() {
        let mut message = message();
        message.clear();
        assert_eq!(message.bytes(), 0);
        message.make(|made| made.push(1));
        assert_eq!(message.concat(), [1]);
    }
}
