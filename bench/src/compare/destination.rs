//! The destinations of a comparison: the bare ceiling in a process of its own, QEMU, landfall.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::ChildStdout,
    time::{Duration, Instant},
};

use nix::poll::PollTimeout;
use serde_json::{Value, json};

use super::{
    Comparison,
    contender::{Contender, MemorySetup, Receiver},
    prepare::Prepared,
    process::{Cpu, Process, wait_for},
    qmp::{Qmp, Speaker, sleep_until_told},
    source::{MACHINE, Source, add_credentials, set_capabilities},
};

/// A destination that listens, or waits to be given a file.
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
    Line { lines: BufReader<ChildStdout>, bytes: Option<u64> },
}

impl Told {
    /// True once it has said so; an error if it has said that it failed.
    fn has_everything(&mut self) -> Result<bool, String> {
        match self {
            Self::Line { lines, bytes } => {
                if !Speaker::of(lines).has_spoken(PollTimeout::ZERO)? {
                    return Ok(false);
                }
                // It is written at once, so the rest of it is there as well.
                let mut line = String::new();
                lines.read_line(&mut line).map_err(|error| error.to_string())?;
                *bytes = line.strip_prefix("done ").and_then(|count| count.trim().parse().ok());
                bytes.map(|_| true).ok_or_else(|| "it did not say that it is done".to_owned())
            }
            Self::Monitor(qmp) => {
                while let Some(status) = qmp.next_status()? {
                    match status.as_str() {
                        "completed" => return Ok(true),
                        "failed" => {
                            let state = qmp.command("query-migrate", json!({}))?;
                            return Err(format!("failed: {}", state["error-desc"]));
                        }
                        _ => {}
                    }
                }
                Ok(false)
            }
        }
    }

    fn speaker(&self) -> Speaker<'_> {
        match self {
            Self::Monitor(qmp) => qmp.speaker(),
            Self::Line { lines, .. } => Speaker::of(lines),
        }
    }
}

impl Destination {
    pub(super) fn start(
        comparison: &Comparison,
        prepared: &Prepared,
        contender: &Contender,
    ) -> Result<Self, String> {
        match contender.receiver {
            Receiver::CeilingBlocking => Self::ceiling(comparison, contender, "blocking"),
            Receiver::CeilingPatient => Self::ceiling(comparison, contender, "patient"),
            Receiver::CeilingRing => Self::ceiling(comparison, contender, "ring"),
            Receiver::Qemu => Self::qemu(comparison, prepared, contender),
            Receiver::Landfall => Self::landfall(comparison, prepared, contender),
        }
    }

