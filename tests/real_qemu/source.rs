//! A real QEMU as the source of a migration.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use landfall_bench::writing_guest;
use serde_json::{Value, json};

use crate::case::{Case, Extra, Guest, Tls, ZeroPages};
use crate::credentials;
use crate::machine::{self, MemoryFile};
use crate::process::{Process, wait_until};
use crate::qmp::Qmp;

/// A QEMU with its memory in files that others can read.
pub(crate) struct Source {
    case: Case,
    process: Process,
    qmp: Qmp,
    memory: Vec<MemoryFile>,
    scratch: PathBuf,
}

/// What a source says of XBZRLE: `pages` that it found in its cache, some of them
/// unchanged and so never sent; `bytes` that it has sent for the others.
pub(crate) fn xbzrle(state: &Value, member: &str) -> u64 {
    state["xbzrle-cache"][member].as_u64().unwrap_or(0)
}

/// A RAM block as the source knows it.
pub(crate) struct SourceBlock {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Where it lies in the source's process, as newer versions tell.
    host_address: Option<u64>,
}

impl Source {
    /// Starts the QEMU at `program`; its guest is stopped, or runs and has
    /// begun to dirty memory. All files are made in `scratch`.
    pub(crate) fn start(
        case: &Case,
        program: &Path,
        scratch: &Path,
        seed: u64,
    ) -> Result<Self, String> {
        Self::start_with(case, program, scratch, seed, &[])
    }

    /// As [`start`](Self::start), a machine with `more` arguments.
    pub(crate) fn start_with(
        case: &Case,
        program: &Path,
        scratch: &Path,
        seed: u64,
        more: &[&str],
    ) -> Result<Self, String> {
        let memory = machine::prepare_memory(case, scratch, seed)?;
        let disk = scratch.join("guest.img");
        machine::write_disk(&disk)?;
        let mut arguments = machine::arguments(case, &memory, &disk);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        Self::start_machine(case, program, arguments, memory, scratch)
    }

    /// Starts the QEMU at `program` with these arguments and a monitor; `memory` are its
    /// files, if it has any.
    pub(crate) fn start_machine(
        case: &Case,
        program: &Path,
        mut arguments: Vec<String>,
        memory: Vec<MemoryFile>,
        scratch: &Path,
    ) -> Result<Self, String> {
        let socket = scratch.join("source.qmp");
        arguments.push("-qmp".to_owned());
        arguments.push(format!("unix:{},server=on,wait=off", socket.display()));
        let mut process = Process::start(program, arguments, scratch.join("source.log"))?;
        let qmp = match Qmp::connect(&socket, &mut process) {
            Ok(qmp) => qmp,
            Err(error) => {
                return Err(format!("source: {error}; {}", process.log()));
            }
        };
        let scratch = scratch.to_owned();
        let mut source = Self { case: *case, process, qmp, memory, scratch };
        source.configure()?;
        if case.guest == Guest::Running {
            source.run_guest()?;
        }
        Ok(source)
    }

    /// Migrates to `uri` until the source says `completed`; returns its final
    /// `query-migrate` answer.
    pub(crate) fn migrate(&mut self, uri: &str) -> Result<Value, String> {
        self.migrate_with(json!({ "uri": uri }))
    }

    /// As [`migrate`](Self::migrate), with other arguments than a URI.
    pub(crate) fn migrate_with(&mut self, arguments: Value) -> Result<Value, String> {
        self.qmp.command("migrate", arguments)?;
        self.complete()
    }

    /// Its monitor.
    pub(crate) fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Starts the migration and does not wait.
    pub(crate) fn begin(&mut self, uri: &str) -> Result<(), String> {
        self.qmp.command("migrate", json!({ "uri": uri })).map(drop)
    }

    /// Waits until the migration has this status.
    pub(crate) fn wait_for(&mut self, status: &str) -> Result<(), String> {
        wait_until(&format!("source that is `{status}`"), MIGRATION_LIMIT, || {
            let state = self.qmp.command("query-migrate", json!({}))?;
            Ok((state["status"] == status).then_some(()))
        })
    }

