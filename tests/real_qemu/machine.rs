//! The machine that migrates: its memory files and its command line.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use landfall_bench::writing_guest::{self, Writing};

use crate::case::{Case, Extra};
use crate::memory_file::{self, PAGE_BYTES};

/// One memory backend and the file below it.
pub(crate) struct MemoryFile {
    pub(crate) path: PathBuf,
    id: &'static str,
    bytes: u64,
}

impl MemoryFile {
    /// Makes the file of the backend `id`, with content from `seed`.
    pub(crate) fn prepared(
        id: &'static str,
        bytes: u64,
        scratch: &Path,
        seed: u64,
        must_be_zero: impl Fn(usize) -> bool,
    ) -> Result<Self, String> {
        let path = scratch.join(format!("source-{id}"));
        memory_file::prepare(&path, bytes as usize / PAGE_BYTES, seed, must_be_zero)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, id, bytes })
    }

    /// The backend, as `-object` has it.
    pub(crate) fn backend(&self) -> String {
        let Self { path, id, bytes } = self;
        let path = path.display();
        format!("memory-backend-file,id={id},size={bytes},mem-path={path},share=on")
    }

    /// Whether this file is the content of the block called `block`: the block
    /// has the backend's id for its name, with `/objects/` before it on machines
    /// of QEMU up to 4.0.
    pub(crate) fn is_below(&self, block: &str) -> bool {
        block.strip_prefix("/objects/").unwrap_or(block) == self.id
    }
}

/// Makes the source's memory files, with content from `seed`.
pub(crate) fn prepare_memory(
    case: &Case,
    scratch: &Path,
    seed: u64,
) -> Result<Vec<MemoryFile>, String> {
    let mut files = Vec::new();
    for (index, &(id, bytes)) in sizes(case).iter().enumerate() {
        let must_be_zero = |page| index == 0 && flips(page);
        let seed = seed.wrapping_add(index as u64);
        files.push(MemoryFile::prepared(id, bytes, scratch, seed, must_be_zero)?);
    }
    Ok(files)
}

/// Writes the disk that the guest boots from which dirties its memory.
pub(crate) fn write_disk(path: &Path) -> Result<(), String> {
    writing_guest::write_disk(path, WRITTEN.start, Writing::Pages { end: WRITTEN.end })
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Pages of the prepared memory that the guest turns from zero to data and back: they must
/// start as zeros.
fn flips(page: usize) -> bool {
    let page = page as u64;
    let bytes = u64::from(WRITTEN.start)..u64::from(WRITTEN.end);
    bytes.contains(&(page * PAGE_BYTES as u64)) && writing_guest::flips(page)
}

/// Makes memory files of the same sizes that hold zeros.
pub(crate) fn empty_memory(case: &Case, scratch: &Path) -> Result<Vec<MemoryFile>, String> {
    let mut files = Vec::new();
    for &(id, bytes) in sizes(case) {
        let path = scratch.join(format!("destination-{id}"));
        File::create_new(&path)
            .and_then(|file| file.set_len(bytes))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        files.push(MemoryFile { path, id, bytes });
    }
    Ok(files)
}

/// The machine: a memory backend or two, a graphics card (another block, named
/// by its PCI address), the guest's disk.
pub(crate) fn arguments(case: &Case, memory: &[MemoryFile], disk: &Path) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    for file in memory {
        option("-object", file.backend());
    }
    let suppressed = if case.extra == Extra::NoDescription { ",suppress-vmdesc=on" } else { "" };
    let machine = format!("{}{suppressed}", case.sender.machine);
    if case.two_blocks {
        option("-machine", machine);
        for file in memory {
            option("-numa", format!("node,memdev={}", file.id));
        }
    } else {
        option("-machine", format!("{machine},memory-backend={}", memory[0].id));
    }
    let bytes: u64 = memory.iter().map(|file| file.bytes).sum();
    if case.extra == Extra::VirtioMem {
        option("-m", format!("{}M,maxmem=1G", bytes >> 20));
        option("-object", "memory-backend-ram,id=vmem,size=64M".to_owned());
        option("-device", "virtio-mem-pci,memdev=vmem,requested-size=16M".to_owned());
    } else {
        option("-m", format!("{}M", bytes >> 20));
    }
    if case.uuid {
        option("-uuid", UUID.to_owned());
    }
    option("-accel", "tcg,thread=single".to_owned());
    option("-device", "VGA,vgamem_mb=1".to_owned());
    option("-drive", format!("file={},format=raw,if=ide,snapshot=on", disk.display()));
    option("-display", "none".to_owned());
    arguments.extend(["-nodefaults", "-S"].map(str::to_owned));
    arguments
}

/// The backends' ids and bytes.
fn sizes(case: &Case) -> &'static [(&'static str, u64)] {
    if case.two_blocks { &[("mem0", 64 << 20), ("mem1", 32 << 20)] } else { &[("mem", 96 << 20)] }
}

/// The source's UUID where it has one.
pub(crate) const UUID: &str = "6c616e64-6661-6c6c-0102-030405060708";

/// What the guest dirties, bytes: above the BIOS's own memory.
const WRITTEN: Range<u32> = 2 << 20..18 << 20;
