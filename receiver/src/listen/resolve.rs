//! From host and port to the addresses to bind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use super::error::ListenError;
use super::inet::InetAddress;

/// The port a number or a service name stands for.
///
/// # Errors
/// Out of range, or no such service.
pub(super) fn port(inet: &InetAddress) -> Result<u16, ListenError> {
    if let Some(number) = inet.port_number().map_err(ListenError::Address)? {
        return Ok(number);
    }
    let services = if inet.numeric {
        String::new()
    } else {
        std::fs::read_to_string(SERVICES).unwrap_or_default()
    };
    service(&inet.port, &services)
        .ok_or_else(|| failed(inet, "Servname not supported for ai_socktype"))
}

/// The addresses of the host, in the resolver's order, of the families wanted,
/// with port 0.
///
/// # Errors
/// Unknown to the resolver, or of the other family only.
pub(super) fn hosts(inet: &InetAddress) -> Result<Vec<SocketAddr>, ListenError> {
    let all: Vec<SocketAddr> = if inet.host.is_empty() {
        vec![(Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::UNSPECIFIED, 0).into()]
    } else if inet.numeric {
        let ip: Result<IpAddr, _> = inet.host.parse();
        vec![(ip.map_err(|_| failed(inet, "Name or service not known"))?, 0).into()]
    } else {
        let found = (inet.host.as_str(), 0).to_socket_addrs().map_err(|why| {
            let text = why.to_string();
            failed(inet, text.strip_prefix(STD_PREFIX).unwrap_or(&text))
        })?;
        found.collect()
    };
    let (v4, v6) = families(inet);
    let mut wanted: Vec<SocketAddr> = Vec::new();
    for address in all {
        let of_family = if address.is_ipv4() { v4 } else { v6 };
        if of_family && !wanted.contains(&address) {
            wanted.push(address);
        }
    }
    if wanted.is_empty() {
        return Err(failed(inet, "Address family for hostname not supported"));
    }
    Ok(wanted)
}

/// Whether IPv4 and whether IPv6 are wanted: one that is on alone excludes the
/// other (`util/qemu-sockets.c`, `inet_ai_family_from_address`).
fn families(inet: &InetAddress) -> (bool, bool) {
    match (inet.ipv4, inet.ipv6) {
        (None, None) | (Some(true), Some(true)) => (true, true),
        (v4, v6) => (v4 == Some(true) || v6 == Some(false), v6 == Some(true) || v4 == Some(false)),
    }
}

/// The tcp port of `name` in the text of services(5).
fn service(name: &str, services: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let (official, number) = (words.next()?, words.next()?);
        let port = number.strip_suffix("/tcp")?.parse().ok()?;
        (official == name || words.any(|alias| alias == name)).then_some(port)
    })
}

fn failed(inet: &InetAddress, reason: &str) -> ListenError {
    ListenError::Resolve {
        host: inet.host.clone(),
        port: inet.port.clone(),
        reason: reason.to_owned(),
    }
}

/// How the standard library introduces the resolver's words.
const STD_PREFIX: &str = "failed to lookup address information: ";
const SERVICES: &str = "/etc/services";

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(text: &str) -> InetAddress {
        InetAddress::parse(text).unwrap()
    }

    fn found(text: &str) -> Vec<String> {
        hosts(&inet(text)).unwrap().iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn an_empty_host_is_every_address_of_both_families() {
        assert_eq!(found(":0"), ["::", "0.0.0.0"]);
        assert_eq!(found(":0,ipv4=on,ipv6=on"), ["::", "0.0.0.0"]);
        assert_eq!(found(":0,ipv4=on"), ["0.0.0.0"]);
        assert_eq!(found(":0,ipv6=off"), ["0.0.0.0"]);
        assert_eq!(found(":0,ipv6"), ["::"]);
        assert_eq!(found(":0,ipv4=off"), ["::"]);
    }

    #[test]
    fn numbers_resolve_to_themselves() {
        assert_eq!(found("0:1"), ["0.0.0.0"]);
        assert_eq!(found("127.0.0.1:1"), ["127.0.0.1"]);
        assert_eq!(found("[::1]:1"), ["::1"]);
        assert_eq!(found("127.0.0.1:1,numeric"), ["127.0.0.1"]);
    }

    #[test]
    fn the_wrong_family_is_said_as_qemu_says_it() {
        let why = hosts(&inet("127.0.0.1:0,ipv6=on")).unwrap_err().to_string();
        assert_eq!(
            why,
            "address resolution failed for 127.0.0.1:0: Address family for hostname not supported"
        );
        let why = hosts(&inet("localhost:0,numeric")).unwrap_err().to_string();
        assert_eq!(why, "address resolution failed for localhost:0: Name or service not known");
    }

    #[test]
    fn an_unknown_host_is_refused_with_the_resolvers_words() {
        let why = hosts(&inet("nosuch.invalid:5")).unwrap_err().to_string();
        assert!(why.starts_with("address resolution failed for nosuch.invalid:5: "), "{why}");
        assert!(!why.contains("lookup"), "{why}");
    }

    #[test]
    fn services_are_found_by_name_and_alias_for_tcp_only() {
        let text = "# comment\nhttp\t80/tcp\t\twww # web\ntftp 69/udp\nbroken\n";
        assert_eq!(service("http", text), Some(80));
        assert_eq!(service("www", text), Some(80));
        assert_eq!(service("web", text), None);
        assert_eq!(service("tftp", text), None);
        let why = port(&inet("127.0.0.1:nosuchservice")).unwrap_err().to_string();
        assert_eq!(
            why,
            "address resolution failed for 127.0.0.1:nosuchservice: Servname not supported for ai_socktype"
        );
    }
}