    /// What the migration and the guest are in.
    pub(crate) fn states(&mut self) -> Result<(String, String), String> {
        let [migration, guest] = ["query-migrate", "query-status"].map(|command| {
            let answer = self.qmp.command(command, json!({}))?;
            Ok::<_, String>(answer["status"].as_str().unwrap_or_default().to_owned())
        });
        Ok((migration?, guest?))
    }

    /// Kills it at once; returns its memory files, which stay as they are.
    pub(crate) fn kill(self) -> Vec<MemoryFile> {
        let Self { process, memory, .. } = self;
        drop(process);
        memory
    }

    /// Waits until the migration that has begun says `completed`; returns its final
    /// `query-migrate` answer.
    pub(crate) fn complete(&mut self) -> Result<Value, String> {
        let mut is_released = self.case.guest == Guest::Paused;
        let mut is_continued = false;
        wait_until("end of the migration at the source", MIGRATION_LIMIT, || {
            let state = self.qmp.command("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => return Ok(Some(state)),
                Some("failed" | "cancelled") | None => {
                    return Err(format!("source: {state}; {}", self.process.log()));
                }
                Some("pre-switchover") if !is_continued => {
                    // The destination must bear a silence here.
                    thread::sleep(Duration::from_millis(200));
                    self.qmp.command("migrate-continue", json!({ "state": "pre-switchover" }))?;
                    is_continued = true;
                }
                Some(_) => {}
            }
            let rounds = state.pointer("/ram/dirty-sync-count").and_then(Value::as_u64);
            // A page goes as XBZRLE only if it was in the source's cache: on a busy host that
            // may take more rounds.
            let is_enough = self.case.extra != Extra::Xbzrle || xbzrle(&state, "bytes") > 0;
            if !is_released && rounds >= Some(ROUNDS) && is_enough {
                self.set_parameters(json!({ "max-bandwidth": FAST, "downtime-limit": 5000 }))?;
                is_released = true;
            }
            Ok(None)
        })
        .map_err(|error| format!("{error}; source: {}", self.process.log()))
    }

