//! Capabilities and parameters: a real QEMU and landfall are asked the same, and must
//! answer the same, word for word, whatever is switched on and whatever a value is.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::pair::Pair;
use crate::{programs, say, seed, turn};

#[test]
fn tables_are_qemus_with_nothing_set() {
    for_each_version(|pair| {
        for command in ["query-migrate-capabilities", "query-migrate-parameters"] {
            pair.answers_alike_in_order(command);
        }
    });
}

#[test]
fn every_pair_of_capabilities_is_taken_or_refused_as_by_qemu() {
    for_each_version(|pair| {
        let initial = parameters(pair);
        every_pair_at_once_and_one_after_the_other(pair);
        // What is judged together with them.
        for parameters in [json!({ "multifd-compression": "zlib" }), json!({ "tls-creds": "x" })] {
            pair.answers_alike("migrate-set-parameters", parameters, &[]);
            every_pair_at_once(pair);
            pair.answers_alike("migrate-set-parameters", initial.clone().into(), &[]);
        }
        // Some may be set no more then.
        pair.listen();
        every_pair_at_once_and_one_after_the_other(pair);
    });
}

#[test]
fn every_parameter_is_taken_or_refused_as_by_qemu_at_its_limits_and_past_them() {
    for_each_version(|pair| {
        let initial = parameters(pair);
        let unknown = ["nosuch", "multifd_channels", ""].map(str::to_owned);
        let more = ["block-bitmap-mapping", "compress-level", "x-rdma-chunk-size"];
        for name in initial.keys().cloned().chain(unknown).chain(more.map(str::to_owned)) {
            for value in values() {
                let mut arguments = Map::new();
                arguments.insert(name.clone(), value);
                set_and_look(pair, arguments.into(), &initial);
            }
        }
        for mapping in mappings() {
            set_and_look(pair, json!({ "block-bitmap-mapping": mapping }), &initial);
        }
    });
}

#[test]
fn of_several_values_qemus_first_complaint_is_made() {
    let seed = seed();
    say(&format!("several parameters at once: LANDFALL_SEED={seed}"));
    for_each_version(|pair| {
        let initial = parameters(pair);
        let names: Vec<&String> = initial.keys().collect();
        let values = values();
        let mut random = Rng::with_seed(seed);
        for _ in 0..1000 {
            let mut arguments = Map::new();
            for _ in 0..2 + random.usize(..3) {
                let name: &String = random.choice(&names).unwrap();
                let value = match random.usize(..3) {
                    0 => random.choice(&values).unwrap().clone(),
                    1 => random.choice([json!(0), json!(u64::MAX), json!(5), json!("x")]).unwrap(),
                    _ => initial[name].clone(),
                };
                arguments.insert(name.clone(), value);
            }
            set_and_look(pair, arguments.into(), &initial);
        }
    });
}

#[test]
fn parameters_are_judged_beside_capabilities_as_by_qemu() {
    for_each_version(|pair| {
        let initial = parameters(pair);
        for names in [&["multifd", "zero-copy-send"][..], &["mapped-ram", "multifd"], &["multifd"]]
        {
            for parameters in [
                json!({ "multifd-compression": "zlib" }),
                json!({ "multifd-compression": "zstd", "multifd-channels": 0 }),
                json!({ "tls-creds": "x" }),
                json!({ "tls-creds": "x", "announce-step": 0 }),
                json!({ "tls-creds": "x", "x-vcpu-dirty-limit-period": 0 }),
                json!({ "tls-creds": "" }),
                json!({ "zero-page-detection": "none", "direct-io": true }),
                json!({ "mode": "cpr-reboot" }),
            ] {
                switch(pair, names, true);
                let ask = |pair: &mut Pair, parameters| {
                    pair.answers_alike("migrate-set-parameters", parameters, &[]);
                    pair.answers_alike("query-migrate-parameters", json!({}), &[]);
                };
                ask(pair, parameters);
                // Mapped-ram is judged by what held before: this may be too late.
                ask(pair, json!({ "announce-max": 551 }));
                switch(pair, names, false);
                ask(pair, initial.clone().into());
            }
        }
    });
}

fn for_each_version(asks: impl Fn(&mut Pair)) {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    for version in ["7.2", "10.0"] {
        asks(&mut Pair::start(&programs, version));
    }
}

fn every_pair_at_once_and_one_after_the_other(pair: &mut Pair) {
    every_pair_at_once(pair);
    let names = capabilities(pair);
    for first in &names {
        for second in names.iter().filter(|&second| second != first) {
            if switch(pair, &[first], true) {
                switch(pair, &[second], true);
            }
            switch_off(pair, &names);
        }
    }
}

fn every_pair_at_once(pair: &mut Pair) {
    let names = capabilities(pair);
    for (index, first) in names.iter().enumerate() {
        for second in &names[index..] {
            if switch(pair, &[first, second], true) {
                pair.answers_alike("query-migrate-capabilities", json!({}), &[]);
            }
            switch_off(pair, &names);
        }
    }
}

/// Whether both stand alike afterwards.
fn switch(pair: &mut Pair, names: &[&str], on: bool) -> bool {
    let list: Vec<Value> =
        names.iter().map(|name| json!({ "capability": name, "state": on })).collect();
    let arguments = json!({ "capabilities": list });
    pair.answers_alike_but_for_lacks("migrate-set-capabilities", arguments).is_some()
}

