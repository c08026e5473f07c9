//! Migrations whose way is handed over: descriptors of the test's own, given to either
//! side by its monitor or by inheritance, and addresses as JSON `channels`. From real
//! QEMUs, RAM compared.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};

use crate::case::{Case, Guest, Tls};
use crate::certificates::CLIENT_NAME;
use crate::credentials;
use crate::destination::{Received, completed};
use crate::forms::{case, each, source};
use crate::process::{Process, wait_until};
use crate::qmp::Qmp;
use crate::run::{self, Programs, verify};
use crate::source::Source;

#[test]
fn a_socket_a_pipe_and_a_file_handed_over_carry_a_migration() {
    // How landfall gets its end: each kind at least once, each way at least twice.
    for (kind, getfd) in
        [(Kind::Socket, true), (Kind::Socket, false), (Kind::Pipe, false), (Kind::File, true)]
    {
        each(&["7.2", "10.0"], |programs, sender| {
            let (mut source, scratch) = source(programs, sender, &[], Guest::Paused)?;
            let (writes, reads) = kind.ends(scratch.path()).map_err(text)?;
            let state = if kind == Kind::File { Some(save(&mut source, &writes)?) } else { None };
            let receiving = if getfd {
                let mut receiving = Receiving::by_qmp(programs, scratch.path())?;
                getfd_named(receiving.qmp(), &reads)?;
                receiving.qmp().command("migrate-incoming", json!({ "uri": "fd:mig" }))?;
                receiving
            } else {
                let uri = format!("fd:{}", inherited(&reads)?.as_raw_fd());
                Receiving::start(programs, &uri, scratch.path(), &[])?
            };
            drop(reads);
            let state = state.map_or_else(|| save(&mut source, &writes), Ok)?;
            drop(writes);
            let received = receiving.finish()?;
            let case = case(sender, Guest::Paused);
            verify(&case, &mut source, &state, &received)
                .map(drop)
                .map_err(|error| format!("{kind:?}, getfd {getfd}: {error}"))
        });
    }
}

#[test]
fn a_socket_handed_over_carries_a_migration_under_tls() {
    for (tls, getfd) in [(Tls::Default, true), (Tls::Only1_2, false)] {
        each(&["7.2", "10.0"], |programs, sender| {
            let case = Case { tls, return_path: true, ..case(sender, Guest::Paused) };
            let scratch = run::scratch()?;
            let mut source = Source::start(&case, programs.qemu(&case)?, scratch.path(), 1)?;
            let (writes, reads) = Kind::Socket.ends(scratch.path()).map_err(text)?;
            let receiving = under_tls(programs, scratch.path(), &reads, getfd)?;
            drop(reads);
            let state = save(&mut source, &writes)?;
            drop(writes);
            let received = receiving.finish()?;
            verify(&case, &mut source, &state, &received)
                .map(drop)
                .map_err(|error| format!("{tls:?}, getfd {getfd}: {error}"))
        });
    }
}

#[test]
fn under_tls_what_cannot_be_answered_fails_on_both_sides() {
    for kind in [Kind::Pipe, Kind::File] {
        each(&["7.2", "10.0"], |programs, sender| {
            let case = Case { tls: Tls::Default, ..case(sender, Guest::Paused) };
            let scratch = run::scratch()?;
            let mut source = Source::start(&case, programs.qemu(&case)?, scratch.path(), 1)?;
            let (writes, reads) = kind.ends(scratch.path()).map_err(text)?;
            getfd_named(source.qmp(), &writes)?;
            source.begin("fd:mig")?;
            source.wait_for("failed")?;
            let receiving = under_tls(programs, scratch.path(), &reads, true)?;
            let told = receiving.failed()?;
            if told == "fd:mig is no socket, and TLS needs answers: unset tls-creds on both sides" {
                Ok(())
            } else {
                Err(format!("{kind:?}: {told}"))
            }
        });
    }
}

/// Receives from `reads` under TLS, given over the monitor or inherited.
fn under_tls(
    programs: &Programs,
    scratch: &Path,
    reads: &OwnedFd,
    getfd: bool,
) -> Result<Receiving, String> {
    if getfd {
        let mut receiving = Receiving::by_qmp(programs, scratch)?;
        credentials::add(receiving.qmp(), "server", None)?;
        getfd_named(receiving.qmp(), reads)?;
        receiving.qmp().command("migrate-incoming", json!({ "uri": "fd:mig" }))?;
        return Ok(receiving);
    }
    let uri = format!("fd:{}", inherited(reads)?.as_raw_fd());
    let directory = credentials::directory().display().to_string();
    let options = ["--tls-creds", &directory, "--tls-authz", CLIENT_NAME];
    Receiving::start(programs, &uri, scratch, &options)
}

