//! Migration URIs (`migration/migration.c`, `migrate_uri_parse`).

use std::fmt;
use std::path::PathBuf;

use super::inet::InetAddress;
use super::passed;
use crate::settings::parse_size;

/// Where a migration stream comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `tcp:HOST:PORT[,option…]`
    Tcp(InetAddress),
    /// `unix:PATH`
    Unix(UnixAddress),
    /// `vsock:CID:PORT`; CID 4294967295 means any of this host's.
    Vsock {
        /// Context id to listen on.
        cid: u32,
        /// Port to listen on.
        port: u32,
    },
    /// `fd:NAME`: a descriptor handed over with getfd, or by its number one
    /// inherited from the parent process.
    Fd {
        /// A name, or a decimal number.
        name: String,
    },
    /// `exec:COMMAND`, or a program with its arguments in JSON: the stream is
    /// its standard output.
    Exec {
        /// The program and its arguments; of `exec:COMMAND` the shell.
        args: Vec<String>,
    },
    /// `file:PATH[,offset=N]`
    File {
        /// The file to read.
        path: PathBuf,
        /// Bytes to skip at its start.
        offset: u64,
    },
    /// `defer`: nothing yet, a later migrate-incoming says where.
    Defer,
}

/// A unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAddress {
    /// A file system path, or the name in the abstract namespace.
    pub path: PathBuf,
    /// Whether `path` is a name in Linux' abstract namespace.
    pub abstract_name: bool,
    /// Whether an abstract name ends where its text ends, and is not filled
    /// with zeroes to the full 107 bytes.
    pub tight: bool,
}

impl UnixAddress {
    /// A socket in the file system.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), abstract_name: false, tight: true }
    }
}

impl Address {
    /// Reads a URI, as migrate-incoming takes it.
    ///
    /// # Errors
    /// QEMU's text: an unknown scheme, or what does not parse.
    pub fn parse(uri: &str) -> Result<Self, String> {
        let unknown = || format!("unknown migration protocol: {uri}");
        let (scheme, rest) = uri.split_once(':').ok_or_else(unknown)?;
        match scheme {
            "tcp" => InetAddress::parse(rest).map(Self::Tcp),
            "unix" if rest.is_empty() => Err(EMPTY_UNIX_PATH.into()),
            "unix" => Ok(Self::Unix(UnixAddress::at(rest))),
            "vsock" => parse_vsock(rest),
            "fd" if rest.is_empty() => Err("invalid file descriptor address".into()),
            "fd" => Self::fd(rest),
            "exec" => Ok(Self::Exec { args: vec!["/bin/sh".into(), "-c".into(), rest.into()] }),
            "file" => parse_file(rest),
            "rdma" => Err(NO_RDMA.into()),
            _ => Err(unknown()),
        }
    }

    /// Reads the value of `-incoming`: `defer`, a URI, or the JSON text of one
    /// channel.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and for JSON the texts of migrate-incoming's
    /// `channels`.
    pub fn parse_option(text: &str) -> Result<Self, String> {
        if text == "defer" {
            return Ok(Self::Defer);
        }
        if text.starts_with('{') {
            let value =
                serde_json::from_str(text).map_err(|why| format!("JSON parse error, {why}"))?;
            return super::arguments::parse_channel(
                &value,
                "",
                crate::settings::QemuVersion::V11_1,
            );
        }
        Self::parse(text)
    }

    /// Whether more than one connection can come this way, as multifd needs.
    /// A descriptor is taken to be a connected socket until it is opened.
    #[must_use]
    pub fn multi_channel(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_) | Self::Vsock { .. })
    }

    pub(super) fn fd(name: &str) -> Result<Self, String> {
        if name.starts_with(|c: char| c.is_ascii_digit()) && passed::number(name).is_none() {
            return Err(format!("Invalid file descriptor number '{name}'"));
        }
        Ok(Self::Fd { name: name.to_owned() })
    }

    pub(super) fn vsock(cid: &str, port: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| digits)
        };
        Ok(Self::Vsock {
            cid: number(cid).ok_or_else(|| format!("Failed to parse cid '{cid}'"))?,
            port: number(port).ok_or_else(|| format!("Failed to parse port '{port}'"))?,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(inet) => write!(f, "tcp:{inet}"),
            Self::Unix(unix) => write!(f, "unix:{}", unix.path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Fd { name } => write!(f, "fd:{name}"),
            Self::Exec { args } if args.len() == 3 && args[1] == "-c" => {
                write!(f, "exec:{}", args[2])
            }
            Self::Exec { args } => write!(f, "exec:{}", args.join(" ")),
            Self::File { path, offset: 0 } => write!(f, "file:{}", path.display()),
            Self::File { path, offset } => write!(f, "file:{},offset={offset}", path.display()),
            Self::Defer => f.write_str("defer"),
        }
    }
}

