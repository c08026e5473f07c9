//! A schema of `docs/schema`, and what a program says held against it.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::Value;

/// A schema, and which of its members have been seen.
pub(crate) struct Held {
    schema: Value,
    validator: Validator,
    seen: BTreeSet<String>,
}

impl Held {
    /// The schema with this text.
    pub(crate) fn new(text: &str) -> Self {
        let schema = serde_json::from_str(text).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        Self { schema, validator, seen: BTreeSet::new() }
    }

    pub(crate) fn fits(&self, said: &Value) -> bool {
        self.validator.is_valid(said)
    }

    /// Checks that `said` fits.
    pub(crate) fn hold(&mut self, said: &Value, label: &str) {
        let errors = self.validator.iter_errors(said);
        let errors: Vec<String> =
            errors.map(|error| format!("{}: {error}", error.instance_path)).collect();
        assert!(errors.is_empty(), "{label}: {errors:#?}");
        collect_members(said, &mut self.seen);
    }

    /// Members that were in nothing that was held against it, less those that `may_lack`.
    pub(crate) fn unseen(&self, may_lack: &[&str]) -> Vec<String> {
        let mut known = BTreeSet::new();
        collect_properties(&self.schema, &mut known);
        let unseen = known.difference(&self.seen);
        unseen.filter(|name| !may_lack.contains(&name.as_str())).cloned().collect()
    }

    /// Checks that it is that of `name` in this version, that every member is described and named
    /// in kebab-case, and that no object takes others.
    pub(crate) fn is_strict(&self, name: &str, version: u32) {
        let its = &self.schema["properties"]["schema"]["properties"];
        assert_eq!(
            (&its["name"]["const"], &its["version"]["const"]),
            (&name.into(), &version.into())
        );
        fn walk(schema: &Value, at: &str) {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
                schema.get("items").into_iter().for_each(|items| walk(items, at));
                return;
            };
            assert_eq!(schema["additionalProperties"], false, "{at}");
            for (name, member) in properties {
                let at = format!("{at}.{name}");
                let described = member["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(described, "{at}");
                walk(member, &at);
            }
        }
        walk(&self.schema, "");
        for (name, shared) in self.schema["$defs"].as_object().into_iter().flatten() {
            walk(shared, name);
        }
        let mut names = BTreeSet::new();
        collect_properties(&self.schema, &mut names);
        // Those with dots are names of the kernel's.
        for name in names.iter().filter(|name| !name.contains('.')) {
            let is_kebab = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            assert!(name.bytes().all(is_kebab), "{name}");
        }
    }
}

/// Every member's name anywhere in `said`.
fn collect_members(said: &Value, seen: &mut BTreeSet<String>) {
    match said {
        Value::Object(members) => {
            for (name, member) in members {
                seen.insert(name.clone());
                collect_members(member, seen);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_members(item, seen)),
        _ => {}
    }
}

/// Every name that the schema allows.
fn collect_properties(schema: &Value, known: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            let names = members.get("properties").and_then(Value::as_object);
            known.extend(names.into_iter().flatten().map(|(name, _)| name.clone()));
            members.values().for_each(|member| collect_properties(member, known));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_properties(item, known)),
        _ => {}
    }
}
