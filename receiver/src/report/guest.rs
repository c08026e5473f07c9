//! `guest`: what the stream said of the machine that comes.

use serde_json::{Value, json};

use crate::main_stream::DeviceSection;
use crate::migration::Received;

/// Machine, run state and device state; there once a run has completed.
pub(super) fn guest(received: &Received) -> Value {
    let state = &received.device_state;
    json!({
        "machine": received.machine,
        "run-state": state.run_state,
        "sync-mode": if received.modern_sync { "flush" } else { "eos" },
        "return-path": received.return_path,
        "configuration-bytes": state.configuration.len(),
        "device-state-bytes": state.tail.len(),
        "vmdesc-bytes": state.vmdesc.len(),
        "device-sections": state.sections.iter().map(section).collect::<Value>(),
    })
}

fn section(section: &DeviceSection) -> Value {
    json!({
        "idstr": section.idstr,
        "instance-id": section.instance_id,
        "section-id": section.section_id,
        "version-id": section.version_id,
        "offset-bytes": section.offset,
        "bytes": section.bytes,
        "body-bytes": section.body_bytes,
    })
}
