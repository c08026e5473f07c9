//! How a run's pages may be compressed, from command line and QMP.

use serde_json::{Map, Value, json};

use crate::settings::Settings;
use crate::wire::Compression;

/// What the command line said of compression, before QMP says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionDefault {
    /// Nothing: the parameter `multifd-compression` decides, as in QEMU, `none` at
    /// first.
    #[default]
    FromParameter,
    /// This one (`--compression METHOD`): the parameter is preset to it where the
    /// imitated version knows it, and decides.
    Fixed(Compression),
    /// Whatever the packets have, until QMP names the parameter; from then on it
    /// decides.
    Auto,
}

/// The rule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompressionRule {
    /// What the command line said, until QMP names the parameter.
    given: CompressionDefault,
}

impl CompressionRule {
    /// The rule at the beginning; presets `settings` where the default is fixed.
    pub(super) fn new(given: CompressionDefault, settings: &mut Settings) -> Self {
        if let CompressionDefault::Fixed(method) = given {
            let wanted = json!({PARAMETER: method.as_str()});
            // 7.2 does not know the newer ones: then the parameter does not show it.
            let _ = settings.set_parameters(wanted.as_object().expect("an object was written"));
        }
        Self { given }
    }

    /// `arguments` have been given to migrate-set-parameters, and were accepted.
    pub(super) fn note(&mut self, arguments: &Map<String, Value>) {
        if arguments.contains_key(PARAMETER) {
            self.given = CompressionDefault::FromParameter;
        }
    }

    /// How a run begun now must be compressed; `None` follows the packets.
    pub(super) fn method(self, settings: &Settings) -> Option<Compression> {
        match self.given {
            CompressionDefault::FromParameter => Some(settings.compression().method()),
            CompressionDefault::Fixed(method) => Some(method),
            CompressionDefault::Auto => None,
        }
    }
}

const PARAMETER: &str = "multifd-compression";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::QemuVersion;

    fn rule(given: CompressionDefault, version: QemuVersion) -> (CompressionRule, Settings) {
        let mut settings = Settings::new(version);
        (CompressionRule::new(given, &mut settings), settings)
    }

    fn set(rule: &mut CompressionRule, settings: &mut Settings, name: &str, value: Value) {
        let arguments = Map::from_iter([(name.to_owned(), value)]);
        settings.set_parameters(&arguments).unwrap();
        rule.note(&arguments);
    }

    #[test]
    fn what_nobody_set_follows_the_packets_and_what_was_set_is_enforced() {
        let (mut rule, mut settings) = rule(CompressionDefault::Auto, QemuVersion::V10_0);
        set(&mut rule, &mut settings, "multifd-channels", json!(4));
        assert_eq!(rule.method(&settings), None);
        set(&mut rule, &mut settings, PARAMETER, json!("zstd"));
        assert_eq!(rule.method(&settings), Some(Compression::Zstd));
        set(&mut rule, &mut settings, PARAMETER, json!("none"));
        assert_eq!(rule.method(&settings), Some(Compression::None));
    }

    #[test]
    fn as_qemu_the_parameter_decides_from_the_start() {
        let (rule, settings) = rule(CompressionDefault::FromParameter, QemuVersion::V10_0);
        assert_eq!(rule.method(&settings), Some(Compression::None));
    }

    #[test]
    fn a_fixed_method_shows_in_the_parameter_and_a_later_one_replaces_it() {
        let fixed = CompressionDefault::Fixed(Compression::Qpl);
        let (mut rule, mut settings) = rule(fixed, QemuVersion::V10_0);
        assert_eq!(settings.parameters_json()[PARAMETER], "qpl");
        set(&mut rule, &mut settings, PARAMETER, json!("zlib"));
        assert_eq!(rule.method(&settings), Some(Compression::Zlib));
    }

    #[test]
    fn a_method_that_the_imitated_version_does_not_know_is_received_all_the_same() {
        let fixed = CompressionDefault::Fixed(Compression::Qatzip);
        let (rule, settings) = rule(fixed, QemuVersion::V7_2);
        assert_eq!(rule.method(&settings), Some(Compression::Qatzip));
        assert_eq!(settings.parameters_json()[PARAMETER], "none");
    }
}