#[test]
fn channels_of_migrate_incoming_name_where_a_real_source_comes() {
    for (channels, transport) in [(2, "inet"), (2, "unix"), (0, "exec"), (0, "file")] {
        each(&["7.2", "10.0"], |programs, sender| {
            let capabilities: &[&str] = if channels > 0 { &["multifd"] } else { &[] };
            let (mut source, scratch) = source(programs, sender, capabilities, Guest::Paused)?;
            let case = Case { channels, ..case(sender, Guest::Paused) };
            let path = scratch.path().join("way").display().to_string();
            let mut saved = None;
            let addr = match transport {
                "inet" => {
                    json!({ "transport": "socket", "type": "inet", "host": "127.0.0.1", "port": "0" })
                }
                "unix" => json!({ "transport": "socket", "type": "unix", "path": path }),
                _ => {
                    saved = Some(source.migrate(&format!("exec:cat > {path}"))?);
                    match transport {
                        "exec" => json!({ "transport": "exec", "args": ["/bin/cat", path] }),
                        _ => json!({ "transport": "file", "filename": path, "offset": 0 }),
                    }
                }
            };
            let mut receiving = Receiving::by_qmp(programs, scratch.path())?;
            receiving.qmp().enable(capabilities)?;
            receiving
                .qmp()
                .command("migrate-incoming", json!({ "channels": [main_channel(&addr)] }))?;
            let state = match saved {
                Some(state) => state,
                None => {
                    let told = receiving.qmp().command("query-migrate", json!({}))?;
                    migrate_to(&mut source, &told["socket-address"][0], sender.qemu)?
                }
            };
            let received = receiving.finish()?;
            verify(&case, &mut source, &state, &received)
                .map(drop)
                .map_err(|error| format!("{transport}: {error}"))
        });
    }
}

#[test]
fn mapped_ram_files_are_loaded_by_way_of_descriptor_sets() {
    let multifd: &[&str] = &["mapped-ram", "multifd"];
    for (capabilities, direct_io, by_qmp) in
        [(&["mapped-ram"][..], false, true), (multifd, true, true), (multifd, true, false)]
    {
        each(&["10.0"], |programs, sender| {
            let (mut source, scratch) = source(programs, sender, capabilities, Guest::Paused)?;
            let path = scratch.path().join("saved");
            // The source has its sets too: one that may write, one that may besides that
            // write past the page cache.
            for flags in if direct_io { &[0, libc::O_DIRECT][..] } else { &[0] } {
                let mut options = File::options();
                let options = options.write(true).create(true).custom_flags(*flags);
                let file = options.open(&path).map_err(text)?;
                source.qmp().command_with("add-fd", json!({ "fdset-id": 4 }), &[file.as_fd()])?;
            }
            let parameters = json!({ "direct-io": direct_io });
            source.qmp().command("migrate-set-parameters", parameters.clone())?;
            let state = source.migrate("file:/dev/fdset/4,offset=65536")?;
            let (plain, direct) = (opened(&path, 0)?, opened(&path, libc::O_DIRECT)?);
            let uri = "file:/dev/fdset/5,offset=65536";
            let receiving = if by_qmp {
                let mut receiving = Receiving::by_qmp(programs, scratch.path())?;
                let qmp = receiving.qmp();
                qmp.enable(capabilities)?;
                qmp.command("migrate-set-parameters", parameters)?;
                for file in [&direct, &plain] {
                    qmp.command_with("add-fd", json!({ "fdset-id": 5 }), &[file.as_fd()])?;
                }
                qmp.command("migrate-incoming", json!({ "uri": uri }))?;
                receiving
            } else {
                let sets = [&plain, &direct].map(|file| {
                    inherited(file).map(|file| format!("--add-fd=fd={},set=5", file.as_raw_fd()))
                });
                let [plain, direct] = sets;
                let options = ["--direct-io", &plain?, &direct?];
                Receiving::start(programs, uri, scratch.path(), &options)?
            };
            let received = receiving.finish()?;
            let case = case(sender, Guest::Paused);
            verify(&case, &mut source, &state, &received)
                .map(drop)
                .map_err(|error| format!("{capabilities:?}, by QMP {by_qmp}: {error}"))
        });
    }
}

fn opened(path: &Path, flags: i32) -> Result<OwnedFd, String> {
    File::options().read(true).custom_flags(flags).open(path).map(OwnedFd::from).map_err(text)
}

