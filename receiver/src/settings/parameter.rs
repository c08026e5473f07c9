//! The parameters: names, kinds, defaults, which version has which, and the
//! order in which `query-migrate-parameters` lists them.

use serde_json::Value;

use super::{MultifdCompression, QemuVersion, aliases, qapi};

/// What a parameter holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Held {
    Flag(bool),
    Number(u64),
    Text(String),
    List(Value),
}

impl Held {
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Flag(on) => Value::from(*on),
            Self::Number(number) => Value::from(*number),
            Self::Text(text) => Value::from(text.as_str()),
            Self::List(list) => list.clone(),
        }
    }
}

/// The type of a parameter on QMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Uint8,
    Uint32,
    Uint64,
    /// A 64-bit number that `-global` may write with a size suffix.
    Size,
    /// A string; null clears it.
    Text,
    /// One of a version's names, see [`Parameter::choices`].
    Choice,
    /// A list of strings.
    Strings,
    /// A list of objects (node and bitmap aliases).
    Aliases,
}

/// One migration parameter.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    default: Default,
    /// The property `-global migration.X=` sets.
    pub(super) property: Option<&'static str>,
    first: QemuVersion,
    last: QemuVersion,
}

/// Their places in [`PARAMETERS`], which is QEMU's order of output.
pub(super) fn of(version: QemuVersion) -> impl Iterator<Item = (usize, &'static Parameter)> {
    PARAMETERS.iter().enumerate().filter(move |(_, p)| p.first <= version && version <= p.last)
}

/// The place and the row of the parameter `version` calls `name`.
pub(super) fn named(name: &str, version: QemuVersion) -> Option<(usize, &'static Parameter)> {
    of(version).find(|(_, parameter)| parameter.name == name)
}

/// A parameter's place among those that are read together: of several values that
/// cannot be read, the one that comes first is complained about.
pub(super) fn reading_place(name: &str) -> Option<usize> {
    READING_ORDER.iter().position(|listed| *listed == name)
}

/// How many there are in all versions together.
pub(super) const COUNT: usize = PARAMETERS.len();

impl Parameter {
    /// What it holds before anyone set it; nothing if it then is not listed.
    pub(super) fn initial(&self) -> Option<Held> {
        match self.default {
            Default::Absent => None,
            Default::Flag(on) => Some(Held::Flag(on)),
            Default::Number(number) => Some(Held::Number(number)),
            Default::Text(text) => Some(Held::Text(text.to_owned())),
            Default::EmptyList => Some(Held::List(Value::Array(Vec::new()))),
        }
    }

    /// Reads a value given on QMP.
    ///
    /// # Errors
    /// QEMU's text for a value of another type, too wide, or not among the names.
    pub(super) fn read(&self, value: &Value, version: QemuVersion) -> Result<Held, String> {
        let name = self.name;
        Ok(match self.kind {
            Kind::Bool => Held::Flag(qapi::boolean(value, name)?),
            Kind::Uint8 => Held::Number(qapi::uint(value, name, u8::MAX.into(), "uint8_t")?),
            Kind::Uint32 => Held::Number(qapi::uint(value, name, u32::MAX.into(), "uint32_t")?),
            Kind::Uint64 | Kind::Size => Held::Number(qapi::uint64(value, name)?),
            Kind::Text => Held::Text(qapi::string_or_null(value, name)?.to_owned()),
            Kind::Choice => {
                let names = self.choices(version);
                Held::Text(names[qapi::choice(value, name, names)?].to_owned())
            }
            Kind::Strings => {
                for (index, item) in qapi::list(value, name)?.iter().enumerate() {
                    qapi::string(item, &format!("{name}[{index}]"))?;
                }
                Held::List(value.clone())
            }
            Kind::Aliases => Held::List(aliases::parse(value, name)?),
        })
    }

    /// Whether `version` takes a value on QMP and then keeps the old one: 7.2
    /// does that with the two levels, so that it also refuses none.
    pub(super) fn is_forgotten(&self, version: QemuVersion) -> bool {
        version == QemuVersion::V7_2
            && ["multifd-zlib-level", "multifd-zstd-level"].contains(&self.name)
    }

    /// The names a [`Kind::Choice`] may hold. A QEMU offers the compressions
    /// its build has libraries for; we offer all of the version, for we decode
    /// each of them in software.
    pub(super) fn choices(&self, version: QemuVersion) -> &'static [&'static str] {
        match self.name {
            "multifd-compression" => MultifdCompression::names(version),
            "zero-page-detection" => &["none", "legacy", "multifd"],
            "mode" if version >= QemuVersion::V11_1 => {
                &["normal", "cpr-reboot", "cpr-transfer", "cpr-exec"]
            }
            "mode" => &["normal", "cpr-reboot", "cpr-transfer"],
            other => unreachable!("{other} is not a choice"),
        }
    }
}

