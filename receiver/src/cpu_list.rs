//! Lists of CPUs as the kernel writes them: `0-3,8`.

use std::fmt;
use std::panic;
use std::str::FromStr;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::receiver::allowed_cpus;

/// CPU numbers in the order given, at least one and all below 1024. What is named twice stands
/// there twice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// The numbers.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.0
    }

    /// What `work` gives on a thread that has only these CPUs, and whatever it starts there.
    ///
    /// # Errors
    /// What the kernel says of them: `EINVAL` if none is there for this process.
    pub fn on<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Errno> {
        let mut set = CpuSet::new();
        for &cpu in &self.0 {
            set.set(cpu)?;
        }
        let confined = || sched_setaffinity(Pid::from_raw(0), &set).map(|()| work());
        let joined = thread::scope(|scope| scope.spawn(confined).join());
        joined.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Whether threads of this process can be kept on each of them.
    ///
    /// # Errors
    /// The first that is not there, or not for this process, and which are.
    pub fn check(&self) -> Result<(), String> {
        // One by one: of several the kernel takes those that are there, and says nothing of the others.
        for &cpu in &self.0 {
            Self(vec![cpu]).on(|| ()).map_err(|error| match error {
                Errno::EINVAL => {
                    let allowed = Self(allowed_cpus());
                    format!(
                        "CPU {cpu} is not there, or not for this process; allowed are {allowed}"
                    )
                }
                error => format!("CPU {cpu}: {error}"),
            })?;
        }
        Ok(())
    }
}

/// The list that has only these.
///
/// # Errors
/// What is no CPU, or no range of them.
impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.parse::<usize>().map_err(|_| format!("'{part}' is no CPU"));
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if last < first || last >= CPUS_MAX {
                return Err(format!("'{part}' is no range of CPUs below {CPUS_MAX}"));
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

impl TryFrom<String> for CpuList {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// `0-3,8`
impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.0.chunk_by(|one, next| one + 1 == *next);
        for (index, range) in ranges.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match range {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// `CPU_SETSIZE` of the C library: what sched_setaffinity(2) is told there has no more.
const CPUS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_is_not_there_is_named_with_those_that_are() {
        let there = CpuList(allowed_cpus());
        assert_eq!(there.check(), Ok(()));
        // A host with 1024 CPUs has that one.
        if !there.cpus().contains(&1023) {
            let error = format!("{there},1023").parse::<CpuList>().unwrap().check().unwrap_err();
            let says = "CPU 1023 is not there, or not for this process; allowed are";
            assert_eq!(error, format!("{says} {there}"));
        }
    }

    #[test]
    fn lists_have_ranges_and_are_written_as_they_are_read() {
        for (text, cpus) in [("0-2,8", &[0, 1, 2, 8][..]), ("5,4", &[5, 4]), ("1023", &[1023])] {
            let list: CpuList = text.parse().unwrap();
            assert_eq!((list.cpus(), list.to_string().as_str()), (cpus, text));
        }
    }

    #[test]
    fn what_is_no_list_is_refused_by_the_part_that_is_none() {
        for (text, part) in [
            ("", "''"),
            ("0,a", "'a'"),
            ("2,3-1", "'3-1'"),
            ("0-", "''"),
            ("0,", "''"),
            ("-1", "''"),
            ("1,99999", "'99999'"),
            ("0-1024", "'0-1024'"),
        ] {
            let error = text.parse::<CpuList>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
