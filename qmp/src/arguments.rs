//! Arguments against the table, refused in the words of QEMU's input visitor
//! (`qapi/qobject-input-visitor.c`, `qapi/qapi-visit-core.c`).

use std::fmt;

use serde_json::{Map, Number, Value};

use crate::{ArgumentInfo, ArgumentKind, CommandInfo, QmpError};

/// Checks all arguments of a command; the first mistake in the table's order is the one named, and
/// members that do not belong come last.
pub(crate) fn check(command: &CommandInfo, arguments: &Map<String, Value>) -> Result<(), QmpError> {
    members(command.arguments, command.open, arguments, None)
}

fn members(
    known: &[ArgumentInfo],
    open: bool,
    found: &Map<String, Value>,
    parent: Option<&Path<'_>>,
) -> Result<(), QmpError> {
    for info in known {
        let path = Path { parent, step: Step::Member(info.name) };
        match found.get(info.name) {
            Some(value) => one(info.kind, value, &path)?,
            None if info.required => {
                return Err(QmpError::generic(format!("Parameter '{path}' is missing")));
            }
            None => {}
        }
    }
    let stranger = found.keys().find(|name| !open && !known.iter().any(|info| info.name == *name));
    let Some(name) = stranger else {
        return Ok(());
    };
    let path = Path { parent, step: Step::Member(name) };
    Err(QmpError::generic(format!("Parameter '{path}' is unexpected")))
}

fn one(kind: ArgumentKind, value: &Value, path: &Path<'_>) -> Result<(), QmpError> {
    use ArgumentKind as Kind;
    let expected = match (kind, value) {
        (Kind::Any, _)
        | (Kind::Boolean, Value::Bool(_))
        | (Kind::String, Value::String(_))
        | (Kind::StrOrNull, Value::String(_) | Value::Null)
        | (Kind::Number, Value::Number(_))
        | (Kind::OpenObject, Value::Object(_)) => return Ok(()),
        (Kind::Enum(allowed), Value::String(found)) => return variant(allowed, found, path),
        (Kind::Int, Value::Number(number)) if number.is_i64() => return Ok(()),
        (Kind::Uint64, Value::Number(number)) if is_integer(number) => return Ok(()),
        (Kind::Uint8, Value::Number(number)) if is_integer(number) => {
            return below(number, u8::MAX.into(), "uint8_t", path);
        }
        (Kind::Uint16, Value::Number(number)) if is_integer(number) => {
            return below(number, u16::MAX.into(), "uint16_t", path);
        }
        (Kind::Uint32, Value::Number(number)) if is_integer(number) => {
            return below(number, u32::MAX.into(), "uint32_t", path);
        }
        (Kind::Array(kind), Value::Array(items)) => return elements(*kind, items, path),
        (Kind::Object(known), Value::Object(found)) => {
            return members(known, false, found, Some(path));
        }
        (Kind::Uint8 | Kind::Uint16 | Kind::Uint32 | Kind::Uint64, _) => {
            return Err(QmpError::generic(format!("Parameter '{path}' expects uint64")));
        }
        (Kind::Boolean, _) => "boolean",
        (Kind::String | Kind::Enum(_), _) => "string",
        (Kind::Int, _) => "integer",
        (Kind::Number, _) => "number",
        (Kind::Array(_), _) => "array",
        (Kind::Object(_) | Kind::OpenObject, _) => "object",
        // An alternate is refused without the path that leads to it.
        (Kind::StrOrNull, _) => {
            return Err(QmpError::generic(format!(
                "Invalid parameter type for '{}', expected: StrOrNull",
                path.last()
            )));
        }
    };
    Err(QmpError::generic(format!("Invalid parameter type for '{path}', expected: {expected}")))
}

fn elements(kind: ArgumentKind, items: &[Value], path: &Path<'_>) -> Result<(), QmpError> {
    for (index, item) in items.iter().enumerate() {
        let path = Path { parent: Some(path), step: Step::Element(index) };
        one(kind, item, &path)?;
    }
    Ok(())
}

fn variant(allowed: &[&str], found: &str, path: &Path<'_>) -> Result<(), QmpError> {
    if allowed.contains(&found) {
        return Ok(());
    }
    Err(QmpError::generic(format!("Parameter '{}' does not accept value '{found}'", path.last())))
}

/// `visit_type_uintN`: a negative number is taken modulo 2^64 and so is too large.
fn below(number: &Number, max: u64, name: &str, path: &Path<'_>) -> Result<(), QmpError> {
    if number.as_u64().is_some_and(|number| number <= max) {
        return Ok(());
    }
    Err(QmpError::generic(format!("Parameter '{}' expects {name}", path.last())))
}

fn is_integer(number: &Number) -> bool {
    number.is_i64() || number.is_u64()
}

/// Where in the arguments we are.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Member(&'a str),
    Element(usize),
}