/// Migrates to the socket address that a destination told: with `channels` of its own
/// where the source has them.
fn migrate_to(source: &mut Source, told: &Value, qemu: &str) -> Result<Value, String> {
    if qemu == "7.2" {
        let uri = match told["type"].as_str() {
            Some("unix") => format!("unix:{}", told["path"].as_str().unwrap_or_default()),
            _ => format!("tcp:127.0.0.1:{}", told["port"].as_str().unwrap_or_default()),
        };
        return source.migrate(&uri);
    }
    let mut addr = told.clone();
    addr["transport"] = "socket".into();
    source.migrate_with(json!({ "channels": [main_channel(&addr)] }))
}

fn main_channel(addr: &Value) -> Value {
    json!({ "channel-type": "main", "addr": addr })
}

/// What a stream goes through.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Socket,
    Pipe,
    File,
}

impl Kind {
    /// The source's end and ours.
    fn ends(self, scratch: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
        match self {
            Self::Socket => UnixStream::pair().map(|(a, b)| (a.into(), b.into())),
            Self::Pipe => io::pipe().map(|(reads, writes)| (writes.into(), reads.into())),
            Self::File => {
                let path = scratch.join("saved");
                let writes = File::create_new(&path)?;
                Ok((writes.into(), File::open(&path)?.into()))
            }
        }
    }
}

/// Migrates into `descriptor`; the final answer of `query-migrate`.
fn save(source: &mut Source, descriptor: &OwnedFd) -> Result<Value, String> {
    getfd_named(source.qmp(), descriptor)?;
    source.migrate("fd:mig")
}

/// Hands a descriptor over under the name `mig`.
fn getfd_named(qmp: &mut Qmp, descriptor: &OwnedFd) -> Result<(), String> {
    qmp.command_with("getfd", json!({ "fdname": "mig" }), &[descriptor.as_fd()]).map(drop)
}

/// Lets the programs started from now on have `descriptor`, by its number.
pub(crate) fn inherited(descriptor: &OwnedFd) -> Result<BorrowedFd<'_>, String> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|error| error.to_string())?;
    Ok(descriptor.as_fd())
}

/// A landfall that receives from one given stream, or is told by QMP where from.
pub(crate) struct Receiving {
    process: Process,
    qmp: Option<Qmp>,
    report: PathBuf,
    run_directory: PathBuf,
}

impl Receiving {
    /// Receives from `uri`.
    pub(crate) fn start(
        programs: &Programs,
        uri: &str,
        scratch: &Path,
        options: &[&str],
    ) -> Result<Self, String> {
        let (run_directory, report) = (scratch.join("run"), scratch.join("run.json"));
        fs::create_dir(&run_directory).map_err(text)?;
        let paths = [report.display().to_string(), run_directory.display().to_string()];
        let fixed = ["receive", uri, "--quiet", "--hugepages", "off", "--json", &paths[0]];
        let arguments = [&fixed[..], &["--dump", &paths[1]], options].concat();
        let log = scratch.join("landfall.log");
        let process = Process::start(&programs.landfall, arguments, log)?;
        Ok(Self { process, qmp: None, report, run_directory })
    }

    /// Waits for commands on a monitor.
    pub(crate) fn by_qmp(programs: &Programs, scratch: &Path) -> Result<Self, String> {
        let socket = scratch.join("landfall.qmp");
        let monitor = format!("unix:{},server=on,wait=off", socket.display());
        let mut receiving = Self::start(programs, "defer", scratch, &["--qmp", &monitor])?;
        receiving.qmp = Some(Qmp::connect(&socket, &mut receiving.process)?);
        Ok(receiving)
    }

    /// Its monitor.
    pub(crate) fn qmp(&mut self) -> &mut Qmp {
        self.qmp.as_mut().expect("it was started with a monitor")
    }

    /// Waits until a run on a monitor has failed; why.
    fn failed(mut self) -> Result<String, String> {
        wait_until("failed destination", END_LIMIT, || {
            let answer = self.qmp().command("query-migrate", json!({}))?;
            let why = answer["error-desc"].as_str().map(str::to_owned);
            Ok(why.filter(|_| answer["status"] == "failed"))
        })
    }

    /// Waits for the end of the run and of the program.
    pub(crate) fn finish(mut self) -> Result<Received, String> {
        let mut query_migrate = None;
        if let Some(qmp) = &mut self.qmp {
            query_migrate = Some(completed(qmp)?);
            qmp.command("quit", json!({}))?;
        }
        let status = self.process.wait(END_LIMIT)?;
        if !status.success() {
            return Err(format!("landfall ended with {status}: {}", self.process.log()));
        }
        let report = fs::read(&self.report).map_err(text)?;
        let report = serde_json::from_slice(&report).map_err(|error| error.to_string())?;
        Ok(Received { report, query_migrate, run_directory: self.run_directory })
    }
}

fn text(error: io::Error) -> String {
    error.to_string()
}

/// Longest wait for the end of a run whose source has completed.
const END_LIMIT: Duration = Duration::from_secs(60);
