//! The destinations of a comparison: the bare ceiling in a process of its own, QEMU, landfall.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::ChildStdout,
    time::Duration,
};

use serde_json::json;

use super::{
    Comparison, Contender,
    process::{Cpu, Process, wait_for},
    qmp::Qmp,
    source::{MACHINE, Source, add_credentials, set_capabilities},
};

/// A destination that listens.
pub(super) struct Destination {
    process: Process,
    uri: String,
    told: Told,
}

/// How a destination says that it has everything.
enum Told {
    /// Over QMP.
    Monitor(Qmp),
    /// By a line: the bare ceiling, after all its sockets ended.
    Line(BufReader<ChildStdout>),
}

impl Destination {
    pub(super) fn start(comparison: &Comparison, contender: Contender) -> Result<Self, String> {
        match contender {
            Contender::BlockingCeiling => Self::ceiling(comparison, "blocking"),
            Contender::RingCeiling => Self::ceiling(comparison, "ring"),
            Contender::QemuDefault | Contender::QemuHugepages => Self::qemu(comparison, contender),
            Contender::LandfallDefault | Contender::LandfallHugepages => {
                Self::landfall(comparison, contender)
            }
        }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    pub(super) fn cpu(&self) -> Result<Cpu, String> {
        self.process.cpu()
    }

    /// Waits until it has everything, or somebody fails.
    pub(super) fn wait_for_all(&mut self, source: &mut Source<'_>) -> Result<(), String> {
        match &mut self.told {
            Told::Line(lines) => {
                let mut line = String::new();
                lines.read_line(&mut line).map_err(|error| error.to_string())?;
                (line == "done\n").then_some(()).ok_or_else(|| self.process.log())
            }
            Told::Monitor(qmp) => wait_for("end of the migration", RUN_LIMIT, || {
                source.check()?;
                let state = qmp.command("query-migrate", json!({}))?;
                match state["status"].as_str() {
                    Some("completed") => Ok(Some(())),
                    Some("failed") => Err(format!("failed: {}", state["error-desc"])),
                    _ => Ok(None),
                }
            }),
        }
    }

    /// An error if it has ended.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.process.has_ended().map(drop)
    }

    fn ceiling(comparison: &Comparison, kind: &str) -> Result<Self, String> {
        let arguments = [
            "ceiling".to_owned(),
            kind.to_owned(),
            comparison.scenario.channels.to_string(),
            comparison.scenario.readers.to_string(),
            comparison.ram_bytes.to_string(),
        ];
        let log = comparison.scratch.join("destination.log");
        let mut process = Process::start(&comparison.landfall, arguments, log)?;
        let mut lines = BufReader::new(process.output());
        let mut uri = String::new();
        lines.read_line(&mut uri).map_err(|error| error.to_string())?;
        if uri.is_empty() {
            return Err(process.log());
        }
        Ok(Self { process, uri: uri.trim().to_owned(), told: Told::Line(lines) })
    }

    fn qemu(comparison: &Comparison, contender: Contender) -> Result<Self, String> {
        let program =
            comparison.qemu.as_ref().expect("QEMU is a contender only where there is one");
        let bytes = comparison.ram_bytes;
        let size = format!("{bytes}B");
        let memory = format!(
            "memory-backend-memfd,id=pc.ram,size={bytes},hugetlb=on,hugetlbsize=2M,prealloc=on,\
             prealloc-threads=2"
        );
        let mut arguments: Vec<&str> = MACHINE.to_vec();
        arguments.extend(["-m", &size, "-incoming", "defer"]);
        match contender {
            Contender::QemuHugepages => {
                arguments.extend(["-M", "q35,memory-backend=pc.ram", "-object", &memory]);
            }
            _ => arguments.extend(["-M", "q35"]),
        }
        Self::with_monitor(comparison, program.clone(), &arguments)
    }

    fn landfall(comparison: &Comparison, contender: Contender) -> Result<Self, String> {
        let readers = comparison.scenario.readers.to_string();
        let pool = (comparison.ram_bytes + POOL_SPARE).to_string();
        let mut arguments = vec!["receive", "defer", "--readers", &readers];
        if contender == Contender::LandfallHugepages {
            arguments.extend(["--pool", &pool, "--hugepages", "2M"]);
        }
        Self::with_monitor(comparison, comparison.landfall.clone(), &arguments)
    }

    fn with_monitor(
        comparison: &Comparison,
        program: PathBuf,
        arguments: &[&str],
    ) -> Result<Self, String> {
        let socket = comparison.scratch.join("destination.qmp");
        let _ = std::fs::remove_file(&socket);
        let monitor = format!("unix:{},server=on,wait=off", socket.display());
        let option = if program == comparison.landfall { "--qmp" } else { "-qmp" };
        let arguments = arguments.iter().copied().chain([option, &monitor]);
        let log = comparison.scratch.join("destination.log");
        let mut process = Process::start(&program, arguments, log)?;
        let mut qmp = Qmp::connect(&socket, &mut process)?;
        let scenario = &comparison.scenario;
        set_capabilities(&mut qmp, &scenario.capabilities())?;
        add_credentials(&mut qmp, comparison, "server")?;
        qmp.command("migrate-set-parameters", scenario.parameters().into())?;
        qmp.command("migrate-incoming", json!({ "uri": "tcp:127.0.0.1:0" }))?;
        let uri = wait_for("address", RUN_LIMIT, || {
            let state = qmp.command("query-migrate", json!({}))?;
            let port = state["socket-address"][0]["port"].as_str();
            Ok(port.map(|port| format!("tcp:127.0.0.1:{port}")))
        })?;
        drain(process.output());
        Ok(Self { process, uri, told: Told::Monitor(qmp) })
    }
}

/// Nobody reads what it prints, and it must not wait for that.
fn drain(mut output: ChildStdout) {
    std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
}

/// Firmware and its like, beside the guest's own memory.
const POOL_SPARE: u64 = 64 << 20;
const RUN_LIMIT: Duration = Duration::from_secs(600);
