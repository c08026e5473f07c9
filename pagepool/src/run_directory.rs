//! Guest RAM in the files of a run directory, all of it there before a page lands.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{HUGETLBFS_MAGIC, Statfs, TMPFS_MAGIC, fstatfs, statfs};

use crate::error::errno_of;
use crate::host::Host;
use crate::hugepages::HugeSize;
use crate::mapping::Mapping;
use crate::region::{Maker, Region};
use crate::{BlockRequest, Hugepages, PoolError, ram_file};

/// A run directory whose `ram` folder backs the RAM blocks.
///
/// The folder's file system is what counts. Hugetlbfs cannot hold files that are written to
/// (`write(2)` fails there), so it is best mounted on the folder, beside `run.json`, not on the
/// run directory.
#[derive(Clone)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    kind: Kind,
    hugepages: Hugepages,
    host: Host,
}

/// The file system of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Pages of this many bytes, taken from the host's hugepages.
    Hugetlbfs { page_bytes: u64 },
    /// Ordinary memory.
    Tmpfs,
    /// Anything else: a disk.
    Disk,
}

impl RunDirectory {
    /// Makes the directory where it is not there, and looks at its file system.
    pub(crate) fn open(path: &Path, hugepages: Hugepages, host: &Host) -> Result<Self, PoolError> {
        let folder = ram_file::make_folder(path)?;
        let status =
            statfs(&folder).map_err(|errno| ram_file::failed("look at", &folder, errno.into()))?;
        let kind = Kind::of(&status);
        let wanted = match hugepages {
            Hugepages::Huge1G => Some(HugeSize::G1),
            Hugepages::Huge2M => Some(HugeSize::M2),
            Hugepages::Auto | Hugepages::Thp | Hugepages::Off => None,
        };
        if let Some(size) = wanted
            && kind.page_bytes() != size.bytes()
        {
            return Err(PoolError::MemPathPages {
                directory: path.to_owned(),
                found: kind.page_bytes(),
                wanted: size.as_str(),
                line: format!(
                    "mount -t hugetlbfs -o pagesize={} none {}",
                    size.as_str(),
                    folder.display()
                ),
            });
        }
        Ok(Self { path: path.to_owned(), kind, hugepages, host: host.clone() })
    }

