//! Who receives, into what memory, and from whom.

use std::fmt;

use serde::Deserialize;

use super::host;

/// A program that receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Receiver {
    /// Blocking receives that parse nothing.
    CeilingBlocking,
    /// The same, woken for as much as landfall.
    CeilingPatient,
    /// A ring that parses nothing.
    CeilingRing,
    /// QEMU's own destination.
    Qemu,
    /// This landfall.
    Landfall,
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CeilingBlocking => "ceiling, blocking",
            Self::CeilingPatient => "ceiling, patient",
            Self::CeilingRing => "ceiling, ring",
            Self::Qemu => "QEMU",
            Self::Landfall => "landfall",
        })
    }
}

/// The memory that a receiver is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemorySetup {
    /// As it comes when nothing is asked for: QEMU's is not there until pages land in it, landfall's
    /// is mapped and prefaulted when the source tells its blocks.
    Default,
    /// 2 MiB hugepages, prefaulted before the source connects.
    Hugepages,
    /// landfall's default memory, but transparent hugepages as QEMU has them, also on a host that
    /// has hugepages reserved.
    Thp,
}

impl fmt::Display for MemorySetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::Hugepages => "hugepages",
            Self::Thp => "thp",
        })
    }
}

/// Who sends to a contender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sender {
    /// Whatever the comparison is given: a QEMU, a recording, or else landfall.
    #[default]
    Given,
    /// `landfall send`, beside what is given: to hold one source against the other.
    Landfall,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Given => "given",
            Self::Landfall => "landfall",
        })
    }
}

/// A contender as a scenario names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// Who.
    pub receiver: Receiver,
    /// With which memory.
    pub memory: MemorySetup,
    /// Multifd channels, where they are not the scenario's.
    pub channels: Option<u8>,
    /// landfall's readers, where they are not the scenario's.
    pub readers: Option<u8>,
    /// Its source.
    #[serde(default)]
    pub source: Sender,
}

/// A contender with everything decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Who.
    pub receiver: Receiver,
    /// With which memory.
    pub memory: MemorySetup,
    /// Multifd channels, 0 for none.
    pub channels: u8,
    /// Reader threads of landfall and of the ceilings; QEMU has one for each channel.
    pub readers: u8,
    /// Guest RAM, bytes.
    pub ram_bytes: u64,
    /// Its source.
    pub source: Sender,
}

impl Receiver {
    /// True of those that parse nothing.
    #[must_use]
    pub fn is_ceiling(self) -> bool {
        matches!(self, Self::CeilingBlocking | Self::CeilingPatient | Self::CeilingRing)
    }
}

impl Contender {
    /// True for this landfall.
    #[must_use]
    pub fn is_landfall(&self) -> bool {
        self.receiver == Receiver::Landfall
    }

    /// What to do where it could not be started since the host has too few hugepages; else nothing.
    pub(super) fn way_without_hugepages(&self) -> &'static str {
        let is_short = self.memory == MemorySetup::Hugepages
            && host::free_hugepages().is_some_and(|pages| pages * HUGEPAGE_BYTES < self.ram_bytes);
        if is_short { "; --scenario default-memory needs none" } else { "" }
    }

    /// Guest RAM, GiB.
    #[must_use]
    pub fn ram_gib(&self) -> f64 {
        self.ram_bytes as f64 / GIB
    }

    /// True if `other` differs from it in guest RAM alone.
    #[must_use]
    pub fn is_another_size_of(&self, other: &Self) -> bool {
        Self { ram_bytes: other.ram_bytes, ..*self } == *other
    }

    /// True if `other` differs from it in nothing but who sends.
    #[must_use]
    pub fn is_sent_to_by_another_than(&self, other: &Self) -> bool {
        self.source != other.source && Self { source: other.source, ..*self } == *other
    }
}

/// `landfall, hugepages, 2 channels, 2 readers, 1.00 GiB`, and who sends if that is its own.
impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { receiver, memory, channels, readers, .. } = self;
        write!(f, "{receiver}, {memory}, {channels} channels, ")?;
        if *receiver != Receiver::Qemu {
            write!(f, "{readers} readers, ")?;
        }
        write!(f, "{:.2} GiB", self.ram_gib())?;
        match self.source {
            Sender::Given => Ok(()),
            Sender::Landfall => f.write_str(", landfall sends"),
        }
    }
}

const HUGEPAGE_BYTES: u64 = 2 << 20;
const GIB: f64 = (1u64 << 30) as f64;
