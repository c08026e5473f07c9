//! add-fd, remove-fd and query-fdsets (`monitor/fds.c`), as 10.0 has them.

use landfall_qmp::{Arguments, QmpError, Session};
use serde_json::{Map, Value, json};

use super::Monitor;
use crate::listen::SetFd;

impl Monitor {
    pub(super) fn add_fd(
        &self,
        session: &mut Session<'_>,
        arguments: &Arguments,
    ) -> Result<Value, QmpError> {
        let descriptor = session
            .take_passed_fd()
            .ok_or_else(|| QmpError::generic("No file descriptor supplied via SCM_RIGHTS"))?;
        let id = arguments.get("fdset-id").and_then(Value::as_i64);
        let opaque = arguments.get("opaque").and_then(Value::as_str).map(str::to_owned);
        let sets = &self.destination.config().fdsets;
        let (id, fd) = sets.add(id, opaque, descriptor).map_err(QmpError::generic)?;
        Ok(json!({ "fd": fd, "fdset-id": id }))
    }

    pub(super) fn remove_fd(&self, arguments: &Arguments) -> Result<(), QmpError> {
        let id = arguments.get("fdset-id").and_then(Value::as_i64);
        let id = id.expect("the table requires fdset-id to be an integer");
        let fd = arguments.get("fd").and_then(Value::as_i64);
        self.destination.config().fdsets.remove(id, fd).map_err(QmpError::generic)
    }

    pub(super) fn query_fdsets(&self) -> Value {
        let sets = self.destination.config().fdsets.list();
        sets.iter()
            .map(|(id, fds)| {
                let fds: Vec<Value> = fds.iter().map(shown).collect();
                json!({ "fds": fds, "fdset-id": id })
            })
            .collect()
    }
}

fn shown(SetFd { fd, opaque }: &SetFd) -> Value {
    let mut shown = Map::new();
    shown.insert("fd".into(), (*fd).into());
    if let Some(opaque) = opaque {
        shown.insert("opaque".into(), opaque.as_str().into());
    }
    Value::Object(shown)
}
