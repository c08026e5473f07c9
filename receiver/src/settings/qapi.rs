//! Reading typed members out of QMP arguments, with the texts QEMU's visitor
//! gives (`qapi/qobject-input-visitor.c`). A path names the member from the
//! arguments down, as in `channels[0].addr.port`.

use serde_json::{Map, Value};

type Members = Map<String, Value>;

/// The member `name` of the object at `path`.
///
/// # Errors
/// `Parameter 'path.name' is missing`.
pub(crate) fn member<'a>(object: &'a Members, path: &str, name: &str) -> Result<&'a Value, String> {
    object.get(name).ok_or_else(|| format!("Parameter '{}' is missing", join(path, name)))
}

/// Refuses members of the object at `path` that are not `known`.
///
/// # Errors
/// `Parameter 'path.x' is unexpected`.
pub(crate) fn only(object: &Members, path: &str, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("Parameter '{}' is unexpected", join(path, key))),
        None => Ok(()),
    }
}

/// `path.name`, or `name` at the top.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// # Errors
/// If it is not a list.
pub(crate) fn list<'a>(value: &'a Value, path: &str) -> Result<&'a Vec<Value>, String> {
    value.as_array().ok_or_else(|| wrong(path, "array"))
}

/// # Errors
/// If it is not an object.
pub(crate) fn object<'a>(value: &'a Value, path: &str) -> Result<&'a Members, String> {
    value.as_object().ok_or_else(|| wrong(path, "object"))
}

/// # Errors
/// If it is not a string.
pub(crate) fn string<'a>(value: &'a Value, path: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| wrong(path, "string"))
}

/// # Errors
/// If it is neither a string nor null; null reads as the empty string.
pub(crate) fn string_or_null<'a>(value: &'a Value, path: &str) -> Result<&'a str, String> {
    match value {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        _ => Err(wrong(path, "StrOrNull")),
    }
}

/// # Errors
/// If it is not true or false.
pub(crate) fn boolean(value: &Value, path: &str) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| wrong(path, "boolean"))
}

/// A 64-bit number. As in QEMU a negative integer is taken as its two's
/// complement: -1 is the largest number.
///
/// # Errors
/// If it is not an integer of 64 bits.
pub(crate) fn uint64(value: &Value, path: &str) -> Result<u64, String> {
    value
        .as_u64()
        .or_else(|| value.as_i64().map(i64::cast_unsigned))
        .ok_or_else(|| format!("Parameter '{path}' expects uint64"))
}

/// A number up to `max`, of the C type `kind`. The message about a number too
/// large names the member alone, the one about another type its whole path.
///
/// # Errors
/// As [`uint64`], and if it is larger than `max`.
pub(crate) fn uint(value: &Value, path: &str, max: u64, kind: &str) -> Result<u64, String> {
    let found = uint64(value, path)?;
    if found > max {
        return Err(format!("Parameter '{}' expects {kind}", last(path)));
    }
    Ok(found)
}

/// One of an enumeration's names: its place in `names`.
///
/// # Errors
/// If it is not a string or none of them.
pub(crate) fn choice(value: &Value, path: &str, names: &[&str]) -> Result<usize, String> {
    let text = string(value, path)?;
    names
        .iter()
        .position(|name| *name == text)
        .ok_or_else(|| format!("Parameter '{}' does not accept value '{text}'", last(path)))
}

/// Whether `id` can name an object (`util/id.c`, `id_wellformed`).
pub(crate) fn is_identifier(id: &str) -> bool {
    id.starts_with(|first: char| first.is_ascii_alphabetic())
        && id.chars().all(|one| one.is_ascii_alphanumeric() || "-._".contains(one))
}

fn wrong(path: &str, expected: &str) -> String {
    format!("Invalid parameter type for '{path}', expected: {expected}")
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