    /// Where it listens; of a file, where that is.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    pub(super) fn cpu(&self) -> Result<Cpu, String> {
        self.process.cpu()
    }

    /// Its command line, and what it was told over QMP.
    pub(super) fn commands(&self) -> Value {
        let orders = match &self.told {
            Told::Monitor(qmp) => qmp.orders(),
            Told::Line { .. } => Vec::new(),
        };
        json!({ "command-line": self.process.command_line(), "qmp": orders })
    }

    /// Has it load the file that it was started for.
    pub(super) fn load(&mut self) -> Result<(), String> {
        match &mut self.told {
            Told::Monitor(qmp) => {
                qmp.command("migrate-incoming", json!({ "uri": self.uri })).map(drop)
            }
            Told::Line { .. } => Err("it reads no files".to_owned()),
        }
    }

    /// Sleeps until it has everything, or somebody fails. Neither end is asked anything meanwhile.
    /// `go_on` is asked now and then whether to wait on.
    pub(super) fn wait_for_all(
        &mut self,
        source: &mut Source<'_>,
        go_on: impl Fn() -> Result<(), String>,
    ) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            if self.told.has_everything()? {
                return Ok(());
            }
            source.check()?;
            self.process.has_ended()?;
            go_on()?;
            if begin.elapsed() > RUN_LIMIT {
                return Err(format!("no end of the migration within {RUN_LIMIT:?}"));
            }
            let speakers = std::iter::once(self.told.speaker());
            let speakers: Vec<_> = speakers.chain(source.monitor().map(Qmp::speaker)).collect();
            sleep_until_told(&speakers)?;
        }
    }

    /// Why a run failed with `reason`: its own end, where that is why its monitor is gone.
    pub(super) fn cause(&mut self, reason: String) -> String {
        match &self.told {
            Told::Monitor(qmp) => qmp.cause(&mut self.process, reason),
            Told::Line { .. } => reason,
        }
    }

    /// What landfall reports, after the end; `None` of others, which count nothing.
    pub(super) fn report(&mut self) -> Result<Option<Value>, String> {
        match &mut self.told {
            Told::Monitor(qmp)
                if self.process.command_line().iter().any(|word| word == "receive") =>
            {
                qmp.command("x-query-receiver", json!({})).map(Some)
            }
            Told::Line { bytes: Some(bytes), .. } => {
                Ok(Some(json!({ "wire": { "bytes": bytes } })))
            }
            _ => Ok(None),
        }
    }

    /// An error if it has ended.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self.process.has_ended()? {
            true => Err("it has ended".to_owned()),
            false => Ok(()),
        }
    }

    fn ceiling(comparison: &Comparison, contender: &Contender, kind: &str) -> Result<Self, String> {
        let arguments = [
            "ceiling".to_owned(),
            kind.to_owned(),
            contender.channels.to_string(),
            contender.readers.to_string(),
            contender.ram_bytes.to_string(),
        ];
        let cpus = comparison.scenario.receiver_cpus.as_ref();
        let log = comparison.scratch.join(LOG);
        let mut process = Process::start(&comparison.landfall, arguments, cpus, log)?;
        let mut lines = BufReader::new(process.output());
        let mut uri = String::new();
        lines.read_line(&mut uri).map_err(|error| error.to_string())?;
        if uri.is_empty() {
            return Err(process.log());
        }
        let told = Told::Line { lines, bytes: None };
        Ok(Self { process, uri: uri.trim().to_owned(), told })
    }

    fn qemu(
        comparison: &Comparison,
        prepared: &Prepared,
        contender: &Contender,
    ) -> Result<Self, String> {
        let program =
            comparison.qemu.as_ref().expect("QEMU is a contender only where there is one");
        let bytes = contender.ram_bytes;
        let mut arguments: Vec<String> = MACHINE.iter().map(|&word| word.to_owned()).collect();
        // Else the guest would run, and use CPU time, when it has come.
        arguments.extend(["-S", "-incoming", "defer", "-m"].map(str::to_owned));
        arguments.push(format!("{bytes}B"));
        arguments.push("-M".to_owned());
        match contender.memory {
            MemorySetup::Hugepages => arguments.extend([
                "q35,memory-backend=pc.ram".to_owned(),
                "-object".to_owned(),
                format!(
                    "memory-backend-memfd,id=pc.ram,size={bytes},hugetlb=on,hugetlbsize=2M,\
                     prealloc=on,prealloc-threads=2"
                ),
            ]),
            MemorySetup::Default | MemorySetup::Thp => arguments.push("q35".to_owned()),
        }
        arguments.extend(prepared.disk_arguments());
        Self::with_monitor(comparison, prepared, contender, program.clone(), arguments)
    }

    fn landfall(
        comparison: &Comparison,
        prepared: &Prepared,
        contender: &Contender,
    ) -> Result<Self, String> {
        let mut arguments = ["receive", "defer", "--readers"].map(str::to_owned).to_vec();
        arguments.push(contender.readers.to_string());
        // A QEMU is told; deriving the number would cost the 200 ms that it takes.
        arguments.extend(["--multifd".to_owned(), contender.channels.to_string()]);
        match contender.memory {
            MemorySetup::Default => {}
            MemorySetup::Thp => arguments.extend(["--hugepages", "thp"].map(str::to_owned)),
            MemorySetup::Hugepages => {
                let pool = (contender.ram_bytes + POOL_SPARE).to_string();
                arguments.extend(["--hugepages", "2M", "--pool", &pool].map(str::to_owned));
            }
        }
        Self::with_monitor(comparison, prepared, contender, comparison.landfall.clone(), arguments)
    }

    fn with_monitor(
        comparison: &Comparison,
        prepared: &Prepared,
        contender: &Contender,
        program: PathBuf,
        mut arguments: Vec<String>,
    ) -> Result<Self, String> {
        let socket = comparison.scratch.join("destination.qmp");
        let _ = std::fs::remove_file(&socket);
        let option = if contender.is_landfall() { "--qmp" } else { "-qmp" };
        arguments.push(option.to_owned());
        arguments.push(format!("unix:{},server=on,wait=off", socket.display()));
        let scenario = &comparison.scenario;
        let cpus = scenario.receiver_cpus.as_ref();
        let mut process = Process::start(&program, arguments, cpus, comparison.scratch.join(LOG))?;
        let mut uri = String::new();
        let qmp = Qmp::start(&socket, &mut process, |qmp| {
            set_capabilities(qmp, &scenario.capabilities(contender.channels))?;
            add_credentials(qmp, prepared, "server")?;
            let parameters = scenario.parameters(contender.channels);
            qmp.command("migrate-set-parameters", parameters.into())?;
            uri = match &prepared.file {
                Some(path) => format!("file:{}", path.display()),
                None => {
                    qmp.command("migrate-incoming", json!({ "uri": "tcp:127.0.0.1:0" }))?;
                    wait_for("address", RUN_LIMIT, || {
                        let state = qmp.command("query-migrate", json!({}))?;
                        let port = state["socket-address"][0]["port"].as_str();
                        Ok(port.map(|port| format!("tcp:127.0.0.1:{port}")))
                    })?
                }
            };
            Ok(())
        })?;
        drain(process.output());
        Ok(Self { process, uri, told: Told::Monitor(qmp) })
    }
}

