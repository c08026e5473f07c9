//! Conversations with a real receiver on loopback.

mod copies;
mod fdsets;
mod incoming;
mod masks;
mod objects;
mod runs;
mod session;
mod settings;
mod stream;

use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver as Told, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use landfall_qmp::{Conversation, EventSender, Handler};
use serde_json::{Value, json};

use super::{Destination, Endings, Monitor, MonitorConfig};
use crate::receiver::{Receiver, ReceiverConfig};

/// A destination with everything behind its monitor.
struct Rig {
    monitor: Arc<Monitor>,
    receiver: Arc<Receiver>,
    events: EventSender,
    /// `quit`, or the exit code.
    ended: Told<String>,
}

impl Rig {
    fn new(config: MonitorConfig) -> Self {
        Self::with_exit(config, |_| {})
    }

    /// `on_exit` is called as [`Endings::on_exit`] is, after its code was told.
    fn with_exit(config: MonitorConfig, on_exit: impl Fn(u8) + Send + Sync + 'static) -> Self {
        let (told, ended) = mpsc::channel();
        let told = Arc::new(Mutex::new(told));
        let say = |told: &Arc<Mutex<Sender<String>>>, text: String| {
            // A rig that is gone wants to hear nothing.
            let _ = told.lock().unwrap().send(text);
        };
        let (quit, exit) = (Arc::clone(&told), told);
        let endings = Endings {
            on_quit: Box::new(move || say(&quit, "quit".into())),
            on_exit: Box::new(move |code| {
                say(&exit, format!("exit {code}"));
                on_exit(code);
            }),
        };
        let events = EventSender::new();
        let destination = Arc::new(Destination::new(config, events.clone(), endings));
        let observing = Arc::clone(&destination);
        let receiver = Receiver::new(
            ReceiverConfig { readers: Some(1), ..ReceiverConfig::default() },
            Arc::new(move |migration, status| observing.observe(migration, status)),
            &|_, _| {},
        );
        let receiver = Arc::new(receiver.unwrap());
        let monitor = Arc::new(Monitor::new(destination, Arc::clone(&receiver)));
        Self { monitor, receiver, events, ended }
    }

    /// A client that has negotiated.
    fn client(&self) -> Client {
        let handler: Arc<dyn Handler> = Arc::<Monitor>::clone(&self.monitor);
        let mut client = Client(Conversation::new(handler, &self.events));
        let greeting = client.0.receive();
        assert!(greeting.starts_with("{\"QMP\""), "{greeting}");
        assert_eq!(client.ok("qmp_capabilities", json!({})), json!({}));
        client
    }

    /// Waits for the run under way to end and all of its events to be said.
    fn wait(&self) {
        let run = self.receiver.current().expect("a run was started");
        assert!(run.wait_for(PATIENCE), "the run does not end");
    }
}

struct Client(Conversation);

impl Client {
    /// All that is said while a command is executed, its reply last.
    fn send(&mut self, command: &str, arguments: Value) -> Vec<Value> {
        let mut said = self.heard();
        let request = json!({"execute": command, "arguments": arguments});
        said.extend(parse(&self.0.send(request.to_string())));
        said
    }

    /// What a command returns.
    fn ok(&mut self, command: &str, arguments: Value) -> Value {
        let mut said = self.send(command, arguments);
        let reply = said.last_mut().expect("a reply")["return"].take();
        assert!(!reply.is_null(), "{command}: {said:?}");
        reply
    }

    /// What a command that fails says; its class must be GenericError.
    fn error(&mut self, command: &str, arguments: Value) -> String {
        let said = self.send(command, arguments);
        let error = &said.last().expect("a reply")["error"];
        assert_eq!(error["class"], "GenericError", "{said:?}");
        error["desc"].as_str().expect("a text").into()
    }

    /// What was said since last asked.
    fn heard(&mut self) -> Vec<Value> {
        parse(&self.0.receive())
    }

    fn query(&mut self, command: &str) -> Value {
        self.ok(command, json!({}))
    }

    fn set(&mut self, capability: &str, on: bool) -> Vec<Value> {
        let list = json!([{"capability": capability, "state": on}]);
        self.send("migrate-set-capabilities", json!({"capabilities": list}))
    }

    /// Starts a run on loopback; returns all that was said of it.
    fn listen(&mut self, arguments: Value) -> Vec<Value> {
        let mut all = json!({"uri": "tcp:127.0.0.1:0"});
        all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        self.send("migrate-incoming", all)
    }

    /// Connects to where the run under way listens.
    fn connect(&mut self) -> TcpStream {
        let shown = self.query("query-migrate");
        let port = shown["socket-address"][0]["port"].as_str().expect("a port");
        TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap()
    }
}

fn parse(said: &str) -> Vec<Value> {
    said.split_terminator("\r\n").map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was said, shortened: names of events with their status, and `{}` or the
/// error's text for replies.
fn brief(said: &[Value]) -> Vec<String> {
    let one = |line: &Value| match (&line["event"], &line["error"]["desc"]) {
        (Value::String(name), _) => match &line["data"]["status"] {
            Value::String(status) => format!("{name} {status}"),
            _ => name.clone(),
        },
        (_, Value::String(text)) => text.clone(),
        _ => line["return"].to_string(),
    };
    said.iter().map(one).collect()
}

/// Waits for something to become true.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
