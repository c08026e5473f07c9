//! `fd:`: descriptors handed over by a parent process or over the monitor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::descriptor;
use super::error::ListenError;

/// What a descriptor turned out to be.
#[derive(Debug)]
pub(super) enum Passed {
    /// A stream socket that listens: many connections may come.
    Listening(OwnedFd),
    /// A connected socket, a pipe or a file: the stream itself.
    Stream(OwnedFd),
}

/// Finds the descriptor: a name among those handed over by getfd, a number
/// among those inherited. Number 0, standard input, is duplicated.
///
/// # Errors
/// Not found, or of a kind that no stream can come from.
pub(super) fn open(
    name: &str,
    handed_over: &mut dyn FnMut(&str) -> Option<OwnedFd>,
) -> Result<Passed, ListenError> {
    let missing = || ListenError::NoDescriptor(name.to_owned());
    let descriptor = match number(name) {
        None => handed_over(name).ok_or_else(missing)?,
        Some(0) => io::stdin().as_fd().try_clone_to_owned().map_err(|_| missing())?,
        Some(number) => descriptor::take_inherited(number).map_err(|_| missing())?,
    };
    sort(descriptor, name)
}

/// The number a `fd:` name stands for, if it is one.
pub(super) fn number(name: &str) -> Option<RawFd> {
    let digits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    name.parse().ok().filter(|_| digits)
}

fn sort(descriptor: OwnedFd, name: &str) -> Result<Passed, ListenError> {
    let unfit = |errno| ListenError::environment(format!("fd:{name} cannot be used"), errno);
    let listening = match getsockopt(&descriptor, sockopt::SockType) {
        Err(Errno::ENOTSOCK) => false,
        Err(errno) => return Err(unfit(errno)),
        Ok(SockType::Stream) => getsockopt(&descriptor, sockopt::AcceptConn).map_err(unfit)?,
        Ok(_) => {
            return Err(ListenError::Address(format!(
                "fd:{name} is a socket, but not a stream socket"
            )));
        }
    };
    set_blocking(&descriptor, !listening).map_err(unfit)?;
    if listening {
        return Ok(Passed::Listening(descriptor));
    }
    let access = fcntl(&descriptor, FcntlArg::F_GETFL).map_err(unfit)?;
    if OFlag::from_bits_truncate(access) & OFlag::O_ACCMODE == OFlag::O_WRONLY {
        return Err(ListenError::Address(format!("fd:{name} is open for writing only")));
    }
    Ok(Passed::Stream(descriptor))
}

fn set_blocking(descriptor: &OwnedFd, blocking: bool) -> Result<(), Errno> {
    let mut flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, !blocking);
    fcntl(descriptor, FcntlArg::F_SETFL(flags)).map(|_| ())
}

/// Whether a descriptor is a socket.
pub(crate) fn is_socket(descriptor: &OwnedFd) -> bool {
    debug_assert!(descriptor.as_raw_fd() >= 0);
    getsockopt(descriptor, sockopt::SockType).is_ok()
}
