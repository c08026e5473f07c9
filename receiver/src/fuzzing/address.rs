//! Migration URIs.

use crate::listen::{Address, InetAddress};

/// Reads `bytes` as the value of `-incoming` and of migrate-incoming's `uri`.
///
/// What is taken prints as a URI that means the same; of a tcp address only
/// host and port are printed. What both take they take alike.
///
/// # Panics
///
/// Where that is not so.
pub fn addresses(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let option = Address::parse_option(text);
    if let Ok(address) = Address::parse(text) {
        assert_eq!(option.as_ref(), Ok(&address));
        assert_eq!(Address::parse(&address.to_string()), Ok(printed(address)));
    }
    if let Ok(address) = option {
        // From JSON come arguments and paths that no URI can say.
        let _ = address.to_string();
    }
}

/// An address as far as it is printed.
fn printed(address: Address) -> Address {
    match address {
        Address::Tcp(InetAddress { host, port, .. }) => {
            Address::Tcp(InetAddress { host, port, ..InetAddress::default() })
        }
        other => other,
    }
}

/// One URI of each kind, and one channel in JSON.
pub fn addresses_seeds() -> Vec<Vec<u8>> {
    [
        "tcp:127.0.0.1:4444",
        "tcp:[::1]:0,to=9,ipv4=off,ipv6,keep-alive-idle=7,mptcp=on",
        "tcp::0",
        "unix:/run/x,foo=bar",
        "vsock:4294967295:1234",
        "fd:mig",
        "fd:7",
        "exec:cat /tmp/x | gzip -d",
        "file:/tmp/x,offset=1.5M",
        "defer",
        "rdma:h:1",
        r#"{"channel-type":"main","addr":{"transport":"socket","type":"inet","host":"h","port":"1"}}"#,
        r#"{"channel-type":"main","addr":{"transport":"exec","args":["/bin/cat","x"]}}"#,
        r#"{"channel-type":"main","addr":{"transport":"file","filename":"/x","offset":4096}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
