//! Sets of descriptors (`monitor/fds.c`): `add-fd`, `remove-fd`, and what a file name of
//! the form `/dev/fdset/N` opens.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use landfall_qmp::OptionString;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::descriptor;

/// The sets by id, for all monitors. They outlive a client's connection, as QEMU's do
/// while the guest does not run.
#[derive(Debug, Default)]
pub struct FdSets(Mutex<BTreeMap<i64, Vec<Member>>>);

/// A descriptor in a set.
#[derive(Debug)]
struct Member {
    descriptor: OwnedFd,
    opaque: Option<String>,
}

/// A descriptor as `query-fdsets` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetFd {
    /// Its number in this process.
    pub fd: RawFd,
    /// What the client that added it wrote beside it.
    pub opaque: Option<String>,
}

impl FdSets {
    /// Adds `descriptor` to the set `id`, which is made if it is not there; without an id
    /// to a new set with the least id that is free. Returns the set's id and the
    /// descriptor's number.
    ///
    /// # Errors
    /// QEMU's text for an id below zero; ours where there are too many. The descriptor is
    /// closed then.
    pub fn add(
        &self,
        id: Option<i64>,
        opaque: Option<String>,
        descriptor: OwnedFd,
    ) -> Result<(i64, RawFd), String> {
        let mut sets = self.lock();
        if id.is_some_and(|id| id < 0) {
            return Err("Parameter 'fdset-id' expects a non-negative value".into());
        }
        if sets.values().map(Vec::len).sum::<usize>() >= FDS_MAX {
            return Err(format!("There are {FDS_MAX} file descriptors in sets already"));
        }
        let id = id.unwrap_or_else(|| least_free(&sets));
        let fd = descriptor.as_raw_fd();
        sets.entry(id).or_default().push(Member { descriptor, opaque });
        Ok((id, fd))
    }

    /// Adds a descriptor that the parent process left open, by a value of QEMU's `-add-fd`:
    /// `fd=N,set=N[,opaque=TEXT]`.
    ///
    /// # Errors
    /// QEMU's text: the value says something else, or there is no such descriptor.
    pub fn add_inherited(&self, option: &str) -> Result<(), String> {
        let (mut fd, mut set, mut opaque) = (None, None, None);
        for (name, value) in OptionString::new(option) {
            let value = value.unwrap_or_else(|| "on".into());
            let number =
                || value.parse::<i64>().map_err(|_| format!("Parameter '{name}' expects a number"));
            match name {
                "fd" => fd = Some(number()?),
                "set" => set = Some(number()?),
                "opaque" => opaque = Some(value),
                _ => return Err(format!("Invalid parameter '{name}'")),
            }
        }
        let required = |name: &str| format!("{name} option is required and must be non-negative");
        let fd = fd.filter(|&fd| fd >= 0).ok_or_else(|| required("fd"))?;
        let set = set.filter(|&set| set >= 0).ok_or_else(|| required("set"))?;
        if fd <= i64::from(libc::STDERR_FILENO) {
            return Err("fd cannot be a standard I/O stream".into());
        }
        let taken = RawFd::try_from(fd).ok().and_then(|fd| descriptor::take_inherited(fd).ok());
        let taken = taken.ok_or("fd is not valid or already in use")?;
        self.add(Some(set), opaque, taken).map(drop)
    }

    /// Closes the descriptor with the number `fd` in the set `id`, or all of the set. A set
    /// without descriptors is none.
    ///
    /// # Errors
    /// QEMU's text: there is none of this kind.
    pub fn remove(&self, id: i64, fd: Option<i64>) -> Result<(), String> {
        let mut sets = self.lock();
        let is_meant = |member: &Member| fd.is_none_or(|fd| fd == i64::from(number(member)));
        let Some(members) = sets.get_mut(&id).filter(|members| members.iter().any(is_meant)) else {
            let which = fd.map_or(String::new(), |fd| format!(", fd:{fd}"));
            return Err(format!("File descriptor named 'fdset-id:{id}{which}' not found"));
        };
        members.retain(|member| !is_meant(member));
        if members.is_empty() {
            sets.remove(&id);
        }
        Ok(())
    }

