//! Options of the receiving sockets.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::contender::SocketSetup;

/// Sets what is asked for on the listener, whose connections inherit it.
pub(crate) fn prepare(listener: &TcpListener, setup: SocketSetup) {
    if let Some(bytes) = setup.receive_buffer {
        setsockopt(listener, RcvBufForce, &bytes).expect("CAP_NET_ADMIN");
    }
    if let Some(value) = setup.busy_poll {
        set(listener.as_raw_fd(), libc::SO_BUSY_POLL, value);
    }
}

/// TCP wakes nobody for fewer bytes from now on.
pub(crate) fn set_low_water(socket: &TcpStream, bytes: i32) {
    set(socket.as_raw_fd(), libc::SO_RCVLOWAT, bytes);
}

fn set(socket: RawFd, option: i32, value: i32) {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: setsockopt() needs an open socket and `size` bytes to read.
    // - the callers borrow the socket; the value is a local integer of that size.
    let done = unsafe {
        let value: *const i32 = &raw const value;
        libc::setsockopt(socket, libc::SOL_SOCKET, option, value.cast(), size)
    };
    assert_eq!(done, 0, "socket option {option}: {}", io::Error::last_os_error());
}
