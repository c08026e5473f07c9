//! How many multifd channels a run gets, from command line and QMP.

use serde_json::{Value, json};

use crate::settings::{Capability, IncomingPhase, Settings};

/// What the command line said of multifd, before QMP says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelsDefault {
    /// Nothing: the capability `multifd` and the parameter `multifd-channels`
    /// decide, as in QEMU, both at their defaults at first.
    #[default]
    FromCapabilities,
    /// So many (`--multifd N`): capability and parameter are preset to that, as
    /// QEMU's `-global migration.…` does, and decide. 0 is a migration without
    /// multifd.
    Fixed(u8),
    /// As many as connect, until QMP names the capability `multifd`, on or off;
    /// from then on it decides. `multifd-channels` alone changes nothing, as it
    /// does in QEMU while the capability is off.
    Derived,
}

/// The rule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelRule {
    derived: bool,
}

impl ChannelRule {
    /// The rule at the beginning; presets `settings` where the default is fixed.
    pub(super) fn new(default: ChannelsDefault, settings: &mut Settings) -> Self {
        if let ChannelsDefault::Fixed(count @ 1..) = default {
            let on = json!([{"capability": Capability::Multifd.name(), "state": true}]);
            let parameters = json!({"multifd-channels": count});
            settings
                .set_capabilities(&on, IncomingPhase::NotStarted)
                .and_then(|()| settings.set_parameters(members(&parameters)))
                .expect("multifd goes with any count from 1 and with nothing else set");
        }
        Self { derived: default == ChannelsDefault::Derived }
    }

    /// `list` has been given to migrate-set-capabilities, and was accepted.
    pub(super) fn note(&mut self, list: &Value) {
        let mut named = list.as_array().into_iter().flatten();
        self.derived &= !named.any(|item| item["capability"] == Capability::Multifd.name());
    }

    /// How many channels a run begun now has; `None`: derived.
    pub(super) fn count(self, settings: &Settings) -> Option<u8> {
        match (self.derived, settings.multifd()) {
            (true, _) => None,
            (false, true) => Some(settings.multifd_channels()),
            (false, false) => Some(0),
        }
    }
}

fn members(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().expect("an object was written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::QemuVersion;

    fn rule(default: ChannelsDefault) -> (ChannelRule, Settings) {
        let mut settings = Settings::new(QemuVersion::V10_0);
        (ChannelRule::new(default, &mut settings), settings)
    }

    fn set(rule: &mut ChannelRule, settings: &mut Settings, on: bool) {
        let list = json!([{"capability": "multifd", "state": on}]);
        settings.set_capabilities(&list, IncomingPhase::NotStarted).unwrap();
        rule.note(&list);
    }

    #[test]
    fn without_a_word_on_the_command_line_the_capability_decides() {
        let (mut rule, mut settings) = rule(ChannelsDefault::FromCapabilities);
        assert_eq!(rule.count(&settings), Some(0));
        set(&mut rule, &mut settings, true);
        assert_eq!(rule.count(&settings), Some(2));
    }

    #[test]
    fn a_count_on_the_command_line_is_seen_on_qmp_and_may_be_changed_there() {
        let (mut rule, mut settings) = rule(ChannelsDefault::Fixed(8));
        assert_eq!(rule.count(&settings), Some(8));
        assert!(settings.multifd());
        settings.set_parameters(members(&json!({"multifd-channels": 4}))).unwrap();
        assert_eq!(rule.count(&settings), Some(4));
        set(&mut rule, &mut settings, false);
        assert_eq!(rule.count(&settings), Some(0));
    }

    #[test]
    fn no_channels_on_the_command_line_is_the_capability_off() {
        let (rule, settings) = rule(ChannelsDefault::Fixed(0));
        assert!(!settings.multifd());
        assert_eq!(rule.count(&settings), Some(0));
    }

    #[test]
    fn the_count_is_derived_until_the_capability_is_named() {
        for on in [true, false] {
            let (mut rule, mut settings) = rule(ChannelsDefault::Derived);
            settings.set_parameters(members(&json!({"multifd-channels": 4}))).unwrap();
            rule.note(&json!([{"capability": "events", "state": true}]));
            assert_eq!(rule.count(&settings), None);
            set(&mut rule, &mut settings, on);
            assert_eq!(rule.count(&settings), Some(if on { 4 } else { 0 }));
        }
    }

    #[test]
    fn every_version_takes_every_count_as_a_preset() {
        for version in QemuVersion::ALL {
            for count in 0..=u8::MAX {
                let mut settings = Settings::new(version);
                let rule = ChannelRule::new(ChannelsDefault::Fixed(count), &mut settings);
                assert_eq!(rule.count(&settings), Some(count));
            }
        }
    }
}
