//! `-global migration.X=V`: capabilities and parameters as properties of
//! QEMU's migration object.

use super::capability::Capability;
use super::parameter::{self, Held, Kind, Parameter};
use super::{QemuVersion, Settings};

impl Settings {
    /// Applies the text of one `-global`, such as
    /// `migration.multifd-channels=8` or `migration.x-multifd=on`. Limits and
    /// combinations are judged by [`check`](Settings::check) once all are
    /// applied, as QEMU does. Properties that only a source obeys are taken
    /// and have no effect.
    ///
    /// # Errors
    /// QEMU's text: no such property, or not a value of its type.
    pub fn set_global(&mut self, text: &str) -> Result<(), String> {
        let (target, value) =
            text.split_once('=').ok_or_else(|| format!("Invalid parameter '{text}'"))?;
        let name = target
            .strip_prefix("migration.")
            .ok_or_else(|| format!("'{target}' is not a property of the migration object"))?;
        self.set_property(name, value).map_err(|why| format!("can't apply global {text}: {why}"))
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), String> {
        let version = self.version();
        if let Some(capability) =
            Capability::of(version).find(|capability| capability.property() == Some(name))
        {
            let on = switch(name, value)?;
            self.switch_capability(capability, on);
            return Ok(());
        }
        if let Some((index, parameter)) =
            parameter::of(version).find(|(_, p)| p.property == Some(name))
        {
            let held = read(parameter, name, value, version)?;
            self.hold(index, held);
            return Ok(());
        }
        if SOURCE_ONLY_FLAGS.contains(&name) {
            return switch(name, value).map(|_| ());
        }
        if name == "x-clear-bitmap-shift" {
            return number(name, value, u8::MAX.into(), "uint8_t").map(|_| ());
        }
        Err(format!("Property 'migration.{name}' not found"))
    }
}

fn read(
    parameter: &Parameter,
    name: &str,
    value: &str,
    version: QemuVersion,
) -> Result<Held, String> {
    Ok(match parameter.kind {
        Kind::Bool => Held::Flag(switch(name, value)?),
        Kind::Uint8 => Held::Number(number(name, value, u8::MAX.into(), "uint8_t")?),
        Kind::Uint32 => Held::Number(number(name, value, u32::MAX.into(), "uint32_t")?),
        Kind::Uint64 => Held::Number(number(name, value, u64::MAX, "uint64")?),
        Kind::Size => Held::Number(parse_size(value).ok_or_else(|| {
            format!("Parameter '{name}' expects a non-negative number below 2^64")
        })?),
        Kind::Text => Held::Text(value.to_owned()),
        Kind::Choice if parameter.choices(version).contains(&value) => Held::Text(value.to_owned()),
        Kind::Choice => {
            return Err(format!("Parameter '{name}' does not accept value '{value}'"));
        }
        Kind::Strings | Kind::Aliases => unreachable!("no list has a property"),
    })
}

fn switch(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(format!("Parameter '{name}' expects 'on' or 'off'")),
    }
}

/// Decimal, or hexadecimal after `0x`; a negative one wraps, as with strtoull,
/// and then is too wide for every type but the widest.
fn number(name: &str, value: &str, max: u64, kind: &str) -> Result<u64, String> {
    let (negative, digits) = match value.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, value.strip_prefix('+').unwrap_or(value)),
    };
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok()
        }
        None if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    };
    let found = parsed.ok_or_else(|| format!("Parameter '{name}' expects uint64"))?;
    let found = if negative { found.wrapping_neg() } else { found };
    if found > max {
        return Err(format!("Parameter '{name}' expects {kind}"));
    }
    Ok(found)
}

/// A size in bytes with an optional suffix b, k, M, G, T, P or E in powers of
/// 1024, possibly with a fraction (`util/cutils.c`, `qemu_strtosz`). Without a
/// suffix it is bytes, and then takes no fraction.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let plain = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        return u64::from_str_radix(hex, 16).ok().filter(|_| plain);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.strip_prefix(digits)? {
        "" | "b" | "B" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        "p" | "P" => 50,
        "e" | "E" => 60,
        _ => return None,
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (digits, ""),
    };
    let numeric = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !numeric(whole) || !numeric(fraction) {
        return None;
    }
    let unit = 1u64 << shift;
    let bytes = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if fraction.bytes().all(|b| b == b'0') {
        return Some(bytes);
    }
    if shift == 0 {
        return None;
    }
    // A fraction is under one unit, which has at most 61 bits: what a double
    // loses of it is less than anyone meant by writing a fraction.
    let part = format!("0.{fraction}").parse::<f64>().ok()? * unit as f64;
    bytes.checked_add(part as u64)
}

