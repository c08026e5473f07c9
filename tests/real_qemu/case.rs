//! A case: one combination of a real source and a landfall destination, and the
//! space such combinations are chosen from.

use std::fmt;

use fastrand::Rng;

use crate::covering::{Partial, covering_set};

/// Which QEMU sends, as which machine. The machines stand on either side of the
/// rows in which a machine type changes the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// The version `tests/qemu/find` prints.
    pub(crate) qemu: &'static str,
    pub(crate) machine: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// The source's `zero-page-detection`; `Default` leaves it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZeroPages {
    Default,
    None,
    Legacy,
    Multifd,
}

/// The source's `multifd-compression`. Over QMP landfall is told it too; else it
/// follows the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Zlib,
    Zstd,
}

impl Compression {
    /// QEMU's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

/// How landfall learns the number of multifd channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Configured,
    Derived,
}

/// Where landfall puts guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// `--mem-path`: files in a run directory.
    File,
    /// Anonymous base pages, written out by `--dump`.
    Base,
    /// Anonymous transparent hugepages, written out by `--dump`.
    Transparent,
    /// Anonymous 2 MiB pages, mapped when the blocks are announced.
    Huge,
    /// Anonymous 2 MiB pages, mapped before the listener opens.
    HugePool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// Never started: its RAM is the prepared file.
    Paused,
    /// Dirties its memory through several rounds.
    Running,
}

/// How landfall is told what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    CommandLine,
    Qmp,
}

/// One more thing about the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    Plain,
    /// A virtio-mem device: an early section, and a block with unplugged parts.
    VirtioMem,
    /// The capability `switchover-ack`.
    SwitchoverAck,
    /// The capability `validate-uuid`: the configuration names the UUID.
    ValidateUuid,
    /// The capability `pause-before-switchover`: silence at a record boundary.
    PauseBeforeSwitchover,
    /// The capability `xbzrle`: pages sent again come as what has changed.
    Xbzrle,
    /// `suppress-vmdesc=on`: nothing but silence marks the end of the stream as
    /// long as the return path is open. Not in the covering set.
    NoDescription,
}

/// Whether all connections are under TLS, with certificates on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    /// What the two agree on by themselves: 1.3.
    Default,
    /// The source offers 1.2 and nothing else.
    Only1_2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) sender: Sender,
    /// Multifd channels; 0 is a migration without multifd.
    pub(crate) channels: u8,
    pub(crate) compression: Compression,
    pub(crate) transport: Transport,
    pub(crate) readers: u8,
    pub(crate) zero_pages: ZeroPages,
    pub(crate) return_path: bool,
    pub(crate) count: Count,
    pub(crate) memory: Memory,
    pub(crate) guest: Guest,
    pub(crate) control: Control,
    pub(crate) extra: Extra,
    /// Whether the source has a UUID (else its Init carries zeros).
    pub(crate) uuid: bool,
    /// Main memory as one block, or as two (NUMA nodes).
    pub(crate) two_blocks: bool,
    pub(crate) tls: Tls,
}

/// The cases in which every allowed combination of `strength` values occurs.
pub(crate) fn cases(strength: usize) -> Vec<Case> {
    rows(strength).iter().map(|row| Case::from_row(row)).collect()
}

/// Any case whose source is this QEMU, into anonymous memory under QMP, with
/// any number of channels up to 16.
pub(crate) fn by_chance(qemu: &str, random: &mut Rng) -> Case {
    loop {
        let row: Vec<usize> = LEVELS.iter().map(|&levels| random.usize(..levels)).collect();
        let mut case = Case::from_row(&row);
        let is_wanted = case.sender.qemu == qemu
            && case.control == Control::Qmp
            && case.memory == Memory::Base
            && is_allowed(&row.into_iter().map(Some).collect::<Vec<_>>());
        if is_wanted {
            if case.channels > 0 {
                case.channels = random.u8(1..=16);
            }
            return case;
        }
    }
}

/// A running guest is the harder test, so it is taken wherever either would do.
fn rows(strength: usize) -> Vec<Vec<usize>> {
    covering_set(&LEVELS, strength, &is_allowed, Some((GUEST, 1)), COVERING_SEED)
}

