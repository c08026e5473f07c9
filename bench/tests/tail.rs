//! The description of the device state must lead through its bytes exactly, from the first section
//! to the last footer, by a walk that knows nothing of the devices.

mod naive;

use landfall_bench::{
    Plan, SourceConfig, Version,
    form::{EarlyForm, VmdescForm},
};
use naive::{Bytes, Wire};
use serde_json::Value;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn number(value: &Value, key: &str) -> usize {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} in {value}")) as usize
}

/// Passes over one description's fields and subsections.
fn walk_state(b: &mut Bytes<'_>, state: &Value) {
    for field in state["fields"].as_array().expect("fields") {
        let count = field.get("array_len").map_or(1, |len| len.as_u64().expect("a number"));
        let before = b.0.len();
        if let Some(inner) = field.get("struct") {
            walk_state(b, inner);
            assert_eq!(before - b.0.len(), number(field, "size"), "{field}");
        } else {
            b.take(number(field, "size") * count as usize);
        }
    }
    for subsection in state.get("subsections").and_then(Value::as_array).into_iter().flatten() {
        assert_eq!(b.byte(), 5);
        assert_eq!(b.counted(), text(subsection, "vmsd_name"));
        assert_eq!(b.be(4) as usize, number(subsection, "version"));
        walk_state(b, subsection);
    }
}

/// Passes over one section.
fn walk_section(b: &mut Bytes<'_>, device: &Value, footers: bool) {
    assert_eq!(b.byte(), 4, "SECTION_FULL for {device}");
    let id = b.be(4);
    assert_eq!(b.counted(), text(device, "name"));
    assert_eq!(b.be(4) as usize, number(device, "instance_id"));
    let version = b.be(4) as usize;
    if device.get("vmsd_name").is_some() {
        assert_eq!(version, number(device, "version"));
    }
    walk_state(b, device);
    if footers {
        assert_eq!((b.byte(), b.be(4)), (0x7e, id));
    }
}

fn config(seed: u64) -> SourceConfig {
    let mut config = SourceConfig::new(seed, 1 << 20, 0);
    config.blocks.truncate(1);
    config.devices.forged_tails = 6;
    config
}

#[test]
fn the_description_leads_through_the_tail_to_its_last_byte() {
    for seed in 1..40 {
        for (binary, machine) in
            [((7, 2), "2.3"), ((7, 2), "7.2"), ((10, 0), "10.0"), ((11, 1), "11.1")]
        {
            let mut config = config(seed);
            config.early_sections = (seed % 3) as u32;
            let version = Version::new(binary.0, binary.1);
            config.speak_as(version, &format!("pc-q35-{machine}")).expect("a version");
            let (early, footers) = (config.early_sections as usize, config.form.footers);
            let plan = Plan::new(config).expect("possible");
            let json: Value = serde_json::from_str(plan.vmdesc().expect("there")).expect("JSON");
            let devices = json["devices"].as_array().expect("devices");
            let tail = plan.device_state();
            let mut b = Bytes(&tail);
            for device in &devices[early..] {
                walk_section(&mut b, device, footers);
            }
            assert!(b.0.is_empty(), "seed {seed}, {machine}: {} bytes left", b.0.len());
        }
    }
}

#[test]
fn early_sections_are_walked_by_the_first_entries() {
    for early in [EarlyForm::BeforeRam, EarlyForm::AfterRam] {
        let mut config = config(1);
        (config.early_sections, config.form.early) = (2, early);
        let plan = Plan::new(config).expect("possible");
        let json: Value = serde_json::from_str(plan.vmdesc().expect("there")).expect("JSON");
        let main = Wire::of(&plan).main;
        let name = text(&json["devices"][0], "name").as_bytes();
        let at = main.windows(name.len()).position(|window| window == name).expect("on main") - 6;
        let mut b = Bytes(&main[at..]);
        walk_section(&mut b, &json["devices"][0], true);
        walk_section(&mut b, &json["devices"][1], true);
        let ram = main.windows(9).position(|w| w[0] == 1 && &w[5..] == b"\x03ram").expect("START");
        assert_eq!(at < ram, early == EarlyForm::BeforeRam);
    }
}

#[test]
fn the_description_names_what_the_version_names() {
    let keys = |form| {
        let mut config = config(2);
        config.form.vmdesc = form;
        let plan = Plan::new(config).expect("possible");
        let json: Value = serde_json::from_str(plan.vmdesc()?).expect("JSON");
        let keys: Vec<String> = json.as_object().expect("an object").keys().cloned().collect();
        Some(keys.join(" "))
    };
    assert_eq!(keys(VmdescForm::Absent), None);
    assert_eq!(keys(VmdescForm::Plain).as_deref(), Some("page_size devices"));
    let new = keys(VmdescForm::WithConfiguration);
    assert_eq!(new.as_deref(), Some("configuration page_size devices"));
}

#[test]
fn forged_tails_stand_inside_the_tail() {
    let tail = Plan::new(config(3)).expect("possible").device_state();
    let forged = |w: &[u8]| w[0] == 0x7e && w[5] == 0 && w[6] == 6 && &w[11..] == b"{\"";
    assert_eq!(tail.windows(13).filter(|window| forged(window)).count(), 6);
}