/// Nobody reads what it prints, and it must not wait for that.
fn drain(mut output: ChildStdout) {
    std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
}

const LOG: &str = "destination.log";
/// Firmware and its like, beside the guest's own memory.
const POOL_SPARE: u64 = 64 << 20;
const RUN_LIMIT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{Arc, atomic::AtomicBool},
    };

    use super::super::scenario::Scenario;
    use super::*;

    fn comparison(scratch: &Path) -> Comparison {
        Comparison {
            scenario: Scenario::open("random").expect("it is built in"),
            pairs: 1,
            landfall: PathBuf::from("false"),
            qemu: None,
            recording: None,
            tls_creds: None,
            scratch: scratch.to_owned(),
            disk: scratch.to_owned(),
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    /// A ceiling that runs `script` in place of receiving.
    fn ceiling(scratch: &Path, script: &str) -> Destination {
        let log = scratch.join(LOG);
        let mut process =
            Process::start(Path::new("sh"), ["-c", script], None, log).expect("a shell");
        let lines = BufReader::new(process.output());
        Destination { process, uri: String::new(), told: Told::Line { lines, bytes: None } }
    }

    #[test]
    fn a_ceiling_is_not_waited_for_when_its_source_has_failed_or_nobody_wants_it() {
        let scratch = tempfile::tempdir().expect("a directory");
        let comparison = comparison(scratch.path());
        let mut source =
            Source::Landfall { comparison: &comparison, arguments: Vec::new(), process: None };
        let mut silent = ceiling(scratch.path(), "exec sleep 60");
        let error = silent.wait_for_all(&mut source, || Err("enough".to_owned())).unwrap_err();
        assert_eq!(error, "enough");
        // It ends at once, and badly.
        source.migrate("tcp:127.0.0.1:1").expect("it starts");
        let error = silent.wait_for_all(&mut source, || Ok(())).unwrap_err();
        assert!(error.starts_with("false ended"), "{error}");
    }

    #[test]
    fn a_ceiling_has_everything_when_its_line_says_so() {
        let scratch = tempfile::tempdir().expect("a directory");
        let mut source = Source::None;
        let mut done = ceiling(scratch.path(), "sleep 0.1; echo done 4096; exec sleep 60");
        done.wait_for_all(&mut source, || Ok(())).expect("it is done");
        assert_eq!(done.report().expect("counted"), Some(json!({ "wire": { "bytes": 4096 } })));
        let mut lost = ceiling(scratch.path(), "exit 0");
        let error = lost.wait_for_all(&mut source, || Ok(())).unwrap_err();
        assert_eq!(error, "it did not say that it is done");
    }
}
