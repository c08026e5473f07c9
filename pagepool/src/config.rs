//! What memory is asked for, and what kind was got.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Everything [`crate::Pool::open`] needs to know.
#[derive(Clone, Debug, Default)]
pub struct MemoryConfig {
    /// Bytes to map and prefault before the listener opens; 0 = no pool, blocks are mapped when
    /// the source announces them.
    pub pool_bytes: u64,
    /// The kind of pages wanted.
    pub hugepages: Hugepages,
    /// The memory nodes wanted.
    pub numa: Numa,
    /// Most bytes of guest RAM; `None` = 90 % of available memory plus free hugepages. A run
    /// directory on a disk is bounded by its free space instead, unless this is set.
    pub max_ram_bytes: Option<u64>,
    /// The run directory whose `ram/*.ram` files back the blocks; `None` = anonymous memory.
    pub mem_path: Option<PathBuf>,
    /// CPUs that prefault and clear, one pinned thread each; empty = all allowed CPUs.
    pub prefault_cpus: Vec<usize>,
}

/// `--hugepages`: the kind of pages wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hugepages {
    /// The best the host has for the size: 1G, 2M, THP, 4K, in that order.
    #[default]
    Auto,
    /// 1 GiB hugetlb pages, or an error.
    Huge1G,
    /// 2 MiB hugetlb pages, or an error.
    Huge2M,
    /// Transparent hugepages, or an error where the host has switched them off.
    Thp,
    /// The host's base pages, never huge.
    Off,
}

/// What really backs a piece of guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// 1 GiB hugetlb pages.
    Huge1G,
    /// 2 MiB hugetlb pages.
    Huge2M,
    /// Transparent hugepages were asked for; the report says what share the kernel gave.
    Thp,
    /// Base pages (4 KiB on x86-64).
    Base4K,
    /// Files of a run directory.
    File {
        /// The directory is on hugetlbfs.
        huge: bool,
    },
}

/// `--numa`: which memory nodes hold guest RAM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Numa {
    /// The nodes of the CPUs that prefault (the kernel's first-touch rule).
    #[default]
    Local,
    /// Round robin over all nodes with memory.
    Interleave,
    /// Only these nodes, or an error.
    Bind(Vec<u32>),
}

impl Backend {
    /// The name in reports: `1G`, `2M`, `THP`, `4K` or `file`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Huge1G => "1G",
            Self::Huge2M => "2M",
            Self::Thp => "THP",
            Self::Base4K => "4K",
            Self::File { .. } => "file",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Hugepages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Huge1G => "1G",
            Self::Huge2M => "2M",
            Self::Thp => "thp",
            Self::Off => "off",
        })
    }
}

impl FromStr for Hugepages {
    type Err = UnknownMemoryOption;

    fn from_str(text: &str) -> Result<Self, UnknownMemoryOption> {
        match text {
            "auto" => Ok(Self::Auto),
            "1G" | "1g" => Ok(Self::Huge1G),
            "2M" | "2m" => Ok(Self::Huge2M),
            "thp" => Ok(Self::Thp),
            "off" => Ok(Self::Off),
            _ => Err(UnknownMemoryOption {
                found: text.to_owned(),
                allowed: "auto, 1G, 2M, thp or off",
            }),
        }
    }
}

impl fmt::Display for Numa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Interleave => f.write_str("interleave"),
            Self::Bind(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{node}")?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Numa {
    type Err = UnknownMemoryOption;

    fn from_str(text: &str) -> Result<Self, UnknownMemoryOption> {
        match text {
            "local" => return Ok(Self::Local),
            "interleave" => return Ok(Self::Interleave),
            _ => {}
        }
        let mut nodes = text
            .split(',')
            .map(|node| match node.parse() {
                // A leading sign parses as a number, but nobody means a node by it.
                Ok(number) if node.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
                _ => Err(UnknownMemoryOption {
                    found: text.to_owned(),
                    allowed: "local, interleave, or node numbers such as 0 or 0,1",
                }),
            })
            .collect::<Result<Vec<u32>, _>>()?;
        nodes.sort_unstable();
        nodes.dedup();
        Ok(Self::Bind(nodes))
    }
}

/// A value of `--hugepages` or `--numa` that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {allowed}")]
pub struct UnknownMemoryOption {
    /// The text found.
    pub found: String,
    /// What it may be.
    pub allowed: &'static str,
}

#[cfg(test)]
mod tests {
    use super::{Hugepages, Numa};

    #[test]
    fn every_hugepages_value_prints_as_it_parses() {
        for text in ["auto", "1G", "2M", "thp", "off"] {
            let parsed: Hugepages = text.parse().expect(text);
            assert_eq!(parsed.to_string(), text);
        }
        assert!("4K".parse::<Hugepages>().is_err());
    }

    #[test]
    fn numa_nodes_are_a_sorted_set() {
        assert_eq!("1,0,1".parse(), Ok(Numa::Bind(vec![0, 1])));
        assert_eq!("local".parse(), Ok(Numa::Local));
        assert_eq!(Numa::Bind(vec![0, 3]).to_string(), "0,3");
        for wrong in ["", "0,", "+1", "-1", "x", "4294967296"] {
            assert!(wrong.parse::<Numa>().is_err(), "{wrong:?}");
        }
    }
}
