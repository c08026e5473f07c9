//! Has the peer gone? Asked without reading what it left.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// True if the peer of `socket` has closed its side or is lost (poll(2):
/// `POLLRDHUP`, `POLLHUP`, `POLLERR`), whatever is left to read.
pub fn has_hung_up(socket: &impl AsFd) -> bool {
    let flags =
        PollFlags::from_bits_retain(libc::POLLRDHUP) | PollFlags::POLLHUP | PollFlags::POLLERR;
    let mut fds = [PollFd::new(socket.as_fd(), flags)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
