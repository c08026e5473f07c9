//! The source of a comparison: a real QEMU with a prepared guest, the synthetic one, a replay.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::{
    Comparison,
    contender::{Contender, Sender},
    content::Kind,
    prepare::Prepared,
    process::{Process, wait_for},
    qmp::Qmp,
};

/// A source that has been started and waits for the order to migrate.
pub(super) enum Source<'a> {
    /// A guest with its memory in a file, stopped unless it has a disk to run from.
    Qemu { process: Process, qmp: Qmp },
    /// A program that is started with the order: `landfall send`, `landfall replay`.
    Landfall { comparison: &'a Comparison, arguments: Vec<String>, process: Option<Process> },
    /// A file is loaded: there is none.
    None,
}

impl<'a> Source<'a> {
    pub(super) fn start(
        comparison: &'a Comparison,
        prepared: &Prepared,
        contender: &Contender,
    ) -> Result<Self, String> {
        if prepared.file.is_some() {
            return Ok(Self::None);
        }
        if let Some(recording) = &prepared.recording {
            // It was read into memory, as far as that has room, once for all.
            let arguments = ["replay", &recording.display().to_string(), "--quiet", "--cold"];
            let arguments = arguments.map(str::to_owned).to_vec();
            return Ok(Self::Landfall { comparison, arguments, process: None });
        }
        if comparison.qemu.is_some() && contender.source == Sender::Given {
            return Self::qemu(comparison, prepared, contender);
        }
        let arguments = synthetic(comparison, prepared, contender);
        Ok(Self::Landfall { comparison, arguments, process: None })
    }

    /// A real QEMU with the prepared guest.
    pub(super) fn qemu(
        comparison: &Comparison,
        prepared: &Prepared,
        contender: &Contender,
    ) -> Result<Self, String> {
        let program = comparison.qemu.as_ref().ok_or("it needs a real source: --qemu PROGRAM")?;
        let bytes = contender.ram_bytes;
        let socket = comparison.scratch.join("source.qmp");
        let _ = std::fs::remove_file(&socket);
        let mut arguments: Vec<String> = MACHINE.iter().map(|&word| word.to_owned()).collect();
        arguments.extend(["-S".to_owned(), "-m".to_owned(), format!("{bytes}B")]);
        match &prepared.memory {
            Some(path) => arguments.extend([
                "-M".to_owned(),
                "q35,memory-backend=pc.ram".to_owned(),
                "-object".to_owned(),
                format!(
                    "memory-backend-file,id=pc.ram,size={bytes},share=on{},mem-path={}",
                    if comparison.scenario.source_prealloc { ",prealloc=on" } else { "" },
                    path.display()
                ),
            ]),
            // Pages that nobody has written cost nothing only in memory of no file.
            None => arguments.extend(["-M", "q35"].map(str::to_owned)),
        }
        arguments.extend(prepared.disk_arguments());
        let monitor = format!("unix:{},server=on,wait=off", socket.display());
        arguments.extend(["-qmp".to_owned(), monitor]);
        let log = comparison.scratch.join("source.log");
        let scenario = &comparison.scenario;
        let mut process = Process::start(program, arguments, scenario.source_cpus.as_ref(), log)?;
        let qmp = Qmp::start(&socket, &mut process, |qmp| {
            set_capabilities(qmp, &scenario.capabilities(contender.channels))?;
            add_credentials(qmp, prepared, "client")?;
            let mut parameters = scenario.parameters(contender.channels);
            // A stopped guest has no other reason to be slow.
            parameters.insert("max-bandwidth".to_owned(), json!(1u64 << 40));
            if let Some(how) = &scenario.zero_page_detection {
                parameters.insert("zero-page-detection".to_owned(), json!(how));
            }
            qmp.command("migrate-set-parameters", parameters.into()).map(drop)
        })?;
        Ok(Self::Qemu { process, qmp })
    }

    /// Gives the order.
    pub(super) fn migrate(&mut self, uri: &str) -> Result<(), String> {
        match self {
            Self::Qemu { qmp, .. } => qmp.command("migrate", json!({ "uri": uri })).map(drop),
            Self::Landfall { comparison, arguments, process } => {
                let log = comparison.scratch.join("source.log");
                arguments.push(uri.to_owned());
                let cpus = comparison.scenario.source_cpus.as_ref();
                *process = Some(Process::start(&comparison.landfall, &*arguments, cpus, log)?);
                Ok(())
            }
            Self::None => Err("there is no source".to_owned()),
        }
    }

    /// CPU seconds so far.
    pub(super) fn cpu_s(&self) -> Result<f64, String> {
        self.process().map_or(Ok(0.0), |process| process.cpu().map(|cpu| cpu.total_s))
    }

