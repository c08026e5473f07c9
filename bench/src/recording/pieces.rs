//! The order of a recording as a replay needs it: by connection.

use super::order::{Entry, Event};

/// What is sent when.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Of each connection, what goes out, in order.
    pub(super) data: Vec<Vec<Piece>>,
    /// All replies, in order.
    pub(super) replies: Vec<ReplyPoint>,
}

/// Bytes that go out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where they stand in the order.
    pub(super) index: usize,
    pub(super) at_ns: u64,
    pub(super) bytes: u64,
}

/// Something that the destination had said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyPoint {
    /// Where it stands in the order.
    pub(super) index: usize,
    pub(super) channel: usize,
    /// Bytes that it had said on this connection with it.
    pub(super) sum: u64,
}

impl Pieces {
    /// `merge` makes one piece of all bytes of a connection between two replies.
    pub(super) fn new(order: &[Entry], channels: usize, merge: bool) -> Self {
        let mut data: Vec<Vec<Piece>> = vec![Vec::new(); channels];
        let mut replies: Vec<ReplyPoint> = Vec::new();
        let mut sums = vec![0; channels];
        for (index, entry) in order.iter().enumerate() {
            let channel = entry.channel as usize;
            match entry.event {
                Event::Data { bytes } => {
                    let last_reply = replies.last().map_or(0, |reply| reply.index);
                    match data[channel].last_mut() {
                        Some(last) if merge && last.index >= last_reply => last.bytes += bytes,
                        _ => data[channel].push(Piece { index, at_ns: entry.at_ns, bytes }),
                    }
                }
                Event::Reply { bytes } => {
                    sums[channel] += bytes;
                    replies.push(ReplyPoint { index, channel, sum: sums[channel] });
                }
                Event::Opened | Event::SourceClosed | Event::DestinationClosed => {}
            }
        }
        Self { data, replies }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_merged_between_replies_and_never_across_one() {
        let data = |channel| Entry { at_ns: 0, channel, event: Event::Data { bytes: 10 } };
        let reply = Entry { at_ns: 0, channel: 0, event: Event::Reply { bytes: 8 } };
        let order = [data(0), data(1), data(0), reply, data(0), data(0), data(1)];
        let sizes = |merge| {
            let pieces = Pieces::new(&order, 2, merge);
            pieces.data.iter().map(|p| p.iter().map(|p| p.bytes).collect()).collect::<Vec<Vec<_>>>()
        };
        assert_eq!(sizes(true), [vec![20, 20], vec![10, 10]]);
        assert_eq!(sizes(false), [vec![10, 10, 10, 10], vec![10, 10]]);
        let replies = Pieces::new(&order, 2, true).replies;
        assert_eq!(replies, [ReplyPoint { index: 3, channel: 0, sum: 8 }]);
    }
}
