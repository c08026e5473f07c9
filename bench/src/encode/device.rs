//! Device state: sections whose bodies have no length of their own, and the JSON that describes
//! them. Bytes and description are written from one value, so they agree by construction.
//! (QEMU: migration/vmstate.c, migration/savevm.c.)

use std::fmt::Write as _;

use super::{
    Append,
    stream::{self, SectionHead},
};
use crate::form::VmdescForm;

/// One device: a section on the wire, an entry of `devices` in the description.
#[derive(Clone, Debug)]
pub struct Device {
    /// The section's number.
    pub id: u32,
    /// The device's name.
    pub idstr: String,
    /// Which of several devices of that name.
    pub instance: u32,
    /// The state.
    pub state: State,
}

/// How a device's state is described.
#[derive(Clone, Debug)]
pub enum State {
    /// By its fields.
    Fields(Vmsd),
    /// As one buffer (old-style devices such as `slirp`), with the section's version.
    Buffer {
        /// The section's version.
        version: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// A description of state: of a device, of a structure inside one, of a subsection.
#[derive(Clone, Debug)]
pub struct Vmsd {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Its fields in order.
    pub fields: Vec<Field>,
    /// Its subsections in order, after all fields.
    pub subsections: Vec<Vmsd>,
}

/// One field, or as many equal ones.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its place in an array whose elements are listed one by one.
    pub index: Option<u32>,
    /// What it holds.
    pub value: Value,
}

/// What a field holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// One value of a named type.
    Plain {
        /// The type's name in the description, as `uint32`.
        kind: &'static str,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Equal elements, described once.
    Array {
        /// The type's name in the description.
        kind: &'static str,
        /// The bytes of all elements.
        bytes: Vec<u8>,
        /// How many elements: a divisor of the number of bytes.
        len: u32,
    },
    /// Fields of its own.
    Struct(Vmsd),
}

impl Field {
    /// A single value.
    #[must_use]
    pub fn plain(name: impl Into<String>, kind: &'static str, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), index: None, value: Value::Plain { kind, bytes } }
    }
}

/// Appends the device's section, with a footer when the stream has footers.
pub fn section(out: &mut Vec<u8>, device: &Device, footers: bool) {
    let version = match &device.state {
        State::Fields(vmsd) => vmsd.version,
        State::Buffer { version, .. } => *version,
    };
    let head =
        SectionHead { id: device.id, idstr: &device.idstr, instance: device.instance, version };
    stream::section_full(out, head);
    match &device.state {
        State::Fields(vmsd) => body(out, vmsd),
        State::Buffer { bytes, .. } => out.extend_from_slice(bytes),
    }
    if footers {
        stream::footer(out, device.id);
    }
}

/// The description of `devices` in stream order; `None` where the form has none.
#[must_use]
pub fn description(
    form: VmdescForm,
    machine: &str,
    page_bytes: u32,
    devices: &[Device],
) -> Option<String> {
    let mut out = String::from("{");
    match form {
        VmdescForm::Absent => return None,
        VmdescForm::Plain => {}
        VmdescForm::WithConfiguration => {
            let configuration = Vmsd {
                name: "configuration".to_owned(),
                version: 1,
                fields: vec![
                    Field::plain("len", "uint32", vec![0; 4]),
                    Field::plain("name", "buffer", vec![0; machine.len()]),
                ],
                subsections: Vec::new(),
            };
            out.push_str("\"configuration\": {");
            describe(&mut out, &configuration);
            out.push_str("}, ");
        }
    }
    push(&mut out, format_args!("\"page_size\": {page_bytes}, \"devices\": ["));
    for (index, device) in devices.iter().enumerate() {
        out.push_str(if index == 0 { "{" } else { ", {" });
        let (idstr, instance) = (Text(&device.idstr), device.instance);
        push(&mut out, format_args!("\"name\": {idstr}, \"instance_id\": {instance}, "));
        match &device.state {
            State::Fields(vmsd) => describe(&mut out, vmsd),
            State::Buffer { bytes, .. } => {
                let size = bytes.len();
                push(
                    &mut out,
                    format_args!(
                        "\"size\": {size}, \"fields\": [{{\"name\": \"data\", \"size\": {size}, \
                         \"type\": \"buffer\"}}]"
                    ),
                );
            }
        }
        out.push('}');
    }
    out.push_str("]}");
    Some(out)
}

fn body(out: &mut Vec<u8>, vmsd: &Vmsd) {
    for field in &vmsd.fields {
        match &field.value {
            Value::Plain { bytes, .. } | Value::Array { bytes, .. } => out.extend_from_slice(bytes),
            Value::Struct(inner) => body(out, inner),
        }
    }
    for subsection in &vmsd.subsections {
        out.byte(SUBSECTION);
        out.counted(&subsection.name);
        out.be32(subsection.version);
        body(out, subsection);
    }
}

fn describe(out: &mut String, vmsd: &Vmsd) {
    let (name, version) = (Text(&vmsd.name), vmsd.version);
    push(out, format_args!("\"vmsd_name\": {name}, \"version\": {version}, \"fields\": ["));
    for (index, field) in vmsd.fields.iter().enumerate() {
        out.push_str(if index == 0 { "{" } else { ", {" });
        describe_field(out, field);
        out.push('}');
    }
    out.push(']');
    if !vmsd.subsections.is_empty() {
        out.push_str(", \"subsections\": [");
        for (index, subsection) in vmsd.subsections.iter().enumerate() {
            out.push_str(if index == 0 { "{" } else { ", {" });
            describe(out, subsection);
            out.push('}');
        }
        out.push(']');
    }
}

fn describe_field(out: &mut String, field: &Field) {
    push(out, format_args!("\"name\": {}, ", Text(&field.name)));
    if let Some(index) = field.index {
        push(out, format_args!("\"index\": {index}, "));
    }
    match &field.value {
        Value::Plain { kind, bytes } => {
            push(out, format_args!("\"type\": \"{kind}\", \"size\": {}", bytes.len()));
        }
        Value::Array { kind, bytes, len } => {
            let size = bytes.len() / *len as usize;
            push(out, format_args!("\"array_len\": {len}, \"type\": \"{kind}\", \"size\": {size}"));
        }
        Value::Struct(inner) => {
            out.push_str("\"type\": \"struct\", \"struct\": {");
            describe(out, inner);
            let mut bytes = Vec::new();
            body(&mut bytes, inner);
            push(out, format_args!("}}, \"size\": {}", bytes.len()));
        }
    }
}

/// A JSON string; names here hold neither quotes nor control characters, backslashes are escaped.
struct Text<'a>(&'a str);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        f.write_char('"')
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes all text");
}

