//! Real sources of other targets than x86: Arm, POWER and s390x, the last two with a section beside
//! ram that only they have. The device state of s390x does not add up by its own description. RAM
//! compared.

use std::fs;

use crate::case::{Case, Guest, Sender};
use crate::destination::Destination;
use crate::forms::case;
use crate::machine::MemoryFile;
use crate::run::{self, Programs, verify_ram};
use crate::source::Source;
use crate::{programs_with, seed, turn};

#[test]
fn guests_of_arm_migrate_whole() {
    migrate_whole(&Target {
        sender: Sender { qemu: "7.2-aarch64", machine: "virt" },
        ram: "mach-virt.ram",
        bytes: 64 << 20,
        beside: None,
    });
}

#[test]
fn guests_of_power_migrate_whole_with_their_hash_table() {
    migrate_whole(&Target {
        sender: Sender { qemu: "7.2-ppc64", machine: "pseries" },
        ram: "ppc_spapr.ram",
        bytes: 256 << 20,
        beside: Some("spapr/htab"),
    });
}

#[test]
fn guests_of_s390x_migrate_whole_with_their_storage_attributes() {
    migrate_whole(&Target {
        sender: Sender { qemu: "7.2-s390x", machine: "s390-ccw-virtio" },
        ram: "s390.ram",
        bytes: 64 << 20,
        beside: Some("s390-storage_attributes"),
    });
}

struct Target {
    sender: Sender,
    /// The machine's own name for its RAM.
    ram: &'static str,
    bytes: u64,
    /// A section beside ram, which landfall passes over.
    beside: Option<&'static str>,
}

fn migrate_whole(target: &Target) {
    let _turn = turn();
    let Some(programs) = programs_with(target.sender.qemu) else { return };
    for (channels, return_path) in [(0, false), (0, true), (2, true)] {
        let case = Case { channels, return_path, ..case(target.sender, Guest::Paused) };
        migrates_whole(&programs, target, &case).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}

fn migrates_whole(programs: &Programs, target: &Target, case: &Case) -> Result<(), String> {
    let Target { ram, bytes, beside, .. } = *target;
    let scratch = run::scratch()?;
    let memory = MemoryFile::prepared(ram, bytes, scratch.path(), seed(), |_| false)?;
    let machine = format!("{},memory-backend={ram}", case.sender.machine);
    let ram_size = format!("{}M", bytes >> 20);
    let arguments = ["-object", &memory.backend(), "-M", &machine, "-m", &ram_size];
    let rest = ["-accel", "tcg", "-nodefaults", "-display", "none", "-S"];
    let arguments = arguments.into_iter().chain(rest).map(str::to_owned).collect();
    let program = programs.qemu(case)?;
    let mut source = Source::start_machine(case, program, arguments, vec![memory], scratch.path())?;
    let mut destination = Destination::start(case, &programs.landfall, scratch.path(), &[])?;
    let uri = destination.uri().to_owned();
    source.migrate(&uri).map_err(|error| destination.blame(&error))?;
    let received = destination.finish(&[])?;
    let blocks = verify_ram(case, &mut source, &received)?;
    let pages = &received.report["pages"];
    let all: u64 = blocks.iter().map(|block| block.bytes / 4096).sum();
    if ["ram-pages", "unique-pages"].iter().any(|name| pages[*name] != all) {
        return Err(format!("{all} pages at the source, received are {pages}"));
    }
    let log = fs::read_to_string(scratch.path().join("landfall.log")).unwrap_or_default();
    match beside.filter(|name| !log.contains(&format!("section {name}: "))) {
        Some(name) => Err(format!("no section {name}: {log}")),
        None => Ok(()),
    }
}
