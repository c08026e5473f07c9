//! The named file descriptors of one monitor.

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::QmpError;

/// Descriptors that `getfd` has named and nobody has used yet; QEMU's `Monitor::fds`.
#[derive(Debug, Default)]
pub(crate) struct MonitorFds {
    named: Mutex<Vec<(String, OwnedFd)>>,
}

impl MonitorFds {
    /// Files `fd` under `name`; whatever had that name is closed.
    pub(crate) fn insert(&self, name: String, fd: OwnedFd) -> Result<(), QmpError> {
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(QmpError::generic(
                "Parameter 'fdname' expects a name not starting with a digit",
            ));
        }
        let mut named = self.lock();
        if let Some((_, old)) = named.iter_mut().find(|(known, _)| *known == name) {
            let old = std::mem::replace(old, fd);
            drop(named);
            drop(old);
            return Ok(());
        }
        if named.len() >= NAMED_FDS_MAX {
            return Err(QmpError::generic(format!(
                "This monitor already holds {NAMED_FDS_MAX} named file descriptors"
            )));
        }
        named.push((name, fd));
        Ok(())
    }

    /// Takes the descriptor of that name off the list.
    pub(crate) fn take(&self, name: &str) -> Option<OwnedFd> {
        let mut named = self.lock();
        let found = named.iter().position(|(known, _)| known == name)?;
        Some(named.swap_remove(found).1)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, OwnedFd)>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Named descriptors per monitor. libvirt names a handful; the cap keeps a client from using up the
/// process's descriptor limit, which the migration itself needs.
const NAMED_FDS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_descriptor_is_taken_once() {
        let fds = MonitorFds::default();
        fds.insert("a".into(), fd()).unwrap();
        assert!(fds.take("b").is_none());
        assert!(fds.take("a").is_some());
        assert!(fds.take("a").is_none());
    }

    #[test]
    fn the_same_name_replaces() {
        let fds = MonitorFds::default();
        fds.insert("a".into(), fd()).unwrap();
        fds.insert("a".into(), fd()).unwrap();
        assert!(fds.take("a").is_some());
        assert!(fds.take("a").is_none());
    }

    #[test]
    fn a_name_must_not_start_with_a_digit() {
        let error = MonitorFds::default().insert("7up".into(), fd()).unwrap_err();
        assert_eq!(error.desc, "Parameter 'fdname' expects a name not starting with a digit");
    }

    #[test]
    fn the_list_is_capped() {
        let fds = MonitorFds::default();
        for i in 0..NAMED_FDS_MAX {
            fds.insert(format!("fd{i}"), fd()).unwrap();
        }
        assert!(fds.insert("more".into(), fd()).is_err());
        fds.insert("fd0".into(), fd()).expect("replacing is no growth");
    }
}
