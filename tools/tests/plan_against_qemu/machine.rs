//! A migration with a real QEMU, whose guest writes at a known rate, into landfall.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use landfall_bench::compare::{Content, Kind};
use landfall_bench::forecast::{Calibration, PAGE_BYTES};
use landfall_bench::writing_guest::{BURSTS_PER_SECOND, Writing, walks, write_disk};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::found;
use crate::landfall;
use crate::link::Link;
use crate::process::{Process, wait_until};
use crate::qmp::Qmp;

/// What is migrated, and over what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    pub(crate) ram_mib: u64,
    pub(crate) zero_percent: u8,
    pub(crate) channels: u8,
    /// Writes per second, and over how much memory; none for a stopped guest.
    pub(crate) writes: Option<Writes>,
    /// MiB per second; 0 is no limit.
    pub(crate) max_bandwidth_mib: u64,
    /// Gbit/s; `None` is loopback as it is.
    pub(crate) link_gbit: Option<u64>,
    pub(crate) downtime_limit_ms: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Writes {
    pub(crate) mib_per_second: u64,
    pub(crate) working_set_mib: u64,
}

/// What came of it.
pub(crate) struct Measured {
    /// The source's `query-migrate`.
    pub(crate) source: Value,
    /// The destination's report.
    pub(crate) report: String,
    /// What share of the guest's memory was zero when it began: its writes have left less of that
    /// than there was.
    pub(crate) zero_share: f64,
    /// Bursts of writes per second while the guest ran: 100 if it kept up.
    pub(crate) bursts_per_second: f64,
    /// When the source looked at what is left, what it found, and the parts of its pause.
    pub(crate) trace: String,
}

impl Measured {
    /// What its report tells of costs.
    pub(crate) fn calibration(&self) -> Calibration {
        Calibration::read(&self.report).expect("a report of channels, long enough")
    }

    /// CPU seconds of the destination's readers and its main thread: what the costs are of.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.calibration().cpu_s()
    }

    /// What [`Self::keep`] has written; nothing if it has not.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let mut kept: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        Some(Self {
            source: kept["source"].take(),
            report: kept["report"].to_string(),
            zero_share: kept["zero-share"].as_f64()?,
            bursts_per_second: kept["bursts-per-second"].as_f64()?,
            // Kept beside it, for people.
            trace: String::new(),
        })
    }

    /// Keeps it for other forecasts of the same run.
    pub(crate) fn keep(&self, path: &Path) -> std::io::Result<()> {
        let report: Value = serde_json::from_str(&self.report)?;
        let kept = json!({
            "source": self.source, "report": report, "zero-share": self.zero_share,
            "bursts-per-second": self.bursts_per_second,
        });
        fs::write(path.with_extension("trace"), &self.trace)?;
        fs::write(path, kept.to_string())
    }
}

/// Where migrations are made: a QEMU 10, and a folder for the guests' memory, best of a tmpfs.
pub(crate) struct Host {
    qemu: PathBuf,
    scratch: TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        let scratch = tempfile::Builder::new().prefix("landfall-plan-").tempdir_in("/dev/shm");
        Self {
            qemu: found::qemu("10.0").expect("it needs a real source"),
            scratch: scratch.expect("a folder for the guests' memory"),
        }
    }

    pub(crate) fn make(&self, migration: &Migration) -> Measured {
        migration
            .run(&self.qemu, self.scratch.path())
            .unwrap_or_else(|error| panic!("{migration:?}: {error}"))
    }
}