    /// The sets, those with high ids first, as QEMU lists them.
    #[must_use]
    pub fn list(&self) -> Vec<(i64, Vec<SetFd>)> {
        let shown = |member: &Member| SetFd { fd: number(member), opaque: member.opaque.clone() };
        self.lock()
            .iter()
            .rev()
            .map(|(&id, members)| (id, members.iter().map(shown).collect()))
            .collect()
    }

    /// A duplicate of what `path` names, which has the same position in the file; `None`
    /// if it does not name a set. The first descriptor of the set counts whose access mode
    /// and `O_DIRECT` are those of `flags`, exactly.
    pub(crate) fn open(&self, path: &Path, flags: OFlag) -> Option<Result<OwnedFd, String>> {
        let number = path.to_str()?.strip_prefix(DIRECTORY)?;
        Some(self.open_number(number, flags))
    }

    fn open_number(&self, text: &str, flags: OFlag) -> Result<OwnedFd, String> {
        // As strtol(3) reads it, to the end and no further than an int.
        let digits = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let id = digits.parse::<i32>().ok().filter(|&id| id >= 0);
        let id = id.ok_or_else(|| format!("Could not parse fdset {DIRECTORY}{text}"))?;
        let sets = self.lock();
        let members = sets
            .get(&id.into())
            .ok_or_else(|| format!("Failed to find fdset {DIRECTORY}{text}"))?;
        let wanted = flags & (OFlag::O_ACCMODE | OFlag::O_DIRECT);
        let fits = |member: &&Member| {
            fcntl(&member.descriptor, FcntlArg::F_GETFL).is_ok_and(|found| {
                OFlag::from_bits_retain(found) & (OFlag::O_ACCMODE | OFlag::O_DIRECT) == wanted
            })
        };
        let member = members.iter().find(fits).ok_or_else(|| {
            format!("Failed to find file descriptor with matching flags={:#x}", wanted.bits())
        })?;
        member
            .descriptor
            .try_clone()
            .map_err(|why| format!("Could not open '{DIRECTORY}{text}': {why}"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Vec<Member>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(member: &Member) -> RawFd {
    member.descriptor.as_raw_fd()
}

fn least_free(sets: &BTreeMap<i64, Vec<Member>>) -> i64 {
    (0..).find(|id| !sets.contains_key(id)).expect("there are fewer sets than ids")
}

/// Where names of sets begin. No such folder is there.
const DIRECTORY: &str = "/dev/fdset/";
/// Descriptors in all sets. libvirt passes one or two for each disk and file; the cap
/// keeps a client from using up the descriptors that the migration itself needs.
const FDS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{Read, Seek, SeekFrom};
    use std::os::fd::IntoRawFd;

    use nix::fcntl::FdFlag;
    use nix::unistd::pipe2;

    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    fn ids(sets: &FdSets) -> Vec<(i64, usize)> {
        sets.list().iter().map(|(id, fds)| (*id, fds.len())).collect()
    }

    #[test]
    fn a_set_without_an_id_gets_the_least_that_is_free() {
        let sets = FdSets::default();
        assert_eq!(sets.add(None, None, null()).unwrap().0, 0);
        assert_eq!(sets.add(Some(2), None, null()).unwrap().0, 2);
        assert_eq!(sets.add(None, None, null()).unwrap().0, 1);
        assert_eq!(sets.add(None, None, null()).unwrap().0, 3);
        assert_eq!(ids(&sets), [(3, 1), (2, 1), (1, 1), (0, 1)]);
        sets.remove(1, None).unwrap();
        assert_eq!(sets.add(None, None, null()).unwrap().0, 1);
    }

    #[test]
    fn a_set_is_gone_with_its_last_descriptor() {
        let sets = FdSets::default();
        let (_, first) = sets.add(Some(7), None, null()).unwrap();
        let (_, second) = sets.add(Some(7), Some("two".into()), null()).unwrap();
        assert_eq!(sets.remove(7, Some(first.into())), Ok(()));
        assert_eq!(sets.list(), [(7, vec![SetFd { fd: second, opaque: Some("two".into()) }])]);
        assert_eq!(sets.remove(7, Some(second.into())), Ok(()));
        assert_eq!(sets.list(), []);
    }

    #[test]
    fn a_duplicate_is_of_the_descriptor_whose_flags_match_and_stands_where_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        let sets = FdSets::default();
        let open = |flags: OFlag| sets.open(Path::new("/dev/fdset/4"), flags).unwrap();
        let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        sets.add(Some(4), None, both.into()).unwrap();
        let none = "Failed to find file descriptor with matching flags=0x0";
        assert_eq!(open(OFlag::O_RDONLY).unwrap_err(), none);
        let mut plain = File::open(&path).unwrap();
        plain.seek(SeekFrom::Start(7)).unwrap();
        sets.add(Some(4), None, plain.into()).unwrap();
        let none = "Failed to find file descriptor with matching flags=0x4000";
        assert_eq!(open(OFlag::O_RDONLY | OFlag::O_DIRECT).unwrap_err(), none);
        let mut rest = String::new();
        File::from(open(OFlag::O_RDONLY).unwrap()).read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "789");
        // Not every file system has O_DIRECT; every pipe can carry the flag.
        let (direct, _) = pipe2(OFlag::O_CLOEXEC).unwrap();
        fcntl(&direct, FcntlArg::F_SETFL(OFlag::O_DIRECT)).unwrap();
        sets.add(Some(4), None, direct).unwrap();
        assert!(open(OFlag::O_RDONLY | OFlag::O_DIRECT).is_ok());
        assert!(open(OFlag::O_RDONLY).is_ok());
    }

    #[test]
    fn names_of_sets_are_read_as_qemu_reads_them() {
        let sets = FdSets::default();
        sets.add(Some(0), None, null()).unwrap();
        let open = |name: &str| sets.open(Path::new(name), OFlag::O_RDONLY);
        for name in ["00", " 0", "+0", "-0"] {
            assert!(open(&format!("/dev/fdset/{name}")).unwrap().is_ok(), "{name}");
        }
        for name in ["", "x", "1x", "-1", "0x0", "9999999999", "99999999999999999999", "0/"] {
            let text = open(&format!("/dev/fdset/{name}")).unwrap().unwrap_err();
            assert_eq!(text, format!("Could not parse fdset /dev/fdset/{name}"));
        }
        let missing = open("/dev/fdset/77").unwrap().unwrap_err();
        assert_eq!(missing, "Failed to find fdset /dev/fdset/77");
        assert!(open("/dev/fdset").is_none() && open("//dev/fdset/0").is_none());
    }

    #[test]
    fn options_are_read_as_qemu_reads_them() {
        let inherited = || {
            let file = File::open("/dev/null").unwrap();
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            file.into_raw_fd()
        };
        for (rest, opaque) in [
            ("", None),
            (",", None),
            (",opaque=a", Some("a")),
            (",opaque=a,,b", Some("a,b")),
            (",opaque=set=3,", Some("set=3")),
            (",opaque=a,opaque=", Some("")),
        ] {
            let sets = FdSets::default();
            let fd = inherited();
            sets.add_inherited(&format!("fd={fd},set=2{rest}")).expect(rest);
            let opaque = opaque.map(str::to_owned);
            assert_eq!(sets.list(), [(2, vec![SetFd { fd, opaque }])], "{rest}");
        }
    }

    #[test]
    fn options_are_refused_in_qemus_words() {
        let sets = FdSets::default();
        for (option, text) in [
            ("fd=9999,set=1", "fd is not valid or already in use"),
            ("fd=2,set=1", "fd cannot be a standard I/O stream"),
            ("fd=9", "set option is required and must be non-negative"),
            ("set=9", "fd option is required and must be non-negative"),
            ("fd=-1,set=1", "fd option is required and must be non-negative"),
            ("fd=9,set=-1", "set option is required and must be non-negative"),
            ("fd=x,set=1", "Parameter 'fd' expects a number"),
            ("fd=9,set=1.5", "Parameter 'set' expects a number"),
            ("fd=9,set=1,a=b", "Invalid parameter 'a'"),
            ("fd=9,set=1,a,b", "Invalid parameter 'a'"),
            (",fd=9,set=1", "Invalid parameter ''"),
            ("fd=9,,set=1", "Parameter 'fd' expects a number"),
        ] {
            assert_eq!(sets.add_inherited(option).unwrap_err(), text, "{option}");
        }
        assert_eq!(sets.list(), []);
    }

    #[test]
    fn there_is_a_most() {
        let sets = FdSets::default();
        for _ in 0..FDS_MAX {
            sets.add(Some(1), None, null()).unwrap();
        }
        assert!(sets.add(None, None, null()).is_err());
        sets.remove(1, None).unwrap();
        assert!(sets.add(None, None, null()).is_ok());
    }
}