    /// Whether its files are memory of this host.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.kind != Kind::Disk
    }

    /// A fresh file for every block, with all its space, mapped and populated. `progress` is told
    /// bytes done and bytes in all. If anything fails, no file is left. Before all else the report of
    /// an earlier run goes, which says that the directory is whole.
    pub(crate) fn make_files(
        &self,
        blocks: &[BlockRequest],
        maker: &Maker,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Vec<Region>, PoolError> {
        ram_file::remove_if_there(&self.path.join(RUN_JSON))?;
        ram_file::remove_all(&self.path)?;
        let lengths = blocks.iter().map(|block| {
            let bytes = block.bytes.checked_next_multiple_of(self.kind.length_step());
            bytes.ok_or(PoolError::TotalBytes)
        });
        let lengths = lengths.collect::<Result<Vec<u64>, _>>()?;
        let sum = |sum: u64, bytes: &u64| sum.checked_add(*bytes);
        let total = lengths.iter().try_fold(0, sum).ok_or(PoolError::TotalBytes)?;
        self.check_space(total, maker)?;
        let mut made = Vec::with_capacity(blocks.len());
        let mut done_before = 0;
        for (block, bytes) in blocks.iter().zip(lengths) {
            let told = |done: u64| progress(done_before + done, total);
            match self.make_file(block, bytes, total, maker, &told) {
                Ok(region) => made.push(region),
                Err(error) => {
                    // A half-made directory is of no use to anybody. The first error is the one.
                    let _ = ram_file::remove_all(&self.path);
                    return Err(error);
                }
            }
            done_before += bytes;
        }
        Ok(made)
    }

    fn make_file(
        &self,
        block: &BlockRequest,
        bytes: u64,
        total: u64,
        maker: &Maker,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Region, PoolError> {
        let start = Instant::now();
        let (file, path) = ram_file::create(&self.path, &block.name)?;
        let no_space = |doing| {
            let path = &path;
            move |errno: Errno| self.no_space_or(doing, path, total, errno)
        };
        // From nothing to its length: every byte is known to be zero.
        file.set_len(bytes).map_err(|e| ram_file::failed("resize", &path, e))?;
        let mapping = Mapping::file(&file, bytes).map_err(no_space("map"))?;
        // The policy goes first: on tmpfs and hugetlbfs, fallocate chooses the pages.
        maker.placement.apply(&mapping)?;
        match self.hugepages {
            Hugepages::Off => mapping.prefer_huge_file_pages(false),
            _ => mapping.prefer_huge_file_pages(true),
        }
        let chunks = bytes.div_ceil(FALLOCATE_BYTES);
        // On the crew's CPUs, so that local memory is theirs. One file is one at a time anyway.
        maker
            .crew
            .run(chunks, |chunk| {
                let offset = chunk * FALLOCATE_BYTES;
                allocate(&file, offset, FALLOCATE_BYTES.min(bytes - offset))
            })
            .map_err(no_space("allocate"))?;
        let huge = matches!(self.kind, Kind::Hugetlbfs { .. });
        maker.file(mapping, huge, start, progress)
    }

    fn check_space(&self, needed: u64, maker: &Maker) -> Result<(), PoolError> {
        let available = available_bytes(&ram_file::folder_of(&self.path), &self.host);
        if let Some(available) = available
            && needed > available
        {
            return Err(PoolError::NoSpace { directory: self.path.clone(), needed, available });
        }
        if self.kind != Kind::Tmpfs {
            return Ok(());
        }
        // A tmpfs may be larger than the memory that is left; allocating it all would bring the OOM
        // killer.
        maker.placement.check_room(&self.host, needed)?;
        let available = self.host.available_bytes();
        if needed <= available {
            return Ok(());
        }
        Err(PoolError::OutOfMemory { done: 0, needed, available })
    }

    fn no_space_or(
        &self,
        doing: &'static str,
        path: &Path,
        needed: u64,
        errno: Errno,
    ) -> PoolError {
        let is_space = matches!(errno, Errno::ENOSPC | Errno::EDQUOT)
            || (errno == Errno::ENOMEM && self.kind != Kind::Disk);
        if !is_space {
            return ram_file::failed(doing, path, errno.into());
        }
        let folder = ram_file::folder_of(&self.path);
        PoolError::NoSpace {
            directory: self.path.clone(),
            needed,
            available: available_bytes(&folder, &self.host).unwrap_or(0),
        }
    }
}

impl Kind {
    fn of(status: &Statfs) -> Self {
        match status.filesystem_type() {
            HUGETLBFS_MAGIC => {
                Self::Hugetlbfs { page_bytes: u64::try_from(status.block_size()).unwrap_or(0) }
            }
            TMPFS_MAGIC => Self::Tmpfs,
            _ => Self::Disk,
        }
    }

    fn page_bytes(self) -> u64 {
        match self {
            Self::Hugetlbfs { page_bytes } => page_bytes,
            Self::Tmpfs | Self::Disk => crate::host::base_page_bytes(),
        }
    }

    /// What lengths of files are multiples of.
    fn length_step(self) -> u64 {
        match self {
            Self::Hugetlbfs { page_bytes } => page_bytes.max(1),
            Self::Tmpfs | Self::Disk => 1,
        }
    }
}

/// Bytes that the file system of a directory has left; `None` where nobody can tell.
pub(crate) fn available_bytes(folder: &Path, host: &Host) -> Option<u64> {
    let status = File::open(folder).ok().and_then(|folder| fstatfs(&folder).ok())?;
    let kind = Kind::of(&status);
    if status.blocks() == 0 {
        // Mounted without a limit: what the host has is what there is.
        return match kind {
            Kind::Hugetlbfs { page_bytes } => [HugeSize::G1, HugeSize::M2]
                .into_iter()
                .find(|size| size.bytes() == page_bytes)
                .and_then(|size| host.huge_pool(size, None))
                .map(|pool| pool.free.saturating_mul(page_bytes)),
            Kind::Tmpfs => Some(host.available_bytes()),
            Kind::Disk => None,
        };
    }
    let block_bytes = u64::try_from(status.block_size()).ok()?;
    Some(status.blocks_available().saturating_mul(block_bytes))
}

/// Gives a range of a file its space. Where the file system cannot do that by itself, zeros are
/// written.
fn allocate(file: &File, offset: u64, len: u64) -> Result<(), Errno> {
    let signed = |number: u64| libc::off_t::try_from(number).map_err(|_| Errno::EFBIG);
    loop {
        return match fallocate(file, FallocateFlags::empty(), signed(offset)?, signed(len)?) {
            Err(Errno::EINTR) => continue,
            Err(Errno::EOPNOTSUPP) => write_zeros(file, offset, len),
            answer => answer,
        };
    }
}

fn write_zeros(file: &File, offset: u64, len: u64) -> Result<(), Errno> {
    let zeros = vec![0; len.min(1 << 20) as usize];
    let mut at = offset;
    while at < offset + len {
        let step = (offset + len - at).min(zeros.len() as u64);
        let written = file.write_all_at(&zeros[..step as usize], at);
        written.map_err(|error| errno_of(&error))?;
        at += step;
    }
    Ok(())
}

/// The report in a run directory: written last, so that where it is, the rest is whole.
pub const RUN_JSON: &str = "run.json";

/// An interrupted `fallocate` on tmpfs begins again: not with all of a large guest.
const FALLOCATE_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::errno::Errno;

    use super::{Kind, RunDirectory, allocate, write_zeros};
    use crate::crew::Crew;
    use crate::host::Host;
    use crate::placement::Placement;
    use crate::region::Maker;
    use crate::{Hugepages, Numa, PoolError};

    #[test]
    fn space_can_be_had_by_writing_zeros_too() {
        let mut file = tempfile::tempfile().expect("file");
        write_zeros(&file, 0, (2 << 20) + 5).expect("space");
        allocate(&file, (2 << 20) + 5, 4091).expect("space");
        let mut seen = Vec::new();
        file.read_to_end(&mut seen).expect("read");
        assert_eq!(seen.len(), (2 << 20) + 4096);
        assert!(seen.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn only_what_more_space_would_repair_is_called_no_space() {
        let root = tempfile::tempdir().expect("tempdir");
        let directory = directory(root.path(), Kind::Tmpfs, Host::here());
        for (kind, errno, space) in [
            (Kind::Disk, Errno::ENOSPC, true),
            (Kind::Disk, Errno::EDQUOT, true),
            (Kind::Disk, Errno::ENOMEM, false),
            (Kind::Tmpfs, Errno::ENOMEM, true),
            (Kind::Hugetlbfs { page_bytes: 1 << 21 }, Errno::ENOMEM, true),
            (Kind::Tmpfs, Errno::EIO, false),
        ] {
            let directory = RunDirectory { kind, ..directory.clone() };
            let error = directory.no_space_or("allocate", root.path(), 7, errno);
            let is_space = matches!(error, PoolError::NoSpace { needed: 7, .. });
            assert_eq!(is_space, space, "{errno} on {kind:?}: {error}");
        }
    }

    #[test]
    fn a_tmpfs_larger_than_the_memory_that_is_left_is_not_filled() {
        let root = tempfile::tempdir().expect("tempdir");
        std::fs::write(root.path().join("meminfo"), "MemAvailable: 1000 kB\n").expect("write");
        let host = Host { sys: root.path().to_owned(), proc: root.path().to_owned() };
        let maker = Maker {
            placement: Placement::new(&host, &Numa::Local).expect("local"),
            crew: Crew::new(&[]),
            host: host.clone(),
        };
        let directory = directory(root.path(), Kind::Tmpfs, host);
        directory.check_space(1000 * 1024, &maker).expect("just as much");
        let error = directory.check_space(1000 * 1024 + 1, &maker).expect_err("a byte more");
        assert!(matches!(error, PoolError::OutOfMemory { .. }), "{error}");
    }

    fn directory(root: &std::path::Path, kind: Kind, host: Host) -> RunDirectory {
        let opened = RunDirectory::open(root, Hugepages::Auto, &host).expect("directory");
        RunDirectory { kind, ..opened }
    }
}
