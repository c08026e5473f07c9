//! The arguments of QMP's migrate-incoming (`qapi/migration.json`).

use serde_json::{Map, Value};

use super::address::{Address, EMPTY_UNIX_PATH, NO_RDMA, UnixAddress};
use super::inet::{InetAddress, KeepAlive};
use crate::settings::QemuVersion;
use crate::settings::qapi::{
    boolean, choice, join, list, member, object, only, string, uint, uint64,
};

/// What migrate-incoming was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingArguments {
    /// Where the stream comes from.
    pub address: Address,
    /// `exit-on-error`, where given.
    pub exit_on_error: Option<bool>,
}

impl IncomingArguments {
    /// Reads all arguments of the command, as `version` takes them: `uri`,
    /// since 8.2 `channels` in its place, since 9.1 `exit-on-error`.
    ///
    /// # Errors
    /// QEMU's text.
    pub fn parse(arguments: &Map<String, Value>, version: QemuVersion) -> Result<Self, String> {
        if version == QemuVersion::V7_2 {
            let uri = string(member(arguments, "", "uri")?, "uri")?;
            only(arguments, "", &["uri"])?;
            if uri.starts_with("file:") {
                return Err(format!("unknown migration protocol: {uri}"));
            }
            return Ok(Self { address: Address::parse(uri)?, exit_on_error: None });
        }
        let uri = arguments.get("uri").map(|value| string(value, "uri")).transpose()?;
        let channels = match arguments.get("channels") {
            Some(value) => parse_channels(list(value, "channels")?, version)?,
            None => Vec::new(),
        };
        let exit_on_error = arguments
            .get("exit-on-error")
            .map(|value| boolean(value, "exit-on-error"))
            .transpose()?;
        only(arguments, "", &["uri", "channels", "exit-on-error"])?;
        let address = match (uri, channels.len()) {
            (Some(uri), 0) => Address::parse(uri)?,
            // An empty list counts as none.
            (None, 0) | (Some(_), _) => {
                return Err("need either 'uri' or 'channels' argument".into());
            }
            (None, 1) => channels.into_iter().next().expect("one channel")?,
            (None, _) => return Err(ONE_MAIN_CHANNEL.into()),
        };
        Ok(Self { address, exit_on_error })
    }
}

/// One `MigrationChannel` at `path`.
///
/// # Errors
/// QEMU's text, for the shape as well as for the meaning.
pub(super) fn parse_channel(
    value: &Value,
    path: &str,
    version: QemuVersion,
) -> Result<Address, String> {
    read_channel(value, path, version)?
}

/// What each channel means. The outer error is one of shape: QEMU reads the
/// whole list before it looks at the meaning of any.
fn parse_channels(list: &[Value], version: QemuVersion) -> Result<Vec<Meaning>, String> {
    list.iter()
        .enumerate()
        .map(|(index, value)| read_channel(value, &format!("channels[{index}]"), version))
        .collect()
}

/// An address whose shape was right.
type Meaning = Result<Address, String>;

fn read_channel(value: &Value, path: &str, version: QemuVersion) -> Result<Meaning, String> {
    let channel = object(value, path)?;
    let kind_path = join(path, "channel-type");
    let kind = choice(member(channel, path, "channel-type")?, &kind_path, &["main", "cpr"])?;
    let addr_path = join(path, "addr");
    let meaning =
        read_address(object(member(channel, path, "addr")?, &addr_path)?, &addr_path, version)?;
    only(channel, path, &["channel-type", "addr"])?;
    // QEMU 10.0 takes cpr for main here and 11.1 crashes.
    Ok(if kind == 0 { meaning } else { Err(ONE_MAIN_CHANNEL.into()) })
}

fn read_address(
    addr: &Map<String, Value>,
    path: &str,
    version: QemuVersion,
) -> Result<Meaning, String> {
    let transports = ["socket", "exec", "rdma", "file"];
    match choice(member(addr, path, "transport")?, &join(path, "transport"), &transports)? {
        0 => read_socket(addr, path, version),
        1 => {
            let args_path = join(path, "args");
            let mut args = Vec::new();
            for (index, item) in list(member(addr, path, "args")?, &args_path)?.iter().enumerate() {
                args.push(string(item, &format!("{args_path}[{index}]"))?.to_owned());
            }
            only(addr, path, &["transport", "args"])?;
            if args.is_empty() {
                return Ok(Err("exec needs a program in 'args'".into()));
            }
            Ok(Ok(Address::Exec { args }))
        }
        2 => Ok(Err(NO_RDMA.into())),
        _ => {
            let file = text(addr, path, "filename")?;
            let offset = uint64(member(addr, path, "offset")?, &join(path, "offset"))?;
            only(addr, path, &["transport", "filename", "offset"])?;
            Ok(Ok(Address::File { path: file.into(), offset }))
        }
    }
}

