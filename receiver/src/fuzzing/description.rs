//! The description of the device state, and the walk along it.

use serde_json::Value;

use crate::wire::Footers;
use crate::wire::vmdesc::{
    Description, Device, DeviceSection, FieldBytes, Subsection, Surroundings,
};

/// Walks the first part of `bytes` with the second as its description; they
/// are divided by the first `{`.
///
/// What the description says must be what a generic reader of JSON finds in
/// it, and the sections must be those that a plain walk finds, or none if that
/// finds none. One that searches finds the same, or something that leads through the state as well.
///
/// # Panics
///
/// Where they differ.
pub fn description(bytes: &[u8]) {
    let brace = bytes.iter().position(|&byte| byte == b'{').unwrap_or(bytes.len());
    let (state, text) = bytes.split_at(brace);
    let Ok(description) = Description::parse(text) else { return };
    // Numbers that are passed over unread may be too large for a generic reader.
    if let Ok(json) = serde_json::from_slice::<Value>(text) {
        assert_eq!(Some(&description), read(&json).as_ref());
    }
    for footers in [Footers::On, Footers::Off, Footers::Unknown] {
        let around = Surroundings { footers, early: &[], is_taken: &|_| false };
        let sections = description.walk(state, &around, &mut 0).map(|walked| walked.sections).ok();
        assert_eq!(sections, walk(&description, state, footers), "footers {footers:?}");
        let mut search_bytes = usize::MAX;
        let searched = description.walk(state, &around, &mut search_bytes).ok();
        if sections.is_some() {
            assert_eq!(search_bytes, usize::MAX, "sizes were enough");
        }
        let Some(searched) = searched else {
            assert!(sections.is_none(), "footers {footers:?}");
            continue;
        };
        match sections {
            Some(sections) => assert_eq!((searched.sections, searched.misfit), (sections, None)),
            None => {
                assert!(searched.misfit.is_some(), "by its sizes");
                let led = footers_lead_through(&searched.sections, state);
                assert_eq!(led, Some(state.len()), "{searched:?}");
            }
        }
    }
}

/// State with its description: old style and new, subsections, no footers.
pub fn description_seeds() -> Vec<Vec<u8>> {
    [
        (
            &b"\x04\0\0\0\x01\x01a\0\0\0\0\0\0\0\x01xyz\x7e\0\0\0\x01"[..],
            &br#"{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": 3}]}]}"#[..],
        ),
        (
            b"\x04\0\0\0\x01\x01a\0\0\0\0\0\0\0\x01xy\x05\x03a/b\0\0\0\x02pqpq\x04\0\0\0\x02\x01a\0\0\0\x01\0\0\0\x01z",
            br#"{"page_size":4096,"devices":[{"name":"a","instance_id":0,"vmsd_name":"a","version":1,
            "fields":[{"name":"f","size":1,"array_len":2}],"subsections":[{"vmsd_name":"a/b","version":2,
            "fields":[{"size":2,"struct":{"fields":[]}},{"size":2,"index":1}],"subsections":[]}]},
            {"name":"a","instance_id":1,"size":1}]}"#,
        ),
        (
            b"\x04\0\0\0\x27\x0bglobalstate\0\0\0\0\0\0\0\x01\0\0\0\x0aprelaunch\0\x7e\0\0\0\x27",
            br#"{"configuration":{},"page_size":4096,"devices":[{"name":"globalstate","instance_id":0,
            "vmsd_name":"globalstate","version":1,"fields":[{"size":4},{"size":10}]}]}"#,
        ),
    ]
    .map(|(state, text)| [state, text].concat())
    .into()
}

/// Where a chain of sections ends, each with its footer and the next one right behind it.
fn footers_lead_through(sections: &[DeviceSection], state: &[u8]) -> Option<usize> {
    sections.iter().try_fold(0, |at, section| {
        let mut footer = section.body_offset + section.body_bytes;
        expect(state, &mut footer, &[0x7e])?;
        expect(state, &mut footer, &section.section_id.to_be_bytes())?;
        (section.offset == at && footer == at + section.bytes).then_some(footer)
    })
}

