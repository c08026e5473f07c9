//! Address space for guest RAM: anonymous memory of each kind of page, and files.

use std::fs::File;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;

use crate::error::errno_of;
use crate::hugepages::HugeSize;
use crate::ladder::Rung;

/// Memory mapped readable and writable, unmapped when dropped. Nothing in this crate makes a
/// reference into it; [`crate::Span`] is how it is reached.
pub(crate) struct Mapping {
    map: MmapRaw,
    /// Bytes between the start of `map` and the aligned first byte that is used.
    skip: usize,
    bytes: usize,
}

impl Mapping {
    /// Private anonymous memory of one kind of page. `bytes` is a multiple of the kind's page size.
    ///
    /// Hugetlb memory is mapped without `MAP_NORESERVE`: the kernel reserves the pages now or
    /// fails now (Documentation/admin-guide/mm/hugetlbpage.rst), so that no later touch is fatal.
    pub(crate) fn anonymous(rung: Rung, bytes: u64) -> Result<Self, Errno> {
        let bytes = usize::try_from(bytes).map_err(|_| Errno::ENOMEM)?;
        let mut options = MmapOptions::new();
        let slack = match rung {
            Rung::Huge(size) => {
                options.huge(Some(size.bits()));
                0
            }
            // The kernel can only use a huge page where 2 MiB boundaries fall into the mapping.
            Rung::Thp | Rung::Base => HugeSize::M2.bytes() as usize,
        };
        let length = bytes.checked_add(slack).ok_or(Errno::ENOMEM)?;
        let map = options.len(length).map_anon().map_err(|e| errno_of(&e))?;
        let map = MmapRaw::from(map);
        let skip = map.as_ptr().align_offset(slack.max(1));
        let mapping = Self { map, skip, bytes };
        mapping.keep_out_of_dumps_and_children();
        match rung {
            Rung::Huge(_) => {}
            Rung::Thp => mapping.advise(Advice::HugePage)?,
            Rung::Base => match mapping.advise(Advice::NoHugePage) {
                // EINVAL: a kernel built without THP has nothing to switch off.
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(error) => return Err(error),
            },
        }
        Ok(mapping)
    }

    /// Address space whose pages come when they are touched and that counts against no limit
    /// before (`MAP_NORESERVE`, mmap(2)).
    pub(crate) fn unreserved(bytes: u64) -> Result<Self, Errno> {
        let bytes = usize::try_from(bytes).map_err(|_| Errno::ENOMEM)?;
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
        let map = MmapRaw::from(map.map_err(|e| errno_of(&e))?);
        let mapping = Self { map, skip: 0, bytes };
        mapping.keep_out_of_dumps_and_children();
        Ok(mapping)
    }

    /// The first `bytes` of a file, shared with everybody who maps it.
    pub(crate) fn file(file: &File, bytes: u64) -> Result<Self, Errno> {
        let bytes = usize::try_from(bytes).map_err(|_| Errno::ENOMEM)?;
        let map = MmapOptions::new().len(bytes).map_raw(file);
        let map = map.map_err(|e| errno_of(&e))?;
        let mapping = Self { map, skip: 0, bytes };
        mapping.keep_out_of_dumps_and_children();
        Ok(mapping)
    }

    /// The first byte. Page aligned; 2 MiB aligned for anonymous memory.
    pub(crate) fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(self.skip)
    }

    /// How many bytes may be used from [`Self::base`] on.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives a range its pages now, writable (`MADV_POPULATE_WRITE`, Linux 5.14): what would be a
    /// fatal signal at a touch is an error here. `EINVAL` means the kernel does not know it.
    pub(crate) fn populate(&self, offset: usize, len: usize) -> Result<(), Errno> {
        assert!(len <= self.bytes && offset <= self.bytes - len);
        let start = self.skip + offset;
        loop {
            match self.map.advise_range(Advice::PopulateWrite, start, len) {
                Ok(()) => return Ok(()),
                Err(error) => match errno_of(&error) {
                    Errno::EINTR | Errno::EAGAIN => {}
                    errno => return Err(errno),
                },
            }
        }
    }

    /// Asks for huge pages in a shared file mapping, or against them. A file system that has no
    /// opinion refuses, which changes nothing that was promised.
    pub(crate) fn prefer_huge_file_pages(&self, wanted: bool) {
        let advice = if wanted { Advice::HugePage } else { Advice::NoHugePage };
        if let Err(error) = self.advise(advice) {
            tracing::debug!(%error, wanted, "file system has no say about huge pages");
        }
    }

    /// A core dump must not hold the guest, and a child process must not copy its page tables.
    /// Kernels without these flags only lose that comfort.
    fn keep_out_of_dumps_and_children(&self) {
        for advice in [Advice::DontDump, Advice::DontFork] {
            if let Err(error) = self.advise(advice) {
                tracing::debug!(%error, ?advice, "madvise on guest RAM");
            }
        }
    }

    fn advise(&self, advice: Advice) -> Result<(), Errno> {
        let done = self.map.advise_range(advice, self.skip, self.bytes);
        done.map_err(|error| errno_of(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::Mapping;
    use crate::ladder::Rung;

    #[test]
    fn anonymous_memory_starts_on_two_mebibytes() {
        for rung in [Rung::Thp, Rung::Base] {
            let mapping = Mapping::anonymous(rung, 12288).expect("map");
            assert_eq!(mapping.base() as usize % (2 << 20), 0, "{rung:?}");
            assert_eq!(mapping.bytes(), 12288);
            mapping.populate(0, 12288).expect("populate");
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(Mapping::anonymous(Rung::Base, u64::MAX).is_err());
        assert!(Mapping::anonymous(Rung::Base, 1 << 60).is_err());
    }
}
