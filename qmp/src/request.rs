//! One message of a client, taken apart (`qapi/qmp-dispatch.c`).

use serde_json::{Map, Value};

use crate::QmpError;

/// What a client sent: the request, or why it is none, and the id to answer under.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Envelope {
    /// Echoed in the reply, whatever it is.
    pub(crate) id: Option<Value>,
    pub(crate) request: Result<Request, QmpError>,
}

/// A well-formed request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) command: String,
    pub(crate) arguments: Map<String, Value>,
    /// Sent with `exec-oob`.
    pub(crate) oob: bool,
}

impl Envelope {
    /// Opens a message. `exec-oob` is a member like any other unless `allow_oob`.
    pub(crate) fn open(message: Result<Value, String>, allow_oob: bool) -> Self {
        let mut members = match message {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Self::refused("QMP input must be a JSON object"),
            Err(error) => return Self::refused(error),
        };
        let id = members.shift_remove("id");
        Self { id, request: request(members, allow_oob) }
    }

    fn refused(desc: impl Into<String>) -> Self {
        Self { id: None, request: Err(QmpError::generic(desc)) }
    }
}

/// Is this a message to be run without waiting its turn? Whether it may be is another matter.
pub(crate) fn looks_oob(message: &Result<Value, String>) -> bool {
    let Ok(Value::Object(members)) = message else {
        return false;
    };
    members.contains_key("exec-oob") && !members.contains_key("execute")
}

/// QEMU names the first mistake in the order of its hash table, here it is the client's order.
fn request(members: Map<String, Value>, allow_oob: bool) -> Result<Request, QmpError> {
    let mut command = None;
    let mut arguments = Map::new();
    let mut oob = false;
    for (name, value) in members {
        match (name.as_str(), value) {
            ("execute", Value::String(value)) => {
                clash(&command)?;
                command = Some(value);
            }
            ("exec-oob", Value::String(value)) if allow_oob => {
                clash(&command)?;
                command = Some(value);
                oob = true;
            }
            ("execute", _) => return Err(not_a_string(&name)),
            ("exec-oob", _) if allow_oob => return Err(not_a_string(&name)),
            ("arguments", Value::Object(value)) => arguments = value,
            ("arguments", _) => {
                return Err(QmpError::generic("QMP input member 'arguments' must be an object"));
            }
            _ => {
                return Err(QmpError::generic(format!("QMP input member '{name}' is unexpected")));
            }
        }
    }
    let command = command.ok_or_else(|| QmpError::generic("QMP input lacks member 'execute'"))?;
    Ok(Request { command, arguments, oob })
}

fn clash(command: &Option<String>) -> Result<(), QmpError> {
    if command.is_none() {
        return Ok(());
    }
    Err(QmpError::generic("QMP input member 'execute' clashes with 'exec-oob'"))
}

fn not_a_string(name: &str) -> QmpError {
    QmpError::generic(format!("QMP input member '{name}' must be a string"))
}