    /// Every RAM block, by the monitor's `info ramblock`.
    pub(crate) fn blocks(&mut self) -> Result<Vec<SourceBlock>, String> {
        let text = self
            .qmp
            .command("human-monitor-command", json!({ "command-line": "info ramblock" }))?;
        let text = text.as_str().unwrap_or_default();
        text.lines()
            .skip(1) // the heading
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                parse_block(line).ok_or_else(|| format!("cannot read `{line}` of info ramblock"))
            })
            .collect()
    }

    /// The content of a block as a file, where this source can show it: its
    /// memory file, else what its process holds, else (7.2) the firmware alone,
    /// read through the processor's eyes.
    pub(crate) fn content(&mut self, block: &SourceBlock) -> Result<Option<PathBuf>, String> {
        if let Some(file) = self.memory.iter().find(|file| file.is_below(&block.name)) {
            return Ok(Some(file.path.clone()));
        }
        let path = self.scratch.join("source-block");
        if let Some(address) = block.host_address {
            let process_memory = format!("/proc/{}/mem", self.process.id());
            let failed = |error: std::io::Error| format!("{process_memory}: {error}");
            let mut content = vec![0; block.bytes as usize];
            let memory = File::open(&process_memory).map_err(failed)?;
            memory.read_exact_at(&mut content, address).map_err(failed)?;
            fs::write(&path, content).map_err(failed)?;
            return Ok(Some(path));
        }
        if block.name != "pc.bios" {
            return Ok(None);
        }
        // It ends at 4 GiB.
        let from = (1_u64 << 32) - block.bytes;
        let filename = path.display().to_string();
        let arguments = json!({ "val": from, "size": block.bytes, "filename": filename });
        self.qmp.command("pmemsave", arguments)?;
        Ok(Some(path))
    }

    /// Writes `content` over the beginning of a block, as the process has it.
    pub(crate) fn fill(&mut self, block: &SourceBlock, content: &[u8]) -> Result<(), String> {
        let address = block.host_address.ok_or("this source does not tell its addresses")?;
        let path = format!("/proc/{}/mem", self.process.id());
        File::options()
            .write(true)
            .open(&path)
            .and_then(|memory| memory.write_all_at(content, address))
            .map_err(|error| format!("{path}: {error}"))
    }

    fn configure(&mut self) -> Result<(), String> {
        let mut capabilities = vec!["events"];
        if self.case.channels > 0 {
            capabilities.push("multifd");
        }
        if self.case.return_path {
            capabilities.push("return-path");
        }
        match self.case.extra {
            Extra::Plain | Extra::VirtioMem | Extra::NoDescription => {}
            Extra::SwitchoverAck => capabilities.push("switchover-ack"),
            Extra::ValidateUuid => capabilities.push("validate-uuid"),
            Extra::Xbzrle => capabilities.push("xbzrle"),
            Extra::PauseBeforeSwitchover => capabilities.push("pause-before-switchover"),
        }
        self.qmp.enable(&capabilities)?;
        if self.case.channels > 0 {
            self.set_parameters(json!({
                "multifd-channels": self.case.channels,
                "multifd-compression": self.case.compression.name(),
            }))?;
        }
        match self.case.tls {
            Tls::Off => {}
            Tls::Default => credentials::add(&mut self.qmp, "client", None)?,
            Tls::Only1_2 => {
                credentials::add(&mut self.qmp, "client", Some("NORMAL:-VERS-TLS1.3"))?;
            }
        }
        let detection = match self.case.zero_pages {
            ZeroPages::Default => None,
            ZeroPages::None => Some("none"),
            ZeroPages::Legacy => Some("legacy"),
            ZeroPages::Multifd => Some("multifd"),
        };
        if let Some(detection) = detection {
            self.set_parameters(json!({ "zero-page-detection": detection }))?;
        }
        match self.case.guest {
            Guest::Paused => self.set_parameters(json!({ "max-bandwidth": FAST })),
            // Too slow and too strict to end by itself: see `migrate`.
            Guest::Running => {
                self.set_parameters(json!({ "max-bandwidth": SLOW, "downtime-limit": 1 }))
            }
        }
    }

    fn set_parameters(&mut self, parameters: Value) -> Result<(), String> {
        self.qmp.command("migrate-set-parameters", parameters).map(drop)
    }

    fn run_guest(&mut self) -> Result<(), String> {
        self.qmp.command("cont", json!({}))?;
        let memory = File::open(&self.memory[0].path).map_err(|error| error.to_string())?;
        wait_until("walk of the guest over its memory", Duration::from_secs(60), || {
            let walks = writing_guest::walks(&memory).map_err(|error| error.to_string())?;
            // Before the boot sector clears it, the count is the file's random.
            Ok((2..10_000).contains(&walks).then_some(()))
        })
    }
}

/// A line such as `pc.bios  4 KiB  0x… 0x… 0x…`: name, page size (two words),
/// offset, used length, total length and, from 8.2 on, the host address.
fn parse_block(line: &str) -> Option<SourceBlock> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    Some(SourceBlock {
        name: (*words.first()?).to_owned(),
        bytes: number(words.get(4)?)?,
        host_address: words.get(6).and_then(|word| number(word)),
    })
}

/// Rounds a running guest must go through before it may stop.
const ROUNDS: u64 = 4;
/// Bytes per second: no limit in practice.
const FAST: u64 = 64 << 30;
/// Bytes per second at which 16 MiB dirtied 18 times a second never fit.
const SLOW: u64 = 96 << 20;
/// Longest migration: one takes about a second.
const MIGRATION_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_line_of_info_ramblock_gives_name_used_length_and_host_address() {
    let old = "   /rom@etc/table-loader    4 KiB  0x00000000043c0000 0x0000000000001000 0x0000000000010000";
    let block = parse_block(old).unwrap();
    assert_eq!((block.name.as_str(), block.bytes), ("/rom@etc/table-loader", 0x1000));
    assert_eq!(block.host_address, None);
    let new = format!("{old} 0x00007f79d8400000 ro");
    assert_eq!(parse_block(&new).unwrap().host_address, Some(0x7f79_d840_0000));
}