fn parse_vsock(text: &str) -> Result<Address, String> {
    match text.split_once(':') {
        Some((cid, port)) if !cid.is_empty() && !port.is_empty() => Address::vsock(cid, port),
        _ => Err(format!("error parsing address '{text}'")),
    }
}

fn parse_file(text: &str) -> Result<Address, String> {
    let Some((path, offset)) = text.split_once(",offset=") else {
        return Ok(Address::File { path: text.into(), offset: 0 });
    };
    let bytes = parse_size(offset).ok_or_else(|| {
        let number = offset.strip_prefix('-').unwrap_or(offset);
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let why = if digits { "Numerical result out of range" } else { "Invalid argument" };
        format!("file URI has bad offset {offset}: {why}")
    })?;
    Ok(Address::File { path: path.into(), offset: bytes })
}

pub(super) const EMPTY_UNIX_PATH: &str = "invalid Unix socket address";
pub(super) const NO_RDMA: &str = "rdma is not supported: let the source migrate over tcp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_reads_what_it_prints() {
        for uri in [
            "tcp:127.0.0.1:4444",
            "tcp:[::1]:0",
            "tcp:[[x]:0",
            "tcp::0",
            "unix:/run/x,foo=bar",
            "vsock:3:1234",
            "fd:mig",
            "fd:7",
            "exec:cat /tmp/x | gzip -d",
            "file:/tmp/x",
            "file:/tmp/x,offset=4096",
        ] {
            assert_eq!(Address::parse(uri).map(|address| address.to_string()), Ok(uri.to_owned()));
        }
    }

    #[test]
    fn refusals_are_qemus() {
        for (uri, why) in [
            ("", "unknown migration protocol: "),
            ("bogus", "unknown migration protocol: bogus"),
            ("bogus:1", "unknown migration protocol: bogus:1"),
            ("defer", "unknown migration protocol: defer"),
            ("tcp", "unknown migration protocol: tcp"),
            ("TCP:127.0.0.1:0", "unknown migration protocol: TCP:127.0.0.1:0"),
            ("tcp:", "error parsing address ''"),
            ("unix:", "invalid Unix socket address"),
            ("fd:", "invalid file descriptor address"),
            ("fd:7x", "Invalid file descriptor number '7x'"),
            ("vsock:", "error parsing address ''"),
            ("vsock:3", "error parsing address '3'"),
            ("vsock:3:", "error parsing address '3:'"),
            ("vsock:x:1", "Failed to parse cid 'x'"),
            ("vsock:-1:5", "Failed to parse cid '-1'"),
            ("vsock:1:y", "Failed to parse port 'y'"),
            ("vsock:1:1:1", "Failed to parse port '1:1'"),
            ("file:/x,offset=x", "file URI has bad offset x: Invalid argument"),
            ("file:/x,offset=", "file URI has bad offset : Invalid argument"),
            ("file:/x,offset=1k,foo", "file URI has bad offset 1k,foo: Invalid argument"),
            ("file:/x,offset=-1", "file URI has bad offset -1: Numerical result out of range"),
            (
                "file:/x,offset=99999999999999999999",
                "file URI has bad offset 99999999999999999999: Numerical result out of range",
            ),
        ] {
            assert_eq!(Address::parse(uri), Err(why.to_owned()), "{uri}");
        }
        assert!(Address::parse("rdma:h:1").unwrap_err().starts_with("rdma is not supported"));
    }

    #[test]
    fn the_option_takes_defer_and_a_channel_in_json() {
        assert_eq!(Address::parse_option("defer"), Ok(Address::Defer));
        assert_eq!(Address::parse_option("tcp:h:1"), Address::parse("tcp:h:1"));
        let json = r#"{"channel-type":"main","addr":{"transport":"socket","type":"inet","host":"h","port":"1"}}"#;
        assert_eq!(Address::parse_option(json), Address::parse("tcp:h:1"));
        assert_eq!(
            Address::parse_option(r#"{"channel-type":"main","addr":{}}"#),
            Err("Parameter 'addr.transport' is missing".to_owned())
        );
        assert!(Address::parse_option("{").unwrap_err().starts_with("JSON parse error, "));
    }

    #[test]
    fn an_offset_takes_a_size_suffix() {
        let offset = |text: &str| match Address::parse(&format!("file:/x,offset={text}")) {
            Ok(Address::File { offset, .. }) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!(offset("1k"), 1024);
        assert_eq!(offset("0x1000"), 4096);
        assert_eq!(offset("1.5M"), 3 << 19);
    }
}
