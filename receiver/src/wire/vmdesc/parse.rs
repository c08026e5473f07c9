//! The JSON text, reduced to the sizes that a walk needs.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::DescriptionError;

/// A parsed description: what is in the state, in the stream's order.
///
/// Only sizes and names are kept; what nested structures look like inside is
/// not needed, since a field's size counts all of it. So a description takes
/// no more memory than a small multiple of its text.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Description {
    /// The target's page size in bytes.
    #[serde(default)]
    pub page_size: Option<u64>,
    /// All sections with a description, early ones included.
    pub devices: Vec<Device>,
}

/// One section.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Device {
    /// The section's idstr.
    pub name: Box<str>,
    /// The section's instance id.
    pub instance_id: u32,
    /// Bytes of a section without description (old style), where `fields`
    /// says the same.
    #[serde(default)]
    pub size: Option<u64>,
    /// Bytes of its fields.
    #[serde(default)]
    pub fields: Option<FieldBytes>,
    /// What follows its fields.
    #[serde(default)]
    pub subsections: Vec<Subsection>,
}

impl Device {
    /// Bytes before the subsections.
    pub fn field_bytes(&self) -> u64 {
        self.fields.map(|fields| fields.0).or(self.size).unwrap_or(0)
    }
}

/// A part of a device's state that is there only sometimes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Subsection {
    /// Its name on the wire.
    pub vmsd_name: Box<str>,
    /// Its version on the wire.
    pub version: u32,
    /// Bytes of its fields.
    #[serde(default)]
    pub fields: FieldBytes,
    /// What follows its fields.
    #[serde(default)]
    pub subsections: Vec<Subsection>,
}

/// The sum of a list of fields, in bytes: each field's size times its number
/// of elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldBytes(pub u64);

impl Description {
    /// Parses the text. Numbers must not be negative, and nesting is bounded
    /// (by `serde_json`, to 128 levels).
    pub fn parse(text: &[u8]) -> Result<Self, DescriptionError> {
        serde_json::from_slice(text)
            .map_err(|error| DescriptionError::Json { line: error.line(), column: error.column() })
    }
}

#[derive(serde::Deserialize)]
struct Field {
    size: u64,
    #[serde(default)]
    array_len: Option<u64>,
}

impl<'de> Deserialize<'de> for FieldBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Sum)
    }
}

/// Adds up fields as they are read, so that none is kept.
struct Sum;

impl<'de> Visitor<'de> for Sum {
    type Value = FieldBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of fields")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<FieldBytes, A::Error> {
        let mut sum = 0u64;
        while let Some(field) = fields.next_element::<Field>()? {
            sum = field
                .size
                .checked_mul(field.array_len.unwrap_or(1))
                .and_then(|bytes| sum.checked_add(bytes))
                .ok_or_else(|| de::Error::custom("the sizes overflow"))?;
        }
        Ok(FieldBytes(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_add_up_with_their_elements_and_nested_ones_are_not_counted_twice() {
        let text = br#"{"configuration": {"x": [1, -2, {"y": null}]}, "page_size": 4096,
            "devices": [{"name": "timer", "instance_id": 0, "vmsd_name": "timer", "version": 2,
            "fields": [{"name": "a", "type": "int64", "size": 8}, {"name": "b", "array_len": 3,
            "type": "struct", "struct": {"fields": [{"name": "c", "size": 5}]}, "size": 5}],
            "subsections": [{"vmsd_name": "timer/x", "version": 1, "fields": [{"size": 2}]}]},
            {"name": "slirp", "instance_id": 1, "size": 9,
            "fields": [{"name": "data", "size": 9, "type": "buffer"}]}]}"#;
        let description = Description::parse(text).unwrap();
        assert_eq!(description.page_size, Some(4096));
        let [timer, slirp] = &description.devices[..] else { panic!("two devices") };
        assert_eq!((&*timer.name, timer.field_bytes()), ("timer", 8 + 3 * 5));
        assert_eq!(timer.subsections[0].fields, FieldBytes(2));
        assert_eq!((slirp.instance_id, slirp.field_bytes()), (1, 9));
    }

    #[test]
    fn negative_fractional_and_overflowing_sizes_are_refused() {
        for size in ["-1", "1.5", "18446744073709551616", "\"8\"", "null"] {
            let text = format!(
                r#"{{"devices": [{{"name": "a", "instance_id": 0, "fields": [{{"size": {size}}}]}}]}}"#
            );
            assert!(Description::parse(text.as_bytes()).is_err(), "{size}");
        }
        let text = br#"{"devices": [{"name": "a", "instance_id": 0, "fields":
            [{"size": 9223372036854775808, "array_len": 2}]}]}"#;
        assert!(Description::parse(text).is_err());
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        for opening in [r#"{"devices":"#, r#"{"configuration":"#] {
            let mut text = opening.as_bytes().to_vec();
            text.extend(std::iter::repeat_n(b'[', 1 << 20));
            assert!(Description::parse(&text).is_err());
        }
        let mut text = br#"{"devices":[{"name":"a","instance_id":0,"subsections":"#.to_vec();
        for _ in 0..100_000 {
            text.extend(br#"[{"vmsd_name":"s","version":1,"subsections":"#);
        }
        assert!(Description::parse(&text).is_err());
    }
}