/// The number behind `name` in a line of a trace.
pub(crate) fn traced(line: &str, name: &str) -> f64 {
    let (_, rest) = line.split_once(name).expect("traced");
    rest.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

/// A network of so many Gbit/s, for people.
pub(crate) fn network(link_gbit: Option<u64>) -> String {
    link_gbit.map_or("loopback".to_owned(), |gbit| format!("{gbit} Gbit/s"))
}

impl Migration {
    /// Makes it, with fresh processes at both ends.
    fn run(&self, qemu: &Path, scratch: &Path) -> Result<Measured, String> {
        let link = self.link_gbit.map(|gbit| Link::of(gbit * 1_000_000_000)).transpose()?;
        let start = |program: &Path, arguments: Vec<String>, log: &str| {
            let log = scratch.join(log);
            match &link {
                Some(link) => {
                    let (program, arguments) = link.enter(program, arguments);
                    Process::start(Path::new(program), arguments, log)
                }
                None => Process::start(program, arguments, log),
            }
        };
        let memory = scratch.join("memory");
        let content = Content { kind: Kind::Random, zero_percent: self.zero_percent };
        content.write(&memory, self.ram_mib << 20).map_err(|error| error.to_string())?;
        self.fill_working_set(&memory).map_err(|error| error.to_string())?;
        let disk = self.write_disk(scratch)?;
        let report = scratch.join("run.json");
        let _ = fs::remove_file(&report);
        let mut destination = start(&landfall(), self.receive(&report), "destination.log")?;
        let socket = scratch.join("monitor");
        let _ = fs::remove_file(&socket);
        let mut source = start(qemu, self.machine(&memory, &disk, &socket), "source.log")?;
        let mut qmp = Qmp::connect(&socket, &mut source)
            .map_err(|error| format!("{error}; {}", source.log()))?;
        qmp.enable(&["multifd", "return-path"])?;
        let parameters = json!({
            "multifd-channels": self.channels,
            "max-bandwidth": self.max_bandwidth_mib << 20,
            "downtime-limit": self.downtime_limit_ms,
        });
        qmp.command("migrate-set-parameters", parameters)?;
        if self.writes.is_some() {
            qmp.command("cont", json!({}))?;
            wait_until("burst of writes", START_LIMIT, || {
                // Before the boot sector clears it, the count is the file's random.
                Ok((10..100_000).contains(&bursts(&memory)?).then_some(()))
            })?;
        }
        wait_until("listening destination", START_LIMIT, || {
            Ok(destination.log().contains("listening on").then_some(()))
        })?;
        thread::sleep(SETTLE);
        let zero_share = zero_share(&memory).map_err(|error| error.to_string())?;
        let bursts_before = bursts(&memory)?;
        qmp.command("migrate", json!({ "uri": URI }))?;
        let answer = wait_until("end of the migration", RUN_LIMIT, || {
            let state = qmp.command("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => Ok(Some(state)),
                Some("failed") | None => Err(format!("{state}; {}", destination.log())),
                Some(_) => Ok(None),
            }
        })
        .map_err(|error| format!("{error}; {}", destination.log()))?;
        let bursts_after = bursts(&memory)?;
        destination.wait(START_LIMIT)?;
        let ms = |name: &str| answer[name].as_f64().unwrap_or(f64::NAN);
        let running_s = (ms("total-time") - ms("downtime")) / 1e3;
        Ok(Measured {
            zero_share,
            bursts_per_second: f64::from(bursts_after.wrapping_sub(bursts_before)) / running_s,
            report: fs::read_to_string(&report).map_err(|error| error.to_string())?,
            source: answer,
            trace: source.log(),
        })
    }

    fn receive(&self, report: &Path) -> Vec<String> {
        // RAM, and room for firmware.
        let pool = format!("{}M", self.ram_mib + 8);
        let channels = self.channels.to_string();
        let report = report.display().to_string();
        ["receive", URI, "--multifd", &channels, "--pool", &pool, "--json", &report, "-i", "60"]
            .map(str::to_owned)
            .to_vec()
    }

    fn machine(&self, memory: &Path, disk: &Path, socket: &Path) -> Vec<String> {
        let memory = format!(
            "memory-backend-file,id=pc.ram,size={}M,share=on,mem-path={}",
            self.ram_mib,
            memory.display()
        );
        let size = format!("{}M", self.ram_mib);
        let drive = format!("file={},format=raw,if=ide,snapshot=on", disk.display());
        let monitor = format!("unix:{},server=on,wait=off", socket.display());
        [
            ["-M", "q35,memory-backend=pc.ram"],
            ["-m", &size],
            ["-object", &memory],
            ["-accel", "tcg,thread=single"],
            ["-drive", &drive],
            ["-qmp", &monitor],
            ["-display", "none"],
            ["-nodefaults", "-S"],
            ["-msg", "timestamp=on"],
            ["-trace", "migrate_transferred"],
            ["-trace", "migrate_pending_exact"],
            ["-trace", "vmstate_downtime_checkpoint"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    }

    /// A guest that has been running has data all over what it writes.
    fn fill_working_set(&self, memory: &Path) -> std::io::Result<()> {
        let pages = self.writes.map_or(0, |writes| (writes.working_set_mib << 20) / PAGE_BYTES);
        let file = File::options().write(true).open(memory)?;
        (0..pages)
            .try_for_each(|page| file.write_all_at(&[1], u64::from(FIRST) + page * PAGE_BYTES))
    }

    /// The disk that boots the writing guest.
    fn write_disk(&self, scratch: &Path) -> Result<PathBuf, String> {
        let Writes { mib_per_second, working_set_mib } =
            self.writes.unwrap_or(Writes { mib_per_second: 1, working_set_mib: 1 });
        let pages = |bytes: u64| u32::try_from(bytes / 4096).map_err(|error| error.to_string());
        let writing = Writing::Random {
            pages: pages(working_set_mib << 20)?,
            writes: pages(mib_per_second << 20)? / BURSTS_PER_SECOND,
        };
        let disk = scratch.join("disk");
        write_disk(&disk, FIRST, writing).map_err(|error| error.to_string())?;
        Ok(disk)
    }
}

/// How many bursts the guest has made.
fn bursts(memory: &Path) -> Result<u32, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", memory.display());
    walks(&File::open(memory).map_err(failed)?).map_err(failed)
}

/// What share of a file's pages is zero.
fn zero_share(path: &Path) -> std::io::Result<f64> {
    let mut file = File::open(path)?;
    const PAGE: usize = PAGE_BYTES as usize;
    let mut pages = vec![0; PAGE * 256];
    let (mut all, mut zero) = (0_u64, 0_u64);
    loop {
        let read = file.read(&mut pages)?;
        if read == 0 {
            return Ok(zero as f64 / all.max(1) as f64);
        }
        for page in pages[..read].chunks(PAGE) {
            all += 1;
            zero += u64::from(page == &[0; PAGE][..page.len()]);
        }
    }
}

const URI: &str = "tcp:127.0.0.1:4478";
/// The guest writes above the BIOS's own memory.
const FIRST: u32 = 16 << 20;
const START_LIMIT: Duration = Duration::from_secs(30);
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// Until the guest's start is over.
const SETTLE: Duration = Duration::from_millis(500);
