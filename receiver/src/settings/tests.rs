//! What the settings accept and refuse, word for word as the three QEMU
//! versions answered.

use super::*;

mod capabilities;
mod parameters;
mod ranges;

fn on(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"capability": name, "state": true})).collect()
}

fn set(settings: &mut Settings, arguments: Value) -> Result<(), String> {
    settings.set_parameters(arguments.as_object().expect("an object"))
}

fn refusal(version: QemuVersion, arguments: Value) -> String {
    set(&mut Settings::new(version), arguments.clone()).expect_err(&arguments.to_string())
}
