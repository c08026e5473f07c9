//! The program behind the monitors under test, and its client.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use landfall_qmp::{
    ArgumentInfo, ArgumentKind, Arguments, CommandInfo, EventSender, Greeting, Handler, QmpError,
    Session,
};
use serde_json::{Value, json};

/// A handler that does a little of everything.
pub(crate) struct Program {
    pub(crate) events: EventSender,
    gate: Mutex<bool>,
    opened: Condvar,
    pub(crate) waiting: AtomicU32,
    quit: Mutex<Sender<&'static str>>,
}

impl Program {
    /// The program, and where it tells that it was told to quit.
    pub(crate) fn new() -> (Arc<Self>, Receiver<&'static str>) {
        let (quit, told) = channel();
        let program = Self {
            events: EventSender::new(),
            gate: Mutex::new(false),
            opened: Condvar::new(),
            waiting: AtomicU32::new(0),
            quit: Mutex::new(quit),
        };
        (Arc::new(program), told)
    }

    /// Lets `wait` commands pass, now and later.
    pub(crate) fn open_gate(&self) {
        *self.gate.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Waits until so many `wait` commands have been begun.
    pub(crate) fn await_waiting(&self, count: u32) {
        let deadline = Instant::now() + PATIENCE;
        while self.waiting.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < deadline, "the command is not begun");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Handler for Program {
    fn greeting(&self) -> Greeting {
        Greeting { major: 7, minor: 2, micro: 22, package: "landfall \u{e9}".into() }
    }

    fn commands(&self) -> &[CommandInfo] {
        COMMANDS
    }

    fn execute(
        &self,
        session: &mut Session<'_>,
        command: &str,
        arguments: Arguments,
    ) -> Result<Value, QmpError> {
        let text = |name: &str| arguments[name].as_str().unwrap().to_owned();
        match command {
            "query-status" => {
                return Ok(json!({"status": "inmigrate", "singlestep": false, "running": false}));
            }
            "echo" => return Ok(Value::Object(arguments)),
            "migrate-pause" => {
                return Err(QmpError::generic(
                    "migrate-pause is currently only supported during postcopy-active state",
                ));
            }
            "migrate-set-parameters" if arguments.get("multifd-channels") == Some(&json!(0)) => {
                return Err(QmpError::generic(
                    "Parameter 'multifd_channels' expects a value between 1 and 255",
                ));
            }
            "emit" => self.events.emit(&text("name"), arguments.get("data").cloned()),
            "wait" => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let gate = self.gate.lock().unwrap();
                let waited = self.opened.wait_timeout_while(gate, PATIENCE, |open| !*open);
                assert!(!waited.unwrap().1.timed_out(), "nobody opened the gate");
            }
            "open-gate" => self.open_gate(),
            "large" => {
                let bytes = arguments["bytes"].as_u64().unwrap() as usize;
                return Ok(json!("x".repeat(bytes)));
            }
            "read-fd" => {
                let name = text("name");
                let fd = session.take_fd(&name);
                let fd = fd.ok_or_else(|| QmpError::generic(format!("no {name}")))?;
                let mut content = String::new();
                std::fs::File::from(fd).read_to_string(&mut content).unwrap();
                return Ok(json!(content));
            }
            "quit" | "quit-oob" => {
                self.events
                    .emit("SHUTDOWN", Some(json!({"guest": false, "reason": "host-qmp-quit"})));
                let quit = self.quit.lock().unwrap().clone();
                session.after_reply(Box::new(move || quit.send("quit").unwrap()));
            }
            "panic" => panic!("as told"),
            _ => {}
        }
        Ok(json!({}))
    }
}

const CAPABILITY: &[ArgumentInfo] = &[
    ArgumentInfo::required("capability", ArgumentKind::Enum(&["multifd"])),
    ArgumentInfo::required("state", ArgumentKind::Boolean),
];

const COMMANDS: &[CommandInfo] = &[
    CommandInfo::new("query-status", &[]),
    CommandInfo::new("echo", &[]).open(),
    CommandInfo::new("migrate-pause", &[]).allow_oob(),
    CommandInfo::new(
        "migrate-set-capabilities",
        &[ArgumentInfo::required(
            "capabilities",
            ArgumentKind::Array(&ArgumentKind::Object(CAPABILITY)),
        )],
    ),
    CommandInfo::new(
        "migrate-set-parameters",
        &[
            ArgumentInfo::optional("tls-creds", ArgumentKind::StrOrNull),
            ArgumentInfo::optional("max-bandwidth", ArgumentKind::Uint64),
            ArgumentInfo::optional("block-incremental", ArgumentKind::Boolean),
            ArgumentInfo::optional("multifd-channels", ArgumentKind::Uint8),
            ArgumentInfo::optional(
                "multifd-compression",
                ArgumentKind::Enum(&["none", "zlib", "zstd"]),
            ),
        ],
    ),
    CommandInfo::new(
        "emit",
        &[
            ArgumentInfo::required("name", ArgumentKind::String),
            ArgumentInfo::optional("data", ArgumentKind::OpenObject),
        ],
    ),
    CommandInfo::new("wait", &[]),
    CommandInfo::new("open-gate", &[]).allow_oob(),
    CommandInfo::new("large", &[ArgumentInfo::required("bytes", ArgumentKind::Uint32)]),
    CommandInfo::new("read-fd", &[ArgumentInfo::required("name", ArgumentKind::String)]),
    CommandInfo::new("quit", &[]),
    CommandInfo::new("quit-oob", &[]).allow_oob(),
    CommandInfo::new("panic", &[]),
];

/// A client on a unix socket.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects as soon as somebody listens.
    pub(crate) fn connect(path: &Path) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Self::new(stream),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Connects, reads the greeting and negotiates.
    pub(crate) fn negotiated(path: &Path, oob: bool) -> Self {
        let mut client = Self::connect(path);
        client.negotiate(oob);
        client
    }

