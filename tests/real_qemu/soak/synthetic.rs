//! A run of the synthetic source: as a program that may be killed, or as a library
//! with faults.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use landfall_bench::config::{BlockConfig, SourceConfig};
use landfall_bench::form::{VmdescForm, ZeroForm};
use landfall_bench::send::{End, Fault, Progress, SendOptions, Target, send};
use landfall_bench::{Plan, Version, verify};
use serde_json::Value;
use uuid::Uuid;

use super::chance::{Ended, Must};
use super::receiver::{Listening, Receiver};
use super::{Done, Run, faults, ram_file};
use crate::case::Transport;
use crate::memory_file;
use crate::process::Process;
use crate::random::Random;

/// Sends a guest, as chance has it.
pub(super) fn run(
    run: &Run<'_>,
    random: &mut Random,
    receiver: &mut Receiver,
) -> Result<Done, String> {
    let source = Synthetic::by_chance(run.scratch, random)?;
    let plan = Plan::new(source.config.clone()).map_err(|error| error.to_string())?;
    let fate = Fate::by_chance(&plan, run, random);
    let folder = format!("{}/", run.scratch.display());
    let text = format!("send {} {fate:?}", source.arguments.join(" ").replace(&folder, ""));
    let with_text = |error: String| format!("{text}: {error}");
    let transport = random.pick(&[Transport::Tcp, Transport::Unix]);
    let listening = Listening {
        transport,
        channels: (!run.is_derived).then_some(source.config.channels),
        switchover_ack: source.config.switchover_ack,
    };
    let uri = receiver.listen(&listening).map_err(with_text)?;
    let must = match &fate {
        Fate::Well => source.program(run, &uri, None).map(|()| Must::Complete),
        Fate::Killed { ms } => source.program(run, &uri, Some(*ms)).map(|()| Must::Either),
        Fate::Faulty { fault, must } => {
            library(&plan, &uri, fault, source.pace, *must).map(|()| *must)
        }
    }
    .map_err(with_text)?;
    let end = receiver.ended(&uri).map_err(with_text)?;
    let ended = if must.judge(&end.report).map_err(with_text)? {
        compare(&plan, receiver.run_directory())
            .and_then(|()| compare_counts(&plan, &end.report))
            .map_err(with_text)?;
        Ended::Completed { is_real: false, is_whole: true }
    } else if must == Must::Either || matches!(fate, Fate::Faulty { fault: Fault::Kill { .. }, .. })
    {
        Ended::Killed
    } else {
        Ended::Failed
    };
    let transport = format!("{transport:?}").to_lowercase();
    Ok(Done { ended, line: format!("{ended:<9} {transport} {text}"), report: end.report })
}

/// What becomes of a source.
#[derive(Debug)]
enum Fate {
    Well,
    /// The program, after so long.
    Killed {
        ms: u64,
    },
    Faulty {
        fault: Fault,
        must: Must,
    },
}

impl Fate {
    fn by_chance(plan: &Plan, run: &Run<'_>, random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Killed { ms: random.below(500) as u64 },
            1 | 2 => {
                let (fault, must) = faults::by_chance(plan, run.is_derived, run.is_long, random);
                Self::Faulty { fault, must }
            }
            _ => Self::Well,
        }
    }
}

/// A guest and its wire, as a configuration and as options of `landfall send`.
struct Synthetic {
    config: SourceConfig,
    arguments: Vec<String>,
    pace: Option<u64>,
}

impl Synthetic {
    fn by_chance(scratch: &Path, random: &mut Random) -> Result<Self, String> {
        let channels = if random.one_in(2) {
            random.pick(&[0, 1, 2, 4, 8, 16, 32, 64])
        } else {
            random.within(1, 64) as u8
        };
        let mib = if random.one_in(6) { random.within(64, 160) } else { random.within(4, 40) };
        let config = SourceConfig::new(random.next() >> 32, (mib as u64) << 20, channels);
        let mut source = Self { config, arguments: Vec::new(), pace: None };
        source.option("--multifd", &channels);
        let seed = source.config.seed;
        source.option("--seed", &seed);
        source.version(random);
        source.guest(mib, scratch, random)?;
        source.wire(random);
        if random.one_in(6) {
            let pace = random.pick(&[20_u64, 50, 100]) << 20;
            source.option("--pace", &pace);
            source.pace = Some(pace);
        }
        Ok(source)
    }

