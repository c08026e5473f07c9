//! `fd:N`: a descriptor that the parent process left open.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::libc::{O_CLOEXEC, STDERR_FILENO};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// A duplicate of the descriptor with this number, which stays open as long as this process.
///
/// A bare number is no proof of anything. So the kernel passes it on through a pair of sockets, as
/// it does for a monitor's `getfd`: what comes out is ours.
///
/// # Errors
/// It is not open, or not inherited: standard streams, and what this process opened itself, are
/// not given away.
pub(super) fn duplicate(number: RawFd) -> Result<OwnedFd, String> {
    let why = match is_inherited(number) {
        _ if number <= STDERR_FILENO => "a standard stream cannot be it".to_owned(),
        false => "it was not inherited".to_owned(),
        true => match passed_on(number) {
            Ok(descriptor) => return Ok(descriptor),
            Err(error) => error.to_string(),
        },
    };
    Err(format!("fd:{number}: {why}; allowed is an open descriptor from 3 on (as in 3>FILE)"))
}

/// What survived our exec has no close-on-exec flag, and all that this program opens has it.
fn is_inherited(number: RawFd) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
    let flags = info.ok().and_then(|info| {
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        i32::from_str_radix(flags.trim(), 8).ok()
    });
    flags.is_some_and(|flags| flags & O_CLOEXEC == 0)
}

fn passed_on(number: RawFd) -> io::Result<OwnedFd> {
    let (sends, receives) = UnixStream::pair()?;
    let byte = [IoSlice::new(&[0])];
    let rights = [number];
    let rights = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(sends.as_raw_fd(), &byte, &rights, MsgFlags::empty(), None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut byte = [IoSliceMut::new(&mut byte)];
    recvmsg(&receives, &mut byte, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn what_was_left_open_is_duplicated_and_what_is_ours_is_not() {
        let (ours, mut other) = UnixStream::pair().expect("a pair");
        let refused = duplicate(ours.as_raw_fd()).expect_err("it is close-on-exec");
        assert!(refused.contains("was not inherited"), "{refused}");
        // As a parent would have left it.
        fcntl(&ours, FcntlArg::F_SETFD(FdFlag::empty())).expect("it is open");
        let mut duplicate = UnixStream::from(duplicate(ours.as_raw_fd()).expect("duplicated"));
        duplicate.write_all(b"x").expect("written");
        let mut byte = [0];
        other.read_exact(&mut byte).expect("read");
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn closed_numbers_and_standard_streams_are_refused() {
        for number in [0, 1, 2, 1_000_000] {
            let refused = duplicate(number).expect_err("refused");
            assert!(refused.contains(&format!("fd:{number}")), "{refused}");
        }
    }
}
