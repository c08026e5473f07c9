//! The source of a comparison: a real QEMU with a prepared guest, or the synthetic one.

use std::path::Path;

use serde_json::json;

use super::{Comparison, process::Process, qmp::Qmp};

/// A source that has been started and waits for the order to migrate.
pub(super) enum Source<'a> {
    /// A stopped guest with its memory in a file.
    Qemu { process: Process, qmp: Qmp },
    /// `landfall send`, or `landfall replay`, started with the order.
    Landfall { comparison: &'a Comparison, process: Option<Process> },
}

impl<'a> Source<'a> {
    pub(super) fn start(comparison: &'a Comparison, memory: &Path) -> Result<Self, String> {
        let qemu = comparison.qemu.as_ref().filter(|_| comparison.recording.is_none());
        let Some(qemu) = qemu else {
            return Ok(Self::Landfall { comparison, process: None });
        };
        let bytes = comparison.ram_bytes;
        let socket = comparison.scratch.join("source.qmp");
        let _ = std::fs::remove_file(&socket);
        let memory = format!(
            "memory-backend-file,id=pc.ram,size={bytes},share=on,mem-path={}",
            memory.display()
        );
        let size = format!("{bytes}B");
        let monitor = format!("unix:{},server=on,wait=off", socket.display());
        let guest = ["-M", "q35,memory-backend=pc.ram", "-S", "-m", &size, "-object", &memory];
        let arguments = MACHINE.iter().copied().chain(guest).chain(["-qmp", &monitor]);
        let mut process = Process::start(qemu, arguments, comparison.scratch.join("source.log"))?;
        let mut qmp = Qmp::connect(&socket, &mut process)?;
        let scenario = &comparison.scenario;
        set_capabilities(&mut qmp, &scenario.capabilities())?;
        add_credentials(&mut qmp, comparison, "client")?;
        let mut parameters = scenario.parameters();
        // A stopped guest has no other reason to be slow.
        parameters.insert("max-bandwidth".to_owned(), json!(1u64 << 40));
        if let Some(how) = scenario.zero_page_detection {
            parameters.insert("zero-page-detection".to_owned(), json!(how));
        }
        qmp.command("migrate-set-parameters", parameters.into())?;
        Ok(Self::Qemu { process, qmp })
    }

    /// Gives the order.
    pub(super) fn migrate(&mut self, uri: &str) -> Result<(), String> {
        match self {
            Self::Qemu { qmp, .. } => qmp.command("migrate", json!({ "uri": uri })).map(drop),
            Self::Landfall { comparison, process } => {
                let scenario = &comparison.scenario;
                let log = comparison.scratch.join("source.log");
                if let Some(recording) = &comparison.recording {
                    let recording = recording.display().to_string();
                    let arguments = ["replay", &recording, uri, "--quiet"];
                    *process = Some(Process::start(&comparison.landfall, arguments, log)?);
                    return Ok(());
                }
                let mut arguments = vec!["send".to_owned(), uri.to_owned(), "--quiet".to_owned()];
                let options = [
                    ("--ram", comparison.ram_bytes.to_string()),
                    ("--multifd", scenario.channels.to_string()),
                    ("--zero", scenario.content.zero_percent.to_string()),
                    ("--rounds", "1".to_owned()),
                    ("--zero-page-detection", {
                        scenario.zero_page_detection.unwrap_or("multifd").to_owned()
                    }),
                ];
                arguments
                    .extend(options.into_iter().flat_map(|(name, value)| [name.into(), value]));
                arguments.push("--no-return-path".to_owned());
                *process = Some(Process::start(&comparison.landfall, arguments, log)?);
                Ok(())
            }
        }
    }

    /// CPU seconds so far.
    pub(super) fn cpu_s(&self) -> Result<f64, String> {
        match self {
            Self::Qemu { process, .. } | Self::Landfall { process: Some(process), .. } => {
                process.cpu().map(|cpu| cpu.total_s)
            }
            Self::Landfall { process: None, .. } => Ok(0.0),
        }
    }

    /// An error if it has failed.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self {
            Self::Qemu { qmp, .. } => {
                let state = qmp.command("query-migrate", json!({}))?;
                if state["status"] == "failed" {
                    return Err(format!("the source failed: {}", state["error-desc"]));
                }
                Ok(())
            }
            Self::Landfall { process, .. } => {
                process.as_mut().map_or(Ok(()), |process| process.has_ended().map(drop))
            }
        }
    }
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
    comparison: &Comparison,
    endpoint: &str,
) -> Result<(), String> {
    if !comparison.scenario.is_tls {
        return Ok(());
    }
    let Some(directory) = &comparison.tls_creds else {
        return Err("no certificates: --tls-creds DIR".to_owned());
    };
    let object = json!({
        "qom-type": "tls-creds-x509", "id": "tls0", "endpoint": endpoint, "dir": directory,
    });
    qmp.command("object-add", object)?;
    qmp.command("migrate-set-parameters", json!({ "tls-creds": "tls0" })).map(drop)
}

/// A machine with memory and nothing else, for both ends.
pub(super) const MACHINE: &[&str] = &["-accel", "tcg", "-display", "none", "-nodefaults"];