const SUBSECTION: u8 = 0x05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hex;

    #[test]
    fn globalstate_is_the_golden_section() {
        let mut state = b"prelaunch".to_vec();
        state.resize(100, 0);
        state[32] = 1;
        let device = Device {
            id: 0x27,
            idstr: "globalstate".to_owned(),
            instance: 0,
            state: State::Fields(Vmsd {
                name: "globalstate".to_owned(),
                version: 1,
                fields: vec![
                    Field::plain("size", "uint32", vec![0, 0, 0, 10]),
                    Field::plain("runstate", "buffer", state),
                ],
                subsections: Vec::new(),
            }),
        };
        let mut out = Vec::new();
        section(&mut out, &device, true);
        let mut golden = hex("04 00000027 0b 676c6f62616c7374617465 00000000 00000001 0000000a
            7072656c61756e6368");
        golden.resize(golden.len() + 23, 0);
        golden.push(1);
        golden.resize(golden.len() + 67, 0);
        golden.extend_from_slice(&hex("7e 00000027"));
        assert_eq!(out, golden);
    }

    #[test]
    fn the_description_begins_as_observed() {
        let new = description(VmdescForm::WithConfiguration, "pc-q35-10.0", 4096, &[]);
        assert!(new.expect("there").starts_with("{\"configuration\": {\"vmsd_name\": "));
        let old = description(VmdescForm::Plain, "pc-q35-7.2", 4096, &[]);
        assert_eq!(old.as_deref(), Some("{\"page_size\": 4096, \"devices\": []}"));
        assert_eq!(description(VmdescForm::Absent, "pc", 4096, &[]), None);
    }
}