impl Case {
    fn from_row(row: &[usize]) -> Self {
        Self {
            sender: SENDERS[row[SENDER]],
            channels: CHANNELS[row[CHANNEL]],
            compression: COMPRESSIONS[row[COMPRESSION]],
            transport: TRANSPORTS[row[TRANSPORT]],
            readers: READERS[row[READER]],
            zero_pages: ZERO_PAGES[row[ZERO_PAGE]],
            return_path: row[RETURN_PATH] == 1,
            count: COUNTS[row[COUNT]],
            memory: MEMORIES[row[MEMORY]],
            guest: GUESTS[row[GUEST]],
            control: CONTROLS[row[CONTROL]],
            extra: EXTRAS[row[EXTRA]],
            uuid: row[UUID] == 1,
            two_blocks: row[BLOCKS] == 1,
            tls: TLS[row[TLS_LEVEL]],
        }
    }
}

/// What a person searches for, too: the filter looks for a part of this text.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sender = format!("{}/{}", self.sender.qemu, self.sender.machine);
        write!(
            f,
            "{sender:<20} {:<4} ch={:<2} {:<4} r={} {:<10} zero={:<7} rp={:<3} mem={:<11} {:<7} {:<11} {:<22} {} {} {}",
            format!("{:?}", self.transport).to_lowercase(),
            self.channels,
            self.compression.name(),
            self.readers,
            if self.channels == 0 {
                String::new()
            } else {
                format!("{:?}", self.count).to_lowercase()
            },
            format!("{:?}", self.zero_pages).to_lowercase(),
            if self.return_path { "on" } else { "off" },
            format!("{:?}", self.memory).to_lowercase(),
            format!("{:?}", self.guest).to_lowercase(),
            format!("{:?}", self.control).to_lowercase(),
            format!("{:?}", self.extra).to_lowercase(),
            if self.uuid { "uuid   " } else { "no-uuid" },
            if self.two_blocks { "2-blocks" } else { "1-block " },
            match self.tls {
                Tls::Off => "clear",
                Tls::Default => "tls",
                Tls::Only1_2 => "tls-1.2",
            },
        )
    }
}

/// Whether the values chosen so far may stand together: what QEMU cannot do, and
/// what would be no combination at all.
fn is_allowed(row: &Partial) -> bool {
    let sender = row[SENDER].map(|i| SENDERS[i]);
    let channels = row[CHANNEL].map(|i| CHANNELS[i]);
    let compression = row[COMPRESSION].map(|i| COMPRESSIONS[i]);
    let zero_pages = row[ZERO_PAGE].map(|i| ZERO_PAGES[i]);
    let count = row[COUNT].map(|i| COUNTS[i]);
    let control = row[CONTROL].map(|i| CONTROLS[i]);
    let extra = row[EXTRA].map(|i| EXTRAS[i]);
    let return_path = row[RETURN_PATH].map(|i| i == 1);
    let uuid = row[UUID].map(|i| i == 1);

    let old_qemu = sender.map(|s| s.qemu == "7.2");
    let old_board = sender.map(|s| s.machine.starts_with("pc-i440fx-2."));
    let no_configuration = old_board;
    let multifd = channels.map(|n| n > 0);
    let derived = count.map(|c| c == Count::Derived);
    let ack = extra.map(|e| e == Extra::SwitchoverAck);

    !(
        // zero-page-detection came with 9.0.
        both(old_qemu, zero_pages.map(|z| z != ZeroPages::Default))
        // switchover-ack came with 8.1, needs the return path, and the
        // destination must be told of it, which its command line cannot.
        || both(ack, old_qemu)
        || both(ack, return_path.map(|on| !on))
        || both(ack, control.map(|c| c == Control::CommandLine))
        // The machines of 2014 have no slot for virtio-mem, and no
        // configuration section for the UUID to be in.
        || both(old_board, extra.map(|e| e == Extra::VirtioMem))
        || both(no_configuration, extra.map(|e| e == Extra::ValidateUuid))
        || both(extra.map(|e| e == Extra::ValidateUuid), uuid.map(|on| !on))
        // From 9.0 on these two exclude each other.
        || both(multifd, extra.map(|e| e == Extra::Xbzrle))
        // Only multifd compresses this way.
        || both(multifd.map(|on| !on), compression.map(|c| c != Compression::None))
        // Nothing is to be configured without multifd, and over QMP the count
        // is always configured: the parameter has a default.
        || both(multifd.map(|on| !on), derived.map(|d| !d))
        || (both(multifd, derived) && control == Some(Control::Qmp))
    )
}