fn read_socket(
    addr: &Map<String, Value>,
    path: &str,
    version: QemuVersion,
) -> Result<Meaning, String> {
    let types = ["inet", "unix", "vsock", "fd"];
    match choice(member(addr, path, "type")?, &join(path, "type"), &types)? {
        0 => read_inet(addr, path, version),
        1 => {
            let file = text(addr, path, "path")?;
            let abstract_name = flag(addr, path, "abstract")?.unwrap_or(false);
            let tight = flag(addr, path, "tight")?.unwrap_or(true);
            only(addr, path, &["transport", "type", "path", "abstract", "tight"])?;
            if file.is_empty() {
                return Ok(Err(EMPTY_UNIX_PATH.into()));
            }
            Ok(Ok(Address::Unix(UnixAddress { path: file.into(), abstract_name, tight })))
        }
        2 => {
            let (cid, port) = (text(addr, path, "cid")?, text(addr, path, "port")?);
            only(addr, path, &["transport", "type", "cid", "port"])?;
            Ok(Address::vsock(cid, port))
        }
        _ => {
            let name = text(addr, path, "str")?;
            only(addr, path, &["transport", "type", "str"])?;
            Ok(Address::fd(name))
        }
    }
}

fn read_inet(
    addr: &Map<String, Value>,
    path: &str,
    version: QemuVersion,
) -> Result<Meaning, String> {
    let number = |name: &str, max: u64, kind: &str| {
        addr.get(name).map(|value| uint(value, &join(path, name), max, kind)).transpose()
    };
    let mut inet = InetAddress {
        host: text(addr, path, "host")?.to_owned(),
        port: text(addr, path, "port")?.to_owned(),
        numeric: flag(addr, path, "numeric")?.unwrap_or(false),
        to: number("to", u16::MAX.into(), "uint16_t")?.and_then(|to| u16::try_from(to).ok()),
        ipv4: flag(addr, path, "ipv4")?,
        ipv6: flag(addr, path, "ipv6")?,
        keep_alive: flag(addr, path, "keep-alive")?.unwrap_or(false).then(KeepAlive::default),
        mptcp: false,
    };
    let mut known = vec![
        "transport",
        "type",
        "host",
        "port",
        "numeric",
        "to",
        "ipv4",
        "ipv6",
        "keep-alive",
        "mptcp",
    ];
    if version >= QemuVersion::V11_1 {
        let seconds = |name: &str| {
            let found = number(name, u32::MAX.into(), "uint32_t")?;
            Ok::<_, String>(found.and_then(|found| u32::try_from(found).ok()))
        };
        let (count, idle_secs) = (seconds("keep-alive-count")?, seconds("keep-alive-idle")?);
        let interval_secs = seconds("keep-alive-interval")?;
        if let Some(keep_alive) = &mut inet.keep_alive {
            *keep_alive = KeepAlive { count, idle_secs, interval_secs };
        }
        known.extend(["keep-alive-count", "keep-alive-idle", "keep-alive-interval"]);
    }
    inet.mptcp = flag(addr, path, "mptcp")?.unwrap_or(false);
    only(addr, path, &known)?;
    Ok(inet.check().map(|()| Address::Tcp(inet)))
}

fn text<'a>(addr: &'a Map<String, Value>, path: &str, name: &str) -> Result<&'a str, String> {
    string(member(addr, path, name)?, &join(path, name))
}

fn flag(addr: &Map<String, Value>, path: &str, name: &str) -> Result<Option<bool>, String> {
    addr.get(name).map(|value| boolean(value, &join(path, name))).transpose()
}

const ONE_MAIN_CHANNEL: &str = "Channel list must have only one entry, for type 'main'";

#[cfg(test)]
mod tests;