    fn version(&mut self, random: &mut Random) {
        let (version, machines) = random.pick(&VERSIONS);
        let family = random.pick(&["pc-q35", "pc-i440fx"]);
        let machine = format!("{family}-{}", random.pick(machines));
        let version = Version::of_machine(version).expect("a version");
        self.config.speak_as(version, &machine).expect("a version");
        self.option("--speak", &version);
        self.option("-M", &machine);
        if self.config.form.configuration && random.one_in(4) {
            self.config.page_bytes = random.pick(&[8192, 16384, 32768, 65536]);
            self.config.target_page_bits = true;
            let page_bytes = self.config.page_bytes;
            self.option("--page-size", &page_bytes);
        }
        if random.one_in(2) {
            let uuid = Uuid::from_u64_pair(random.next() | 1, random.next());
            self.config.uuid = uuid.into_bytes();
            self.option("--uuid", &uuid);
            self.config.validate_uuid = self.config.form.configuration && random.one_in(2);
            self.flag("--validate-uuid", self.config.validate_uuid);
        }
    }

    fn guest(&mut self, mib: usize, scratch: &Path, random: &mut Random) -> Result<(), String> {
        let is_image = random.one_in(8);
        if is_image {
            let image = scratch.join("image");
            let pages = (mib << 20) / memory_file::PAGE_BYTES;
            memory_file::prepare(&image, pages, random.next(), |_| false)
                .map_err(|error| format!("{}: {error}", image.display()))?;
            self.config.blocks = vec![BlockConfig::new("pc.ram", (mib as u64) << 20)];
            self.option("--image", &image.display());
            self.config.images = vec![image];
        } else {
            self.option("--ram", &format_args!("{mib}M"));
        }
        let (dirty, zero) = (random.pick(&[0, 5, 20, 50]), random.pick(&[0, 10, 40, 90]));
        self.config.dirty_share = f64::from(dirty) / 100.0;
        self.config.zero_share = f64::from(zero) / 100.0;
        self.option("--dirty", &dirty);
        self.option("--zero", &zero);
        Ok(())
    }

    fn wire(&mut self, random: &mut Random) {
        let is_snapshot = self.config.channels == 0 && random.one_in(4);
        self.config.rounds = if is_snapshot { 1 } else { random.within(1, 6) as u32 };
        let rounds = self.config.rounds;
        self.option("--rounds", &rounds);
        self.config.rounds_per_part = random.within(1, 3) as u32;
        let rounds_per_part = self.config.rounds_per_part;
        self.option("--rounds-per-section", &rounds_per_part);
        if random.one_in(3) {
            let (name, zero) = random.pick(&[
                ("multifd", ZeroForm::InPackets),
                ("legacy", ZeroForm::OnMain),
                ("none", ZeroForm::FullPages),
            ]);
            self.config.form.zero = zero;
            self.option("--zero-page-detection", &name);
        }
        let early = if random.one_in(4) { random.within(1, 3) as u32 } else { 0 };
        self.config.early_sections = early;
        self.option("--early-sections", &early);
        let forged = if random.one_in(3) { random.within(1, 4) as u32 } else { 0 };
        self.config.devices.forged_tails = forged;
        self.option("--forged-tails", &forged);
        if random.one_in(12) {
            self.config.form.footers = false;
            self.flag("--no-footers", true);
        }
        if random.one_in(12) {
            self.config.form.vmdesc = VmdescForm::Absent;
            self.flag("--no-vmdesc", true);
        }
        if is_snapshot {
            self.config.background_snapshot = true;
            self.config.return_path = false;
            return self.flag("--background-snapshot", true);
        }
        self.config.postcopy_advise = random.one_in(8);
        self.flag("--postcopy-ram", self.config.postcopy_advise);
        // Only a source that closes says where a stream without a description ends.
        let is_silent = self.config.form.vmdesc == VmdescForm::Absent || random.one_in(4);
        self.config.return_path = !is_silent;
        self.flag("--no-return-path", is_silent);
        self.config.switchover_ack = !is_silent && random.one_in(4);
        self.flag("--switchover-ack", self.config.switchover_ack);
    }