fn both(a: Option<bool>, b: Option<bool>) -> bool {
    a == Some(true) && b == Some(true)
}

const SENDERS: [Sender; 8] = [
    // No configuration section, footers or globalstate; up to 2.2 no vmdesc.
    Sender { qemu: "7.2", machine: "pc-i440fx-2.2" },
    Sender { qemu: "7.2", machine: "pc-i440fx-2.3" },
    Sender { qemu: "7.2", machine: "pc-q35-7.2" },
    // Up to 7.2 no early virtio-mem section.
    Sender { qemu: "10.0", machine: "pc-q35-7.2" },
    // Up to 8.0 every EOS is a sync point.
    Sender { qemu: "10.0", machine: "pc-q35-8.0" },
    // Up to 8.2 zero pages on the main stream.
    Sender { qemu: "10.0", machine: "pc-q35-8.2" },
    // Up to 9.2 no SWITCHOVER_START.
    Sender { qemu: "10.0", machine: "pc-q35-9.2" },
    Sender { qemu: "10.0", machine: "pc-q35-10.0" },
];
const CHANNELS: [u8; 5] = [0, 1, 2, 8, 16];
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Zlib, Compression::Zstd];
const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Unix];
const READERS: [u8; 2] = [1, 2];
const ZERO_PAGES: [ZeroPages; 4] =
    [ZeroPages::Default, ZeroPages::None, ZeroPages::Legacy, ZeroPages::Multifd];
const COUNTS: [Count; 2] = [Count::Configured, Count::Derived];
const MEMORIES: [Memory; 5] =
    [Memory::File, Memory::Base, Memory::Transparent, Memory::Huge, Memory::HugePool];
const GUESTS: [Guest; 2] = [Guest::Paused, Guest::Running];
const CONTROLS: [Control; 2] = [Control::CommandLine, Control::Qmp];
const EXTRAS: [Extra; 6] = [
    Extra::Plain,
    Extra::VirtioMem,
    Extra::SwitchoverAck,
    Extra::ValidateUuid,
    Extra::PauseBeforeSwitchover,
    Extra::Xbzrle,
];

const TLS: [Tls; 3] = [Tls::Off, Tls::Default, Tls::Only1_2];

/// How many values each dimension has, in the order of the indices below.
const LEVELS: [usize; 15] = [
    SENDERS.len(),
    CHANNELS.len(),
    TRANSPORTS.len(),
    READERS.len(),
    ZERO_PAGES.len(),
    2,
    COUNTS.len(),
    MEMORIES.len(),
    GUESTS.len(),
    CONTROLS.len(),
    EXTRAS.len(),
    2,
    2,
    COMPRESSIONS.len(),
    TLS.len(),
];
const SENDER: usize = 0;
const CHANNEL: usize = 1;
const TRANSPORT: usize = 2;
const READER: usize = 3;
const ZERO_PAGE: usize = 4;
const RETURN_PATH: usize = 5;
const COUNT: usize = 6;
const MEMORY: usize = 7;
const GUEST: usize = 8;
const CONTROL: usize = 9;
const EXTRA: usize = 10;
const UUID: usize = 11;
const BLOCKS: usize = 12;
const COMPRESSION: usize = 13;
const TLS_LEVEL: usize = 14;

/// The set is part of the test, not a matter of chance.
const COVERING_SEED: u64 = 0x5145_564d;

#[test]
fn the_gate_takes_at_most_sixty_runs_and_covers_every_allowed_pair() {
    let rows = rows(2);
    let covered: std::collections::BTreeSet<_> =
        rows.iter().flat_map(|row| crate::covering::covered_by(row, 2)).collect();
    assert_eq!(covered, crate::covering::combinations(&LEVELS, 2, &is_allowed));
    assert!(rows.len() <= 60, "{} runs", rows.len());
}

#[test]
fn every_value_of_every_dimension_is_in_the_gate() {
    let rows = rows(2);
    for (dimension, &levels) in LEVELS.iter().enumerate() {
        for value in 0..levels {
            assert!(rows.iter().any(|row| row[dimension] == value), "{dimension}={value}");
        }
    }
}
