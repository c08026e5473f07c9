//! What TCP knows of a connection: the evidence for "the network was the limit".

use std::os::fd::{AsFd, AsRawFd};

/// One look at a socket (tcp(7), `TCP_INFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSample {
    /// When, `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
    /// Smoothed round trip, microseconds; of the little that we send.
    pub rtt_us: u64,
    /// The receiver's own estimate of the round trip, microseconds.
    pub rcv_rtt_us: u64,
    /// Segments that we sent again.
    pub retransmits: u64,
    /// Bytes that TCP grants the sender to have on its way.
    pub rcv_space_bytes: u64,
    /// Payload bytes received.
    pub received_bytes: u64,
}

/// Looks at a socket; `None` if it is not TCP.
#[allow(unsafe_code, reason = "TCP_INFO has no safe wrapper: docs/unsafe.md#tcp-info")]
pub fn sample(socket: &impl AsFd, at_ns: u64) -> Option<TcpSample> {
    // SAFETY: zeroed needs a type for which zero bytes are a value: tcp_info is integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut bytes = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: getsockopt needs an open socket, room for *len bytes, and a valid len.
    // - `socket` is borrowed, so fd is open; another kind of fd answers ENOTSOCK.
    // - info has exactly `bytes` bytes, any of which may be written; bytes is ours.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut bytes,
        )
    };
    (result == 0).then(|| TcpSample {
        at_ns,
        rtt_us: info.tcpi_rtt.into(),
        rcv_rtt_us: info.tcpi_rcv_rtt.into(),
        retransmits: info.tcpi_total_retrans.into(),
        rcv_space_bytes: info.tcpi_rcv_space.into(),
        received_bytes: info.tcpi_bytes_received,
    })
}

/// True for TCP sockets, which can drop bytes without a copy.
pub fn is_tcp(socket: &impl AsFd) -> bool {
    sample(socket, 0).is_some()
}