    pub(super) fn process(&self) -> Option<&Process> {
        match self {
            Self::Qemu { process, .. } => Some(process),
            Self::Landfall { process, .. } => process.as_ref(),
            Self::None => None,
        }
    }

    pub(super) fn monitor(&self) -> Option<&Qmp> {
        match self {
            Self::Qemu { qmp, .. } => Some(qmp),
            Self::Landfall { .. } | Self::None => None,
        }
    }

    /// Its monitor, of a real QEMU.
    pub(super) fn qmp(&mut self) -> &mut Qmp {
        match self {
            Self::Qemu { qmp, .. } => qmp,
            Self::Landfall { .. } | Self::None => panic!("only a real QEMU is asked"),
        }
    }

    /// Its command line, and what it was told over QMP.
    pub(super) fn commands(&self) -> Value {
        let Some(process) = self.process() else { return Value::Null };
        let orders = self.monitor().map_or_else(Vec::new, Qmp::orders);
        json!({ "command-line": process.command_line(), "qmp": orders })
    }

    /// What QEMU has counted, when it says too that the migration is completed; `None` of others.
    pub(super) fn counted(&mut self) -> Result<Option<Value>, String> {
        let Self::Qemu { qmp, .. } = self else { return Ok(None) };
        wait_for("end of the migration at the source", END_LIMIT, || {
            let mut state = qmp.command("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => Ok(Some(Some(state["ram"].take()))),
                Some("failed") => Err(format!("the source failed: {}", state["error-desc"])),
                _ => Ok(None),
            }
        })
    }

    /// An error if it has failed.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self {
            Self::Qemu { qmp, process } => {
                process.has_ended()?;
                while let Some(status) = qmp.next_status()? {
                    if status == "failed" {
                        let state = qmp.command("query-migrate", json!({}))?;
                        return Err(format!("the source failed: {}", state["error-desc"]));
                    }
                }
                Ok(())
            }
            Self::Landfall { process, .. } => {
                process.as_mut().map_or(Ok(()), |process| process.has_ended().map(drop))
            }
            Self::None => Ok(()),
        }
    }
}

/// The file with what the destination must have in the end. None where landfall's own source makes
/// the pages, random ones.
pub(super) fn sent_memory<'a>(
    comparison: &Comparison,
    prepared: &'a Prepared,
    contender: &Contender,
) -> Option<&'a Path> {
    let is_qemus = comparison.qemu.is_some() && contender.source == Sender::Given;
    let is_sent = is_qemus || comparison.scenario.content.kind != Kind::Random;
    prepared.memory.as_deref().filter(|_| is_sent)
}

/// `landfall send`'s arguments, all but the address.
fn synthetic(comparison: &Comparison, prepared: &Prepared, contender: &Contender) -> Vec<String> {
    let scenario = &comparison.scenario;
    let mut arguments =
        vec!["send".to_owned(), "--quiet".to_owned(), "--no-return-path".to_owned()];
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    match sent_memory(comparison, prepared, contender) {
        Some(memory) => option("--image", memory.display().to_string()),
        None => {
            option("--ram", contender.ram_bytes.to_string());
            option("--zero", scenario.content.zero_percent.to_string());
        }
    }
    option("--multifd", contender.channels.to_string());
    option("--rounds", "1".to_owned());
    let detection = scenario.zero_page_detection.as_deref();
    option("--zero-page-detection", detection.unwrap_or("multifd").to_owned());
    if let Some(method) = &scenario.compression {
        option("--compression", method.clone());
    }
    if let Some(directory) = &prepared.credentials {
        option("--tls-creds", directory.display().to_string());
    }
    arguments
}

/// Switches capabilities on.
pub(super) fn set_capabilities(qmp: &mut Qmp, names: &[&str]) -> Result<(), String> {
    let all: Vec<_> =
        names.iter().map(|name| json!({ "capability": name, "state": true })).collect();
    qmp.command("migrate-set-capabilities", json!({ "capabilities": all })).map(drop)
}

/// Gives one end its certificates, if the scenario is under TLS.
pub(super) fn add_credentials(
    qmp: &mut Qmp,
    prepared: &Prepared,
    endpoint: &str,
) -> Result<(), String> {
    let Some(directory) = &prepared.credentials else { return Ok(()) };
    let object = json!({
        "qom-type": "tls-creds-x509", "id": "tls0", "endpoint": endpoint, "dir": directory,
    });
    qmp.command("object-add", object)?;
    qmp.command("migrate-set-parameters", json!({ "tls-creds": "tls0" })).map(drop)
}

/// A machine with memory and nothing else, for both ends.
pub(super) const MACHINE: &[&str] = &["-accel", "tcg", "-display", "none", "-nodefaults"];
/// The destination has said already that it has everything.
const END_LIMIT: Duration = Duration::from_secs(30);
