//! Which cipher suite a source and a destination agree about: seen in their own handshake, since
//! QEMU does not tell.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use rustls::CipherSuite;

use super::{
    Comparison, contender::Contender, destination::Destination, prepare::Prepared,
    process::wait_for, source::Source,
};

/// The suite by its name at IANA. Costs a source and a destination that are started for it.
pub(super) fn negotiated(
    comparison: &Comparison,
    prepared: &Prepared,
    contender: &Contender,
) -> Result<String, String> {
    let destination = Destination::start(comparison, prepared, contender)?;
    let mut source = Source::start(comparison, prepared, contender)?;
    let between = || -> Result<String, Box<dyn std::error::Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        source.migrate(&format!("tcp:{}", listener.local_addr()?))?;
        listener.set_nonblocking(true)?;
        let mut from = wait_for("connection of the source", LIMIT, || {
            source.check()?;
            Ok(listener.accept().ok().map(|(from, _)| from))
        })?;
        from.set_nonblocking(false)?;
        let address = destination.uri().strip_prefix("tcp:").ok_or("no TCP address")?;
        let mut to = TcpStream::connect(address)?;
        for stream in [&from, &to] {
            stream.set_read_timeout(Some(LIMIT))?;
        }
        to.write_all(&record(&mut from)?)?;
        Ok(suite(&record(&mut to)?).ok_or("no ServerHello came")?)
    };
    let mut between = between;
    between().map_err(|error| format!("TLS handshake: {error}"))
}

/// One TLS record with its header (RFC 8446, 5.1).
fn record(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut record = vec![0; HEADER_BYTES];
    stream.read_exact(&mut record)?;
    let bytes = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(HEADER_BYTES + bytes, 0);
    stream.read_exact(&mut record[HEADER_BYTES..])?;
    Ok(record)
}

/// What a ServerHello, or a HelloRetryRequest, has chosen (RFC 8446, 4.1.3).
fn suite(record: &[u8]) -> Option<String> {
    let (&[HANDSHAKE, _, _, _, _, SERVER_HELLO], hello) = record.split_first_chunk()? else {
        return None;
    };
    // Its length, the version, 32 random bytes, then the session's id.
    let session_bytes = usize::from(*hello.get(3 + 2 + 32)?);
    let (chosen, _) = hello.get(3 + 2 + 32 + 1 + session_bytes..)?.split_first_chunk()?;
    let suite = CipherSuite::from(u16::from_be_bytes(*chosen));
    Some(suite.as_str().map_or_else(|| format!("{suite:?}"), str::to_owned))
}

const HEADER_BYTES: usize = 5;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_stands_behind_the_sessions_id() {
        let mut record = vec![HANDSHAKE, 3, 3, 0, 78, SERVER_HELLO, 0, 0, 74, 3, 3];
        record.extend([0xaa; 32]);
        record.push(32);
        record.extend([0xbb; 32]);
        record.extend([0x13, 0x02, 0]);
        assert_eq!(suite(&record).as_deref(), Some("TLS13_AES_256_GCM_SHA384"));
        for cut in 0..record.len() - 1 {
            assert_eq!(suite(&record[..cut]), None, "{cut} bytes");
        }
        record[0] = 21; // an alert
        assert_eq!(suite(&record), None);
    }
}
