//! The rules of a session: who may say what when, and how it is answered (`monitor/qmp.c`,
//! `monitor/qmp-cmds-control.c`). No sockets, no threads.

use std::{os::fd::OwnedFd, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{
    Arguments, ErrorClass, Handler, QmpError, Session, arguments,
    client::{Client, Mode},
    command::{ArgumentInfo, ArgumentKind, CommandInfo},
    fds::MonitorFds,
    handler::AfterReply,
    json,
    request::{Envelope, Request},
};

/// One monitor's side of all its conversations.
pub(crate) struct Dialogue {
    handler: Arc<dyn Handler>,
    fds: MonitorFds,
}

impl Dialogue {
    /// # Panics
    /// If the handler's table names a command of ours.
    pub(crate) fn new(handler: Arc<dyn Handler>) -> Self {
        for command in handler.commands() {
            let ours = OWN.iter().any(|own| own.name == command.name);
            assert!(!ours, "{} is the library's own command", command.name);
        }
        Self { handler, fds: MonitorFds::default() }
    }

    /// Says hello.
    pub(crate) fn greet(&self, client: &Client) {
        let greeting = self.handler.greeting();
        let mut line = Vec::new();
        json::write(
            &json!({"QMP": {
                "version": {
                    "qemu": {
                        "micro": greeting.micro,
                        "minor": greeting.minor,
                        "major": greeting.major,
                    },
                    "package": greeting.package,
                },
                "capabilities": [OOB],
            }}),
            &mut line,
        );
        line.extend_from_slice(b"\r\n");
        client.reply(&line, None);
    }

    /// Runs one message of `client` and replies. `passed` are the descriptors that came with it.
    ///
    /// Returns what is to be done once the reply has been sent.
    pub(crate) fn answer(
        &self,
        client: &Client,
        message: Result<Value, String>,
        passed: Vec<OwnedFd>,
    ) -> Vec<AfterReply> {
        let mode = client.mode();
        let envelope = Envelope::open(message, mode == Mode::Open { oob: true });
        // A new lot of descriptors replaces what was not claimed of the one before.
        let unclaimed = std::mem::take(&mut *client.passed());
        let mut passed = if passed.is_empty() { unclaimed } else { passed };
        let mut session = Session::new(&self.fds, &mut passed);
        let outcome = match envelope.request {
            Ok(request) => self.run(mode, &mut session, request),
            Err(error) => Err(error),
        };
        let after_reply = session.after_reply;
        if !passed.is_empty() {
            *client.passed() = passed;
        }
        let (line, enters) = match outcome {
            Ok(outcome) => (success(&outcome.result, envelope.id.as_ref()), outcome.enters),
            Err(mut error) => {
                if mode == Mode::Negotiating && error.class == ErrorClass::CommandNotFound {
                    error.desc =
                        "Expecting capabilities negotiation with 'qmp_capabilities'".into();
                }
                (failure(&error, envelope.id.as_ref()), None)
            }
        };
        client.reply(&line, enters);
        after_reply
    }

    fn run(
        &self,
        mode: Mode,
        session: &mut Session<'_>,
        request: Request,
    ) -> Result<Outcome, QmpError> {
        let Request { command, arguments, oob } = request;
        let info = self.find(mode, &command).ok_or_else(|| {
            QmpError::command_not_found(format!("The command {command} has not been found"))
        })?;
        if oob && !info.oob {
            return Err(QmpError::generic(format!("The command {command} does not support OOB")));
        }
        arguments::check(info, &arguments)?;
        match info.name {
            QMP_CAPABILITIES => return negotiate(mode, &arguments),
            QUERY_COMMANDS => Ok(self.query_commands()),
            GETFD => getfd(session, &arguments),
            CLOSEFD => closefd(session, &arguments),
            _ => self.handler.execute(session, &command, arguments),
        }
        .map(Outcome::from)
    }

    fn find(&self, mode: Mode, name: &str) -> Option<&CommandInfo> {
        let own = OWN.iter().find(|command| command.name == name);
        if mode == Mode::Negotiating {
            return own.filter(|command| command.name == QMP_CAPABILITIES);
        }
        own.or_else(|| {
            let table = self.handler.commands();
            table.iter().find(|command| command.name == name)
        })
    }

    fn query_commands(&self) -> Value {
        let all = OWN.iter().chain(self.handler.commands());
        all.map(|command| json!({"name": command.name})).collect()
    }
}

/// A result, and the mode it puts the session in.
struct Outcome {
    result: Value,
    enters: Option<Mode>,
}

impl From<Value> for Outcome {
    fn from(result: Value) -> Self {
        Self { result, enters: None }
    }
}

fn negotiate(mode: Mode, arguments: &Arguments) -> Result<Outcome, QmpError> {
    if mode != Mode::Negotiating {
        return Err(QmpError::command_not_found(
            "Capabilities negotiation is already complete, command ignored",
        ));
    }
    let enabled = arguments.get("enable").and_then(Value::as_array);
    let oob = enabled.is_some_and(|names| names.iter().any(|name| name == OOB));
    Ok(Outcome { result: Value::Object(Map::new()), enters: Some(Mode::Open { oob }) })
}

fn getfd(session: &mut Session<'_>, arguments: &Arguments) -> Result<Value, QmpError> {
    let fd = session
        .take_passed_fd()
        .ok_or_else(|| QmpError::generic("No file descriptor supplied via SCM_RIGHTS"))?;
    session.fds.insert(fdname(arguments).to_owned(), fd)?;
    Ok(Value::Object(Map::new()))
}

fn closefd(session: &mut Session<'_>, arguments: &Arguments) -> Result<Value, QmpError> {
    let name = fdname(arguments);
    match session.take_fd(name) {
        Some(_closed_here) => Ok(Value::Object(Map::new())),
        None => Err(QmpError::generic(format!("File descriptor named '{name}' not found"))),
    }
}

fn fdname(arguments: &Arguments) -> &str {
    let name = arguments.get("fdname").and_then(Value::as_str);
    name.expect("the table requires fdname to be a string")
}

fn success(result: &Value, id: Option<&Value>) -> Vec<u8> {
    let mut line = b"{\"return\": ".to_vec();
    json::write(result, &mut line);
    if let Some(id) = id {
        line.extend_from_slice(b", \"id\": ");
        json::write(id, &mut line);
    }
    line.extend_from_slice(b"}\r\n");
    line
}

fn failure(error: &QmpError, id: Option<&Value>) -> Vec<u8> {
    let mut line = b"{".to_vec();
    if let Some(id) = id {
        line.extend_from_slice(b"\"id\": ");
        json::write(id, &mut line);
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(b"\"error\": {\"class\": ");
    json::write_string(error.class.as_str(), &mut line);
    line.extend_from_slice(b", \"desc\": ");
    json::write_string(&error.desc, &mut line);
    line.extend_from_slice(b"}}\r\n");
    line
}

const FDNAME: &[ArgumentInfo] = &[ArgumentInfo::required("fdname", ArgumentKind::String)];

/// The commands answered here.
const OWN: &[CommandInfo] = &[
    CommandInfo::new(
        QMP_CAPABILITIES,
        &[ArgumentInfo::optional("enable", ArgumentKind::Array(&ArgumentKind::Enum(&[OOB])))],
    ),
    CommandInfo::new(QUERY_COMMANDS, &[]),
    CommandInfo::new(GETFD, FDNAME),
    CommandInfo::new(CLOSEFD, FDNAME),
];

const QMP_CAPABILITIES: &str = "qmp_capabilities";
const QUERY_COMMANDS: &str = "query-commands";
const GETFD: &str = "getfd";
const CLOSEFD: &str = "closefd";

/// The one capability there is: out-of-band execution.
const OOB: &str = "oob";