    pub(crate) fn negotiate(&mut self, oob: bool) {
        assert!(self.line().starts_with("{\"QMP\": "));
        let enable = if oob { "['oob']" } else { "[]" };
        self.send(format!("{{'execute':'qmp_capabilities','arguments':{{'enable':{enable}}}}}"));
        assert_eq!(self.line(), "{\"return\": {}}");
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes and descriptors with them.
    pub(crate) fn send_fds(&mut self, bytes: &str, fds: &[BorrowedFd<'_>]) {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(300))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        let sent = sendmsg(
            self.stream.as_fd(),
            &[std::io::IoSlice::new(bytes.as_bytes())],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        assert_eq!(sent.unwrap(), bytes.len());
    }

    /// One command and its reply; no event may come in between.
    pub(crate) fn ask(&mut self, command: impl AsRef<[u8]>) -> String {
        self.send(command);
        self.line()
    }

    /// The next line without its CRLF; panics at the end of the connection.
    pub(crate) fn line(&mut self) -> String {
        self.line_or_end().expect("the connection has ended")
    }

    /// The next line, or nothing if the connection has ended.
    pub(crate) fn line_or_end(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8(line).unwrap();
                assert!(line.is_ascii(), "{line}");
                return Some(line.strip_suffix("\r\n").expect("CRLF").to_owned());
            }
            let mut buffer = [0; 65536];
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.unread.is_empty(), "cut inside a line");
                    return None;
                }
                Ok(bytes) => self.unread.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no line: {error}"),
            }
        }
    }

    /// The same for a connection that may be cut inside a line.
    pub(crate) fn stream_line_or_cut(&mut self) -> Option<()> {
        let mut buffer = [0; 65536];
        while !self.unread.contains(&b'\n') {
            match self.stream.read(&mut buffer) {
                Ok(bytes) if bytes > 0 => self.unread.extend_from_slice(&buffer[..bytes]),
                _ => return None,
            }
        }
        let end = self.unread.iter().position(|&byte| byte == b'\n')?;
        self.unread.drain(..=end);
        Some(())
    }

    /// Is there, for the moment, nothing to read?
    pub(crate) fn is_silent(&mut self) -> bool {
        let short = Some(Duration::from_millis(50));
        self.stream.set_read_timeout(short).unwrap();
        let read = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.unread.is_empty() && read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// A line with the digits of its timestamp replaced by 0.
pub(crate) fn without_time(line: &str) -> String {
    let Some(rest) = line.strip_prefix("{\"timestamp\": {\"seconds\": ") else {
        return line.to_owned();
    };
    let (seconds, rest) = rest.split_once(", \"microseconds\": ").expect("microseconds");
    let (micros, rest) = rest.split_once('}').expect("the timestamp ends");
    assert!(seconds.parse::<u64>().unwrap() > 1_600_000_000);
    assert!(micros.parse::<u32>().unwrap() < 1_000_000);
    format!("{{\"timestamp\": {{\"seconds\": 0, \"microseconds\": 0}}{rest}")
}

/// A descriptor one can read `content` from.
pub(crate) fn readable(content: &str) -> OwnedFd {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(content.as_bytes()).unwrap();
    ours.into()
}

/// Longer than anything takes, shorter than a test run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