impl Path<'_> {
    /// The name QEMU's core visitor knows: the last one only, and none inside an array.
    fn last(&self) -> &str {
        match self.step {
            Step::Member(name) => name,
            Step::Element(_) => "null",
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match (&self.step, self.parent) {
            (Step::Member(name), None) => f.write_str(name),
            (Step::Member(name), Some(_)) => write!(f, ".{name}"),
            (Step::Element(index), _) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MEMBER: &[ArgumentInfo] = &[
        ArgumentInfo::required("capability", ArgumentKind::Enum(&["multifd"])),
        ArgumentInfo::required("state", ArgumentKind::Boolean),
    ];

    const COMMAND: CommandInfo = CommandInfo::new(
        "c",
        &[
            ArgumentInfo::required("s", ArgumentKind::String),
            ArgumentInfo::optional("u8", ArgumentKind::Uint8),
            ArgumentInfo::optional("u16", ArgumentKind::Uint16),
            ArgumentInfo::optional("u32", ArgumentKind::Uint32),
            ArgumentInfo::optional("u64", ArgumentKind::Uint64),
            ArgumentInfo::optional("i", ArgumentKind::Int),
            ArgumentInfo::optional("n", ArgumentKind::Number),
            ArgumentInfo::optional("e", ArgumentKind::Enum(&["none", "zlib"])),
            ArgumentInfo::optional("sn", ArgumentKind::StrOrNull),
            ArgumentInfo::optional("caps", ArgumentKind::Array(&ArgumentKind::Object(MEMBER))),
            ArgumentInfo::optional("u8s", ArgumentKind::Array(&ArgumentKind::Uint8)),
            ArgumentInfo::optional("o", ArgumentKind::OpenObject),
            ArgumentInfo::optional("x", ArgumentKind::Any),
        ],
    );

    fn verdict(command: &CommandInfo, arguments: Value) -> String {
        let Value::Object(arguments) = arguments else {
            panic!("not an object");
        };
        check(command, &arguments).map_or_else(|error| error.desc, |()| "ok".into())
    }

    fn with(name: &str, value: Value) -> String {
        verdict(&COMMAND, json!({"s": "", name: value}))
    }

    #[test]
    fn what_fits_the_table_passes() {
        for (name, value) in [
            ("u8", json!(255)),
            ("u16", json!(65535)),
            ("u32", json!(4_294_967_295_u32)),
            ("u64", json!(u64::MAX)),
            ("u64", json!(-1)),
            ("i", json!(-1)),
            ("n", json!(1.5)),
            ("n", json!(1)),
            ("e", json!("zlib")),
            ("sn", json!(null)),
            ("sn", json!("")),
            ("caps", json!([])),
            ("caps", json!([{"state": true, "capability": "multifd"}])),
            ("o", json!({"anything": 1})),
            ("x", json!([null])),
        ] {
            assert_eq!(with(name, value.clone()), "ok", "{name}: {value}");
        }
    }

    /// The texts are QEMU 7.2.22's.
    #[test]
    fn what_does_not_fit_is_named_as_qemu_names_it() {
        for (name, value, expected) in [
            ("u8", json!(256), "Parameter 'u8' expects uint8_t"),
            ("u8", json!(-1), "Parameter 'u8' expects uint8_t"),
            ("u8", json!(1.0), "Parameter 'u8' expects uint64"),
            ("u8", json!("1"), "Parameter 'u8' expects uint64"),
            ("u16", json!(65536), "Parameter 'u16' expects uint16_t"),
            ("u32", json!(1_u64 << 32), "Parameter 'u32' expects uint32_t"),
            ("u64", json!(true), "Parameter 'u64' expects uint64"),
            ("i", json!(u64::MAX), "Invalid parameter type for 'i', expected: integer"),
            ("n", json!("1"), "Invalid parameter type for 'n', expected: number"),
            ("e", json!("lz4"), "Parameter 'e' does not accept value 'lz4'"),
            ("e", json!(1), "Invalid parameter type for 'e', expected: string"),
            ("sn", json!(1), "Invalid parameter type for 'sn', expected: StrOrNull"),
            ("caps", json!({}), "Invalid parameter type for 'caps', expected: array"),
            ("caps", json!([1]), "Invalid parameter type for 'caps[0]', expected: object"),
            ("caps", json!([{}]), "Parameter 'caps[0].capability' is missing"),
            (
                "caps",
                json!([{"capability": "x"}]),
                "Parameter 'capability' does not accept value 'x'",
            ),
            (
                "caps",
                json!([{"capability": "multifd", "state": 1}]),
                "Invalid parameter type for 'caps[0].state', expected: boolean",
            ),
            (
                "caps",
                json!([{"capability": "multifd", "state": true, "z": 1}]),
                "Parameter 'caps[0].z' is unexpected",
            ),
            ("u8s", json!([1, 256]), "Parameter 'null' expects uint8_t"),
            ("o", json!([]), "Invalid parameter type for 'o', expected: object"),
            ("z", json!(1), "Parameter 'z' is unexpected"),
        ] {
            assert_eq!(with(name, value.clone()), expected, "{name}: {value}");
        }
    }

    #[test]
    fn a_missing_argument_is_named_before_an_unexpected_one() {
        assert_eq!(verdict(&COMMAND, json!({"z": 1})), "Parameter 's' is missing");
    }

    #[test]
    fn an_open_command_takes_strangers() {
        let open = CommandInfo::new("c", &[]).open();
        assert_eq!(verdict(&open, json!({"z": 1})), "ok");
    }
}