/// Properties that steer what a source sends, or how it looks at its memory.
const SOURCE_ONLY_FLAGS: [&str; 9] = [
    "store-global-state",
    "send-configuration",
    "send-section-footer",
    "send-switchover-start",
    "decompress-error-check",
    "multifd-flush-after-each-section",
    "multifd-clean-tls-termination",
    "x-preempt-pre-7-2",
    "x-postcopy-preempt-break-huge",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(version: QemuVersion, text: &str) -> String {
        Settings::new(version).set_global(text).expect_err(text)
    }

    #[test]
    fn globals_of_large_vm_scripts_land_in_the_tables() {
        let mut settings = Settings::new(QemuVersion::V10_0);
        for text in [
            "migration.x-multifd=on",
            "migration.multifd-channels=100",
            "migration.x-max-bandwidth=10G",
            "migration.multifd-compression=zstd",
            "migration.x-events=yes",
            "migration.max-postcopy-bandwidth=1.5M",
            "migration.tls-creds=tls0",
            "migration.mapped-ram=off",
            "migration.store-global-state=off",
            "migration.x-clear-bitmap-shift=18",
        ] {
            assert_eq!(settings.set_global(text), Ok(()), "{text}");
        }
        assert!(settings.multifd() && settings.events() && !settings.mapped_ram());
        assert_eq!(settings.multifd_channels(), 100);
        let parameters = settings.parameters_json();
        assert_eq!(parameters["max-bandwidth"], 10u64 << 30);
        assert_eq!(parameters["max-postcopy-bandwidth"], 3 << 19);
        assert_eq!(settings.tls_creds(), Some("tls0"));
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn what_does_not_parse_is_refused_in_qemus_words() {
        let version = QemuVersion::V10_0;
        for (setting, why) in [
            ("foo=1", "Property 'migration.foo' not found"),
            (
                "pause-before-switchover=on",
                "Property 'migration.pause-before-switchover' not found",
            ),
            ("multifd-channels=300", "Parameter 'multifd-channels' expects uint8_t"),
            ("multifd-channels=-1", "Parameter 'multifd-channels' expects uint8_t"),
            ("multifd-channels=x", "Parameter 'multifd-channels' expects uint64"),
            ("multifd-channels=", "Parameter 'multifd-channels' expects uint64"),
            ("x-multifd=maybe", "Parameter 'x-multifd' expects 'on' or 'off'"),
            ("x-multifd=", "Parameter 'x-multifd' expects 'on' or 'off'"),
            (
                "x-max-bandwidth=1.5",
                "Parameter 'x-max-bandwidth' expects a non-negative number below 2^64",
            ),
            (
                "multifd-compression=lz4",
                "Parameter 'multifd-compression' does not accept value 'lz4'",
            ),
        ] {
            let text = format!("migration.{setting}");
            assert_eq!(refusal(version, &text), format!("can't apply global {text}: {why}"));
        }
        assert_eq!(refusal(version, "migration"), "Invalid parameter 'migration'");
        assert_eq!(
            refusal(version, "e1000.x=1"),
            "'e1000.x' is not a property of the migration object"
        );
        assert!(refusal(QemuVersion::V7_2, "migration.mapped-ram=on").ends_with("not found"));
    }

    #[test]
    fn limits_and_combinations_are_judged_once_all_are_applied() {
        let mut settings = Settings::new(QemuVersion::V10_0);
        settings.set_global("migration.multifd-channels=0").unwrap();
        let why = "Parameter 'multifd_channels' expects a value between 1 and 255";
        assert_eq!(settings.check(), Err(why.to_owned()));

        let mut settings = Settings::new(QemuVersion::V10_0);
        settings.set_global("migration.x-postcopy-preempt=on").unwrap();
        assert_eq!(settings.check(), Err("Postcopy preempt requires postcopy-ram".to_owned()));
        settings.set_global("migration.x-postcopy-ram=on").unwrap();
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn sizes_take_suffixes_fractions_and_hexadecimal() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("1k", Some(1024)),
            ("10G", Some(10 << 30)),
            ("0.5M", Some(1 << 19)),
            ("1.0", Some(1)),
            ("0x10", Some(16)),
            ("15E", Some(15 << 60)),
            ("16E", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("1.5", None),
            ("-1", None),
            ("", None),
            ("k", None),
            ("1kk", None),
            ("1 k", None),
            ("0x", None),
            ("0x1k", None),
            (".5k", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