fn switch_off(pair: &mut Pair, names: &[String]) {
    let list: Vec<Value> =
        names.iter().map(|name| json!({ "capability": name, "state": false })).collect();
    let arguments = json!({ "capabilities": list });
    let answer = pair.answers_alike("migrate-set-capabilities", arguments, &[]);
    assert_eq!(answer, json!({ "return": {} }));
}

/// Sets parameters, looks at what holds then, and sets everything back.
fn set_and_look(pair: &mut Pair, arguments: Value, initial: &Map<String, Value>) {
    let answer = pair.answers_alike_but_for_lacks("migrate-set-parameters", arguments);
    if answer.as_ref().is_some_and(|answer| answer.get("error").is_some()) {
        return;
    }
    if answer.is_some() {
        pair.answers_alike("query-migrate-parameters", json!({}), &[]);
    }
    let mut back = initial.clone();
    back.insert("block-bitmap-mapping".to_owned(), json!([]));
    let answer = pair.answers_alike("migrate-set-parameters", back.into(), &[]);
    assert_eq!(answer, json!({ "return": {} }));
}

fn capabilities(pair: &mut Pair) -> Vec<String> {
    let answer = pair.answers_alike("query-migrate-capabilities", json!({}), &[]);
    let listed = answer["return"].as_array().expect("a list").iter();
    listed.map(|item| item["capability"].as_str().expect("a name").to_owned()).collect()
}

fn parameters(pair: &mut Pair) -> Map<String, Value> {
    let answer = pair.answers_alike("query-migrate-parameters", json!({}), &[]);
    answer["return"].as_object().expect("an object").clone()
}

/// What any parameter is set to: both sides of every limit that one of them has and of
/// every width, every name that one of them takes, and every kind of value.
fn values() -> Vec<Value> {
    let mut values = Vec::new();
    for limit in LIMITS {
        values.extend([limit - 1, *limit, limit + 1].map(Value::from));
    }
    values.extend([json!(u64::MAX), json!(-1), json!(i64::MIN), json!(1.0), json!(1.5)]);
    values.extend([json!(1e30), json!(null), json!(true), json!(false), json!([]), json!({})]);
    values.extend([json!(["x"]), json!([1]), json!([{}])]);
    values.extend(NAMES.map(Value::from));
    values
}

/// Names of nodes and bitmaps, at their limits and past them.
fn mappings() -> Vec<Value> {
    let node = |name: &str, alias: &str, bitmaps: &[(&str, &str)]| {
        let bitmaps: Vec<Value> =
            bitmaps.iter().map(|(name, alias)| json!({ "name": name, "alias": alias })).collect();
        json!({ "node-name": name, "alias": alias, "bitmaps": bitmaps })
    };
    let long = |bytes: usize| "n".repeat(bytes);
    let mut mappings = vec![
        json!([{}]),
        json!([{ "node-name": 1, "alias": 2, "bitmaps": 3 }]),
        json!([{ "node-name": "a", "alias": "b", "bitmaps": [], "x": 1 }]),
        json!([node("a", "b", &[]), node("a", "c", &[])]),
        json!([node("a", "b", &[]), node("c", "b", &[])]),
        json!([node("a", "b", &[("x", "y"), ("x", "z")])]),
        json!([node("a", "b", &[("x", "y"), ("z", "y")])]),
        json!([node("a", "b", &[("x", "y")]), node("c", "d", &[("x", "y")])]),
        json!([node(&long(32), &long(256), &[])]),
        json!([node(&long(32), &format!("1{}", long(255)), &[(&long(1024), &long(256))])]),
        json!([node("a", "b", &[(&long(1024), &long(256))])]),
    ];
    for alias in ["", "1", "_", "b c", "b.-_1", "é"] {
        mappings.push(json!([node("a", alias, &[("x", alias)])]));
    }
    for bytes in [31, 32, 255, 256, 1023, 1024] {
        mappings.push(json!([node(&long(bytes), "b", &[])]));
        mappings.push(json!([node("a", &long(bytes), &[])]));
        mappings.push(json!([node("a", "b", &[(&long(bytes), "y")])]));
        mappings.push(json!([node("a", "b", &[("x", &long(bytes))])]));
    }
    for transform in
        [json!({}), json!({ "persistent": true }), json!({ "persistent": 1 }), json!(1)]
    {
        let bitmap = json!({ "name": "x", "alias": "y", "transform": transform });
        mappings.push(json!([{ "node-name": "a", "alias": "b", "bitmaps": [bitmap] }]));
    }
    mappings
}

/// Every limit of a parameter's range, and of the widths that numbers have.
const LIMITS: &[u64] = &[
    1,
    9,
    20,
    99,
    100,
    255,
    1000,
    4096,
    8192,
    10_000,
    100_000,
    2_000_000,
    1 << 20,
    1 << 30,
    1 << 31,
    1 << 32,
    1 << 62,
    1 << 63,
];

/// Texts, among them all that a parameter with names takes.
const NAMES: [&str; 15] = [
    "",
    "x",
    "1",
    "none",
    "zlib",
    "zstd",
    "qpl",
    "uadk",
    "qatzip",
    "legacy",
    "multifd",
    "normal",
    "cpr-reboot",
    "cpr-transfer",
    "cpr-exec",
];
