//! Who answers, and for which guest.

use landfall_qmp::Greeting;
use serde_json::{Value, json};

use super::Monitor;
use crate::settings::QemuVersion;

/// The version imitated, and in `package` who does so.
pub(super) fn greeting(version: QemuVersion) -> Greeting {
    let (major, minor, micro) = version.triple();
    Greeting {
        major: major.into(),
        minor: minor.into(),
        micro: micro.into(),
        package: concat!("landfall ", env!("CARGO_PKG_VERSION")).into(),
    }
}

/// The greeting's version once more.
pub(super) fn query_version(version: QemuVersion) -> Value {
    let Greeting { major, minor, micro, package } = greeting(version);
    json!({"qemu": {"micro": micro, "minor": minor, "major": major}, "package": package})
}

/// What harnesses expect of a host fit for large guests; we run none.
pub(super) fn query_kvm() -> Value {
    json!({"enabled": true, "present": true})
}

impl Monitor {
    pub(super) fn query_name(&self) -> Value {
        match &self.destination.config().name {
            Some(name) => json!({"name": name}),
            None => json!({}),
        }
    }

    pub(super) fn query_uuid(&self) -> Value {
        json!({"UUID": self.destination.config().uuid.unwrap_or_default().to_string()})
    }

    /// The RAM blocks of the source once they are known, before that the memory
    /// held ready; bytes.
    pub(super) fn query_memory_size_summary(&self) -> Value {
        let migration = self.receiver.current();
        let ram = migration.as_ref().and_then(|migration| migration.run.ram());
        let bytes = ram.map_or_else(|| self.receiver.memory().bytes, |ram| ram.total_bytes());
        json!({"base-memory": bytes, "plugged-memory": 0})
    }
}