#[derive(Debug)]
enum Default {
    Absent,
    Flag(bool),
    Number(u64),
    Text(&'static str),
    EmptyList,
}

const fn row(name: &'static str, kind: Kind, default: Default) -> Parameter {
    Parameter {
        name,
        kind,
        default,
        property: None,
        first: QemuVersion::V7_2,
        last: QemuVersion::V11_1,
    }
}

const fn flag(name: &'static str) -> Parameter {
    row(name, Kind::Bool, Default::Flag(false))
}

const fn byte(name: &'static str, default: u64) -> Parameter {
    row(name, Kind::Uint8, Default::Number(default))
}

const fn uint64(name: &'static str, default: u64) -> Parameter {
    row(name, Kind::Uint64, Default::Number(default))
}

const fn size(name: &'static str, default: u64) -> Parameter {
    row(name, Kind::Size, Default::Number(default))
}

const fn text(name: &'static str) -> Parameter {
    row(name, Kind::Text, Default::Text(""))
}

const fn choice(name: &'static str, default: &'static str) -> Parameter {
    row(name, Kind::Choice, Default::Text(default))
}

impl Parameter {
    const fn global(self, property: &'static str) -> Self {
        Self { property: Some(property), ..self }
    }

    const fn bare(self) -> Self {
        Self { property: Some(self.name), ..self }
    }

    const fn only_7_2(self) -> Self {
        Self { last: QemuVersion::V7_2, ..self }
    }

    const fn since_10_0(self) -> Self {
        Self { first: QemuVersion::V10_0, ..self }
    }

    const fn since_11_1(self) -> Self {
        Self { first: QemuVersion::V11_1, ..self }
    }
}

/// In QEMU's order of output, all versions merged: each version's list is a
/// subsequence. `-global` gives announce-* a size suffix although QMP calls
/// them plain numbers, as QEMU does.
static PARAMETERS: [Parameter; 36] = [
    flag("cpu-throttle-tailslow").global("x-cpu-throttle-tailslow"),
    size("xbzrle-cache-size", 64 << 20).bare(),
    byte("cpu-throttle-initial", 20).global("x-cpu-throttle-initial"),
    size("announce-max", 550).bare(),
    byte("decompress-threads", 2).global("x-decompress-threads").only_7_2(),
    row("block-bitmap-mapping", Kind::Aliases, Default::Absent),
    byte("compress-threads", 8).global("x-compress-threads").only_7_2(),
    byte("compress-level", 1).global("x-compress-level").only_7_2(),
    flag("direct-io").since_10_0(),
    size("avail-switchover-bandwidth", 0).bare().since_10_0(),
    choice("zero-page-detection", "multifd").bare().since_10_0(),
    byte("multifd-qatzip-level", 1).bare().since_10_0(),
    size("x-rdma-chunk-size", 1 << 20).bare().since_11_1(),
    byte("multifd-channels", 2).bare(),
    choice("mode", "normal").bare().since_10_0(),
    byte("multifd-zstd-level", 1).bare(),
    size("announce-initial", 50).bare(),
    flag("block-incremental").only_7_2(),
    row("compress-wait-thread", Kind::Bool, Default::Flag(true))
        .global("x-compress-wait-thread")
        .only_7_2(),
    uint64("downtime-limit", 300).global("x-downtime-limit"),
    text("tls-authz").bare(),
    row("cpr-exec-command", Kind::Strings, Default::EmptyList).since_11_1(),
    uint64("vcpu-dirty-limit", 1).bare().since_10_0(),
    choice("multifd-compression", "none").bare(),
    size("announce-rounds", 5).bare(),
    size("announce-step", 100).bare(),
    text("tls-creds").bare(),
    uint64("x-vcpu-dirty-limit-period", 1000).bare().since_10_0(),
    byte("multifd-zlib-level", 1).bare(),
    byte("max-cpu-throttle", 99).bare(),
    size("max-postcopy-bandwidth", 0).bare(),
    text("tls-hostname").bare(),
    byte("throttle-trigger-threshold", 50).global("x-throttle-trigger-threshold"),
    size("max-bandwidth", 128 << 20).global("x-max-bandwidth"),
    row("x-checkpoint-delay", Kind::Uint32, Default::Number(20_000)).bare(),
    byte("cpu-throttle-increment", 10).global("x-cpu-throttle-increment"),
];

/// The order in which QEMU reads them (`qapi/migration.json`, `MigrateSetParameters`), all
/// versions merged.
const READING_ORDER: [&str; COUNT] = [
    "announce-initial",
    "announce-max",
    "announce-rounds",
    "announce-step",
    "compress-level",
    "compress-threads",
    "compress-wait-thread",
    "decompress-threads",
    "throttle-trigger-threshold",
    "cpu-throttle-initial",
    "cpu-throttle-increment",
    "cpu-throttle-tailslow",
    "tls-creds",
    "tls-hostname",
    "tls-authz",
    "max-bandwidth",
    "avail-switchover-bandwidth",
    "downtime-limit",
    "x-checkpoint-delay",
    "block-incremental",
    "multifd-channels",
    "xbzrle-cache-size",
    "max-postcopy-bandwidth",
    "max-cpu-throttle",
    "multifd-compression",
    "multifd-zlib-level",
    "multifd-qatzip-level",
    "multifd-zstd-level",
    "block-bitmap-mapping",
    "x-vcpu-dirty-limit-period",
    "vcpu-dirty-limit",
    "mode",
    "zero-page-detection",
    "direct-io",
    "x-rdma-chunk-size",
    "cpr-exec-command",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_has_its_place_in_the_reading_order() {
        for parameter in &PARAMETERS {
            assert!(reading_place(parameter.name).is_some(), "{}", parameter.name);
        }
    }
}
