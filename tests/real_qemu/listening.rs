//! Whether somebody listens, without connecting: a connection made only to try
//! would be one more for the receiver to sort out.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// A port of the loopback address that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

/// Whether 127.0.0.1:`port` is listened on (proc_net_tcp: state 0A).
pub(crate) fn is_tcp_listening(port: u16) -> Result<bool, String> {
    let local = format!("0100007F:{port:04X}");
    rows("/proc/net/tcp", |words| {
        words.get(1) == Some(&local.as_str()) && words.get(3) == Some(&"0A")
    })
}

/// Whether the unix socket at `path` is listened on (flag __SO_ACCEPTCON).
pub(crate) fn is_unix_listening(path: &Path) -> Result<bool, String> {
    let path = path.display().to_string();
    rows("/proc/net/unix", |words| {
        words.get(7) == Some(&path.as_str()) && words.get(3) == Some(&"00010000")
    })
}

fn rows(table: &str, holds: impl Fn(&[&str]) -> bool) -> Result<bool, String> {
    let text = fs::read_to_string(table).map_err(|error| format!("{table}: {error}"))?;
    Ok(text.lines().any(|line| holds(&line.split_whitespace().collect::<Vec<_>>())))
}