    fn option(&mut self, name: &str, value: &dyn std::fmt::Display) {
        self.arguments.extend([name.to_owned(), value.to_string()]);
    }

    fn flag(&mut self, name: &str, is_set: bool) {
        self.arguments.extend(is_set.then(|| name.to_owned()));
    }

    /// `landfall send`, to its own good end or for so many milliseconds.
    fn program(&self, run: &Run<'_>, uri: &str, dies_ms: Option<u64>) -> Result<(), String> {
        let arguments = ["send", uri].into_iter().chain(self.arguments.iter().map(String::as_str));
        let log = run.scratch.join("send.log");
        let mut process = Process::start(&run.programs.landfall, arguments, log)?;
        if let Some(ms) = dies_ms {
            thread::sleep(Duration::from_millis(ms));
            return Ok(()); // dropped is killed
        }
        let status = process.wait(SEND_LIMIT)?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("landfall send ended with {status}: {}", process.log()))
        }
    }
}

/// Sends it with a fault. The receiver's verdict counts, but the source must be
/// content where the run must complete.
fn library(
    plan: &Plan,
    uri: &str,
    fault: &Fault,
    pace: Option<u64>,
    must: Must,
) -> Result<(), String> {
    let target: Target = uri.parse().map_err(|error| format!("{uri}: {error:?}"))?;
    let options = SendOptions {
        bytes_per_second: pace,
        reply_timeout: Some(SEND_LIMIT),
        faults: vec![fault.clone()],
        ..SendOptions::default()
    };
    let end = send(plan, &target, &options, &Progress::new()).end;
    if must == Must::Complete && end != End::Completed {
        return Err(format!("the source ended with {end:?}"));
    }
    Ok(())
}

/// Every page, against the seed or the image.
fn compare(plan: &Plan, run_directory: &Path) -> Result<(), String> {
    let open = |block: &BlockConfig| -> Result<File, String> {
        let path: PathBuf = ram_file(run_directory, &block.name);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found == block.bytes {
            Ok(file)
        } else {
            Err(format!("{}: {found} bytes, {} sent", path.display(), block.bytes))
        }
    };
    let blocks = &plan.config().blocks;
    let files = blocks.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let ram = run_directory.join("ram");
    let found = fs::read_dir(&ram).map_err(|error| format!("{}: {error}", ram.display()))?.count();
    if found != files.len() {
        return Err(format!("{found} files in ram/, {} blocks sent", files.len()));
    }
    verify(plan, 2, |block, offset, out| files[usize::from(block)].read_exact_at(out, offset))
        .map(drop)
        .map_err(|error| error.to_string())
}

/// What was counted, against what was sent.
fn compare_counts(plan: &Plan, report: &Value) -> Result<(), String> {
    let sent = plan.sent();
    for (pointer, wanted) in [
        ("/pages/normal-pages", sent.pages.normal),
        ("/pages/zero-pages", sent.pages.zero),
        ("/pages/unique-pages", sent.unique),
        ("/pages/resent-pages", sent.resent),
        ("/wire/bytes", sent.bytes()),
        ("/wire/main-bytes", sent.main_bytes),
        ("/wire/packets", sent.packets),
        ("/wire/sync-packets", sent.sync_packets),
    ] {
        let found = report.pointer(pointer).unwrap_or(&Value::Null);
        if *found != wanted {
            return Err(format!("{pointer} is {found}, sent were {wanted}"));
        }
    }
    Ok(())
}

/// QEMUs, and machine types that each of them has.
const VERSIONS: [(&str, &[&str]); 7] = [
    ("7.2", &["2.2", "2.3", "2.4", "6.2", "7.2"]),
    ("8.0", &["6.2", "7.2", "8.0"]),
    ("8.2", &["8.0", "8.1", "8.2"]),
    ("9.0", &["8.0", "8.2", "9.0"]),
    ("10.0", &["8.0", "8.2", "9.2", "10.0"]),
    ("11.0", &["9.2", "10.0", "11.0"]),
    ("11.1", &["8.0", "9.2", "11.0", "11.1"]),
];
/// Longest time for a source: it sends at most 1 GiB.
const SEND_LIMIT: Duration = Duration::from_secs(120);
