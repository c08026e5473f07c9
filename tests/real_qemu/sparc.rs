//! A real source whose target has pages of 8 KiB and says so nowhere: sparc64. Without and
//! with multifd, RAM compared.

use std::fs;

use crate::case::{Case, Compression, Guest, Sender};
use crate::destination::Destination;
use crate::forms::case;
use crate::memory_file;
use crate::run::{self, Programs, verify_ram};
use crate::source::Source;
use crate::{programs_with, turn};

#[test]
fn guests_with_pages_of_8_kib_migrate_whole() {
    let _turn = turn();
    let Some(programs) = programs_with(VERSION) else { return };
    for (channels, compression, return_path) in [
        (0, Compression::None, false),
        (0, Compression::None, true),
        (2, Compression::None, true),
        (4, Compression::Zstd, true),
    ] {
        let sender = Sender { qemu: VERSION, machine: "sun4u" };
        let case = Case { channels, compression, return_path, ..case(sender, Guest::Paused) };
        migrates_whole(&programs, &case).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}

fn migrates_whole(programs: &Programs, case: &Case) -> Result<(), String> {
    let scratch = run::scratch()?;
    let machine = ["-M", case.sender.machine, "-m", "64M", "-accel", "tcg,thread=single"];
    let rest = ["-nodefaults", "-display", "none", "-S"];
    let arguments = machine.into_iter().chain(rest).map(str::to_owned).collect();
    let program = programs.qemu(case)?;
    let mut source = Source::start_machine(case, program, arguments, Vec::new(), scratch.path())?;
    // This machine has no memory backend: its RAM is written where the process has it.
    let content = scratch.path().join("content");
    memory_file::prepare(&content, 64 << 8, 1, |_| false).map_err(|error| error.to_string())?;
    let content = fs::read(&content).map_err(|error| error.to_string())?;
    let blocks = source.blocks()?;
    let ram = blocks.iter().find(|block| block.name == "sun4u.ram").ok_or("no sun4u.ram")?;
    source.fill(ram, &content)?;
    let mut destination = Destination::start(case, &programs.landfall, scratch.path(), &[])?;
    let uri = destination.uri().to_owned();
    let state = source.migrate(&uri).map_err(|error| destination.blame(&error))?;
    let received = destination.finish(&[])?;
    let blocks = verify_ram(case, &mut source, &received)?;
    let pages = &received.report["pages"];
    let bytes: u64 = blocks.iter().map(|block| block.bytes).sum();
    let counts = ["page-bytes", "ram-pages", "unique-pages", "normal-pages", "zero-pages"]
        .map(|name| pages[name].as_u64());
    let of_source = ["normal", "duplicate"].map(|name| state["ram"][name].as_u64());
    let [normal, zero] = of_source;
    if counts != [Some(8192), Some(bytes / 8192), Some(bytes / 8192), normal, zero] {
        return Err(format!("{pages}, by the source {}", state["ram"]));
    }
    Ok(())
}

/// As `tests/qemu/find` prints it.
const VERSION: &str = "10.0-sparc64";
