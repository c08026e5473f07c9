//! Guest RAM in a destination's process, seen from outside: which pages it is made of, and whether
//! the source's are in it. Asks the kernel alone, so it is the same for every contender.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use crate::hash::mix;

/// What the kernel says of a destination's guest RAM, after the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestRam {
    /// Size of the pages that it is mapped with, KiB.
    pub page_kib: u64,
    /// Of its mapping, in transparent hugepages, KiB.
    pub huge_kib: u64,
    /// Of its mapping, in memory, KiB.
    pub present_kib: u64,
    /// Pages that were compared with the source's and are the same; `None` if the source's are not
    /// known.
    pub same_pages: Option<u64>,
}

/// Finds the guest's RAM of `ram_bytes` in the process `id`, and compares pages spread over all of
/// it with `source`, the source's memory.
pub(super) fn look(id: u32, ram_bytes: u64, source: Option<&Path>) -> Result<GuestRam, String> {
    let failed = |error: io::Error| format!("/proc/{id}: {error}");
    let maps = fs::read_to_string(format!("/proc/{id}/smaps")).map_err(failed)?;
    let mappings = mappings(&maps, ram_bytes);
    let Some(source) = source else {
        // Without its content it is known by its pages, which little else has, or its size.
        let likely = mappings.iter().max_by_key(|mapping| {
            (
                mapping.ram.page_kib,
                mapping.end - mapping.start == ram_bytes,
                mapping.ram.present_kib,
            )
        });
        return Ok(likely.map_or_else(GuestRam::default, |mapping| mapping.ram));
    };
    let of_source = |error: io::Error| format!("{}: {error}", source.display());
    let memory = File::open(format!("/proc/{id}/mem")).map_err(failed)?;
    let source = File::open(source).map_err(of_source)?;
    let mut wanted = vec![0; PAGE_BYTES as usize];
    let mut found = wanted.clone();
    let pages = ram_bytes / PAGE_BYTES;
    let mut telling = None;
    for page in 0..pages {
        source.read_exact_at(&mut wanted, page * PAGE_BYTES).map_err(of_source)?;
        if wanted.iter().any(|&byte| byte != 0) {
            telling = Some(page);
            break;
        }
    }
    let telling = telling.ok_or("the source's memory is all zero")?;
    let base = mappings.iter().find_map(|mapping| {
        let mut bases = (mapping.start..=mapping.end - ram_bytes).step_by(PAGE_BYTES as usize);
        let is_there = |base: &u64| {
            let read = memory.read_exact_at(&mut found, base + telling * PAGE_BYTES);
            read.is_ok() && found == wanted
        };
        bases.find(is_there).map(|base| (base, mapping.ram))
    });
    let Some((base, ram)) = base else {
        return Err("the guest's RAM is not in the destination's memory".to_owned());
    };
    let samples = SAMPLES.min(pages);
    for sample in 0..samples {
        // One page of each part, and the very last.
        let part = pages / samples;
        let page =
            if sample + 1 == samples { pages - 1 } else { sample * part + mix(sample) % part };
        source.read_exact_at(&mut wanted, page * PAGE_BYTES).map_err(of_source)?;
        memory.read_exact_at(&mut found, base + page * PAGE_BYTES).map_err(failed)?;
        if found != wanted {
            return Err(format!("page {page} of guest RAM is not the source's"));
        }
    }
    Ok(GuestRam { same_pages: Some(samples), ..ram })
}

/// Part of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    ram: GuestRam,
}

/// The mappings of at least `bytes` in the text of proc_pid_smaps(5).
fn mappings(text: &str, bytes: u64) -> Vec<Mapping> {
    let mut all: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else { continue };
        if let Some(name) = first.strip_suffix(':') {
            let kib = second.and_then(|word| word.parse().ok()).unwrap_or(0);
            let Some(mapping) = all.last_mut() else { continue };
            match name {
                "KernelPageSize" => mapping.ram.page_kib = kib,
                // Hugetlb pages are in none of the others.
                "Rss" | "Private_Hugetlb" | "Shared_Hugetlb" => mapping.ram.present_kib += kib,
                "AnonHugePages" | "ShmemPmdMapped" => mapping.ram.huge_kib += kib,
                _ => {}
            }
        } else if let Some((start, end)) = first.split_once('-') {
            let address = |text| u64::from_str_radix(text, 16);
            let (Ok(start), Ok(end)) = (address(start), address(end)) else { continue };
            all.push(Mapping { start, end, ram: GuestRam::default() });
        }
    }
    all.retain(|mapping| mapping.end - mapping.start >= bytes);
    all
}

const PAGE_BYTES: u64 = 4096;
const SAMPLES: u64 = 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn mappings_are_told_with_their_pages() {
        let text = "7f0000000000-7f0040000000 rw-p 00000000 00:00 0 \n\
                    Size:            1048576 kB\nKernelPageSize:        4 kB\n\
                    Rss:              524288 kB\nAnonHugePages:    522240 kB\n\
                    7f0040000000-7f0040001000 r--p 00000000 00:00 0 [vvar]\nKernelPageSize: 4 kB\n";
        let [one] = mappings(text, 1 << 30)[..] else { panic!("one is large enough") };
        let ram =
            GuestRam { page_kib: 4, huge_kib: 522_240, present_kib: 524_288, same_pages: None };
        assert_eq!(one, Mapping { start: 0x7f00_0000_0000, end: 0x7f00_4000_0000, ram });
        assert_eq!(mappings(text, (1 << 30) + 1), []);
    }

    #[test]
    fn a_page_that_did_not_come_is_found_missing() {
        const BYTES: usize = 8 << 20;
        let mut content = memmap2::MmapMut::map_anon(BYTES).expect("memory");
        for (index, word) in content.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&mix(index as u64).to_le_bytes());
        }
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&content).expect("written");
        let me = std::process::id();
        let found = look(me, BYTES as u64, Some(file.path())).expect("it is in this process");
        assert_eq!(found.same_pages, Some(1024));
        let last = BYTES - 1;
        content[last] ^= 1;
        let error = look(me, BYTES as u64, Some(file.path())).unwrap_err();
        assert_eq!(error, "page 2047 of guest RAM is not the source's");
        drop(content);
        assert!(look(me, BYTES as u64, Some(file.path())).is_err());
    }
}