/// The same from generic JSON; `None` where that has another shape.
fn read(json: &Value) -> Option<Description> {
    let devices = json.get("devices")?.as_array()?.iter().map(|device| {
        Some(Device {
            name: device.get("name")?.as_str()?.into(),
            instance_id: device.get("instance_id")?.as_u64()?.try_into().ok()?,
            size: device.get("size").and_then(Value::as_u64),
            fields: device.get("fields").filter(|fields| !fields.is_null()).and_then(sum),
            subsections: subsections(device)?,
        })
    });
    let page_size = json.get("page_size").and_then(Value::as_u64);
    Some(Description { page_size, devices: devices.collect::<Option<_>>()? })
}

fn subsections(of: &Value) -> Option<Vec<Subsection>> {
    let Some(list) = of.get("subsections") else { return Some(Vec::new()) };
    let subsections = list.as_array()?.iter().map(|subsection| {
        Some(Subsection {
            vmsd_name: subsection.get("vmsd_name")?.as_str()?.into(),
            version: subsection.get("version")?.as_u64()?.try_into().ok()?,
            fields: subsection.get("fields").map_or(Some(FieldBytes(0)), sum)?,
            subsections: subsections(subsection)?,
        })
    });
    subsections.collect()
}

fn sum(fields: &Value) -> Option<FieldBytes> {
    let mut total = 0u64;
    for field in fields.as_array()? {
        let count = field.get("array_len").and_then(Value::as_u64).unwrap_or(1);
        let bytes = field.get("size")?.as_u64()?.checked_mul(count)?;
        total = total.checked_add(bytes)?;
    }
    Some(FieldBytes(total))
}

/// The same walk by positions alone; `None` if the description does not fit.
fn walk(
    description: &Description,
    state: &[u8],
    mut footers: Footers,
) -> Option<Vec<DeviceSection>> {
    let mut sections: Vec<DeviceSection> = Vec::new();
    let mut at = 0;
    for device in &description.devices {
        let offset = at;
        expect(state, &mut at, &[4])?;
        let section_id = be32(state, &mut at)?;
        expect(state, &mut at, &cstr(&device.name)?)?;
        expect(state, &mut at, &device.instance_id.to_be_bytes())?;
        let version_id = be32(state, &mut at)?;
        if sections.iter().any(|section| section.section_id == section_id) {
            return None;
        }
        let body_offset = at;
        let fields = device.fields.map_or(device.size.unwrap_or(0), |fields| fields.0);
        skip(state, &mut at, fields)?;
        for subsection in &device.subsections {
            inside(subsection, state, &mut at)?;
        }
        let body_bytes = at - body_offset;
        if footers == Footers::Unknown {
            let footer = state.get(at) == Some(&0x7e);
            footers = if footer { Footers::On } else { Footers::Off };
        }
        if footers == Footers::On {
            expect(state, &mut at, &[0x7e])?;
            expect(state, &mut at, &section_id.to_be_bytes())?;
        }
        sections.push(DeviceSection {
            idstr: device.name.clone(),
            instance_id: device.instance_id,
            section_id,
            version_id,
            offset,
            bytes: at - offset,
            body_offset,
            body_bytes,
        });
    }
    (at == state.len()).then_some(sections)
}

fn inside(subsection: &Subsection, state: &[u8], at: &mut usize) -> Option<()> {
    expect(state, at, &[5])?;
    expect(state, at, &cstr(&subsection.vmsd_name)?)?;
    expect(state, at, &subsection.version.to_be_bytes())?;
    skip(state, at, subsection.fields.0)?;
    subsection.subsections.iter().try_for_each(|inner| inside(inner, state, at))
}

/// A name as it stands on the wire, if it can.
fn cstr(name: &str) -> Option<Vec<u8>> {
    let printable = !name.is_empty() && name.bytes().all(|byte| (32..127).contains(&byte));
    let length = u8::try_from(name.len()).ok().filter(|_| printable)?;
    Some([&[length], name.as_bytes()].concat())
}

fn expect(state: &[u8], at: &mut usize, bytes: &[u8]) -> Option<()> {
    let found = state.get(*at..)?.starts_with(bytes);
    *at += bytes.len();
    found.then_some(())
}

fn be32(state: &[u8], at: &mut usize) -> Option<u32> {
    let bytes = state.get(*at..)?.first_chunk()?;
    *at += 4;
    Some(u32::from_be_bytes(*bytes))
}

fn skip(state: &[u8], at: &mut usize, bytes: u64) -> Option<()> {
    let bytes = usize::try_from(bytes).ok()?;
    *at = at.checked_add(bytes).filter(|&end| end <= state.len())?;
    Some(())
}
