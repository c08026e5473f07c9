//! Options of the receiving sockets, set on the listener, whose connections inherit them.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::contender::SocketSetup;

/// Sets what is asked for.
pub(crate) fn prepare(listener: &TcpListener, setup: SocketSetup) {
    if let Some(bytes) = setup.receive_buffer {
        setsockopt(listener, RcvBufForce, &bytes).expect("CAP_NET_ADMIN");
    }
    for (option, value) in
        [(libc::SO_RCVLOWAT, setup.low_water), (libc::SO_BUSY_POLL, setup.busy_poll)]
    {
        let Some(value) = value else { continue };
        let size = size_of_val(&value) as libc::socklen_t;
        // SAFETY: setsockopt() needs an open socket and `size` bytes to read.
        // - the listener is borrowed; the value is a local integer of that size.
        let done = unsafe {
            let value: *const i32 = &raw const value;
            libc::setsockopt(listener.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), size)
        };
        assert_eq!(done, 0, "socket option {option}: {}", io::Error::last_os_error());
    }
}
