//! What the destination says on main's other direction.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};

use super::{End, Replies, Shut, run::Run, tls::Tls};
use crate::form::{AckForm, Form, ReplyForm};

/// Reads replies until the connection ends or SHUT came; everything seen is left in the run.
pub(super) fn read(
    (socket, tls): &(Arc<OwnedFd>, Option<Tls>),
    form: &Form,
    asked: Asked,
    run: &Run<'_>,
) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let mut going = true;
    while going {
        match recv(socket.as_raw_fd(), &mut piece, MsgFlags::empty()) {
            Ok(0) => break,
            Ok(taken) => match tls {
                None => bytes.extend_from_slice(&piece[..taken]),
                Some(tls) => {
                    if tls.open(socket.as_fd(), &piece[..taken], &mut bytes).is_err() {
                        break;
                    }
                }
            },
            Err(Errno::EINTR) => continue,
            // A socket that was handed over need not be one that waits.
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, PollTimeout::NONE); // the run's end shuts the socket down
                continue;
            }
            Err(_) => break, // the writer of this connection reports why
        }
        while going && let Some((reply, used)) = split(&bytes) {
            going = take(&reply, form, asked, run);
            bytes.drain(..used);
        }
    }
    run.change(|state| state.replies_over = true);
}

/// What the source asked of the destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The return path is open: replies are allowed.
    pub(super) return_path: bool,
    /// The capability `switchover-ack` is on.
    pub(super) switchover_ack: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Shut(u32),
    Pong(u32),
    SwitchoverAck,
    Bad(String),
}

/// The first reply in `bytes` and its length; `None` until it is whole.
fn split(bytes: &[u8]) -> Option<(Reply, usize)> {
    let (&kind, rest) = bytes.split_first_chunk()?;
    let (&len, payload) = rest.split_first_chunk()?;
    let (kind, len) = (u16::from_be_bytes(kind), u16::from_be_bytes(len));
    let expected = match kind {
        SHUT | PONG => 4,
        SWITCHOVER_ACK => 0,
        // Page requests, bitmaps and the like belong to postcopy, which this source never starts.
        _ => return Some((Reply::Bad(format!("message type {kind}")), bytes.len())),
    };
    if len != expected {
        let text = format!("message type {kind} has {len} bytes, allowed are {expected}");
        return Some((Reply::Bad(text), bytes.len()));
    }
    if kind == SWITCHOVER_ACK {
        return Some((Reply::SwitchoverAck, 4));
    }
    let (&value, _) = payload.split_first_chunk()?;
    let value = u32::from_be_bytes(value);
    Some((if kind == SHUT { Reply::Shut(value) } else { Reply::Pong(value) }, 8))
}

/// Judges a reply as the source does; false when no more will be read.
fn take(reply: &Reply, form: &Form, asked: Asked, run: &Run<'_>) -> bool {
    if !asked.return_path {
        return bad(form, run, format!("{reply:?} although the return path is not open"));
    }
    match reply {
        Reply::Pong(value) => run.change(|state| state.replies.pongs.push(*value)),
        Reply::SwitchoverAck => {
            let acks = run.change(|state| {
                state.replies.switchover_acks += 1;
                state.replies.switchover_acks
            });
            let allowed = match form.acks {
                AckForm::One => u32::MAX,
                AckForm::OneExactly => u32::from(asked.switchover_ack),
                AckForm::NoneExactly => 0,
            };
            if acks > allowed {
                return bad(form, run, format!("SWITCHOVER_ACK {acks}, expected are {allowed}"));
            }
        }
        Reply::Shut(value) => {
            let early = run.change(|state| {
                let early = !state.replies.ending_sent;
                state.replies.shut = Some(Shut { value: *value, early });
                early
            });
            if early && form.replies == ReplyForm::AtOnce {
                run.end(End::Failed { shut: *value });
            }
            return false;
        }
        Reply::Bad(text) => return bad(form, run, text.clone()),
    }
    true
}

fn bad(form: &Form, run: &Run<'_>, reason: String) -> bool {
    run.change(|state| state.replies.bad.get_or_insert_with(|| reason.clone()).clone());
    if form.replies == ReplyForm::AtOnce {
        run.end(End::BadReply { reason });
    }
    false
}

impl Replies {
    /// Whether what came so far decides how a complete run ends, and how.
    pub(super) fn verdict(&self) -> Option<End> {
        if let Some(reason) = &self.bad {
            return Some(End::BadReply { reason: reason.clone() });
        }
        self.shut.map(|shut| match shut.value {
            0 => End::Completed,
            value => End::Failed { shut: value },
        })
    }
}

const SHUT: u16 = 1;
const PONG: u16 = 2;
const SWITCHOVER_ACK: u16 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hex;

    #[test]
    fn golden_replies_are_read() {
        assert_eq!(split(&hex("0002 0004 00000001")), Some((Reply::Pong(1), 8)));
        assert_eq!(split(&hex("0001 0004 00000000")), Some((Reply::Shut(0), 8)));
        assert_eq!(split(&hex("0007 0000")), Some((Reply::SwitchoverAck, 4)));
    }

    #[test]
    fn every_prefix_of_a_reply_waits_for_more() {
        let shut = hex("0001 0004 00000000");
        for cut in 0..shut.len() {
            assert_eq!(split(&shut[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn unknown_types_and_wrong_lengths_are_bad() {
        for bad in ["0000 0000", "0009 0000", "0001 0005 0000000000", "0007 0001 00"] {
            assert!(matches!(split(&hex(bad)), Some((Reply::Bad(_), _))), "{bad}");
        }
    }
}
