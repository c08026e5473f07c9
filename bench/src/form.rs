//! What the wire looks like for a given QEMU and machine type, as a set of independent switches.
//!
//! A form is a plain description: [`Form::qemu`] gives the one that a real source has, and every
//! field can be changed on its own afterwards to build combinations that no release ever had.

use std::fmt;

/// A version as `major.minor`, of a QEMU binary or of a machine type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Before the dot.
    pub major: u16,
    /// After the dot.
    pub minor: u16,
}

impl Version {
    /// `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The version at the end of a machine type's full name, as in `pc-q35-10.0`; `None` when there
    /// is none.
    #[must_use]
    pub fn of_machine(name: &str) -> Option<Self> {
        let (major, minor) = name.rsplit('-').next()?.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// How main tells that a round is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncForm {
    /// Every EOS of a ram section is a sync point (QEMU 7.2 and machine types up to 8.0).
    PerEos,
    /// `MULTIFD_FLUSH` records are the sync points (machine types from 8.1).
    Flush,
}

/// How a zero page is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroForm {
    /// In the multifd packet, after the normal pages (`zero-page-detection=multifd`). Without
    /// multifd the same setting gives [`ZeroForm::OnMain`].
    InPackets,
    /// As a ZERO record on main (`legacy`, and everything without multifd).
    OnMain,
    /// Not at all: a zero page travels as a full page (`none`).
    FullPages,
}

/// How multifd packets are filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketForm {
    /// QEMU up to 8.2: SYNC packets that carry pages, empty packets, and in packets without pages
    /// a stale `next_packet_size`, block name and offsets.
    Stale,
    /// QEMU from 9.0: SYNC packets are all zero apart from their flag, no empty packets.
    Clean,
}

/// The JSON after the end of the sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmdescForm {
    /// None (machine types up to 2.2, `suppress-vmdesc=on`).
    Absent,
    /// `page_size` and `devices` (7.2).
    Plain,
    /// `configuration` before those (10.0 and later).
    WithConfiguration,
}

/// The `globalstate` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalStateForm {
    /// None (machine types up to 2.3).
    Absent,
    /// The run state in 100 bytes (7.2).
    Whole,
    /// 32 bytes of run state, two flags, 66 bytes (9.0 and later).
    Split,
}

/// Where a virtio-mem device's early section stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyForm {
    /// Before ram's START (11.1).
    BeforeRam,
    /// After ram's START (8.0 to 10.x).
    AfterRam,
}

/// What the source expects of SWITCHOVER_ACK when the capability is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckForm {
    /// One is awaited before the switchover; further ones are ignored (up to 10.x).
    One,
    /// One is awaited; a further one is an error (11.1 with machine types up to 11.0).
    OneExactly,
    /// None is awaited and any is an error (11.1 with machine type 11.1: only devices ask).
    NoneExactly,
}

/// When the source acts on a SHUT that comes before it sent everything, or on a wrong reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyForm {
    /// At once: it gives up (7.2).
    AtOnce,
    /// Once everything is sent: then an early SHUT 0 counts like one in time (10.0, 11.1).
    AtEnd,
}

/// The wire's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The configuration section after the header (machine types from 2.4).
    pub configuration: bool,
    /// A footer after each section (machine types from 2.4).
    pub footers: bool,
    /// The JSON at the end.
    pub vmdesc: VmdescForm,
    /// The `globalstate` section.
    pub globalstate: GlobalStateForm,
    /// What a sync point is. Without multifd there is none in either form.
    pub sync: SyncForm,
    /// How zero pages travel.
    pub zero: ZeroForm,
    /// How packets are filled in.
    pub packets: PacketForm,
    /// The early section of a virtio-mem device, when [`crate::SourceConfig::early_sections`] asks
    /// for some.
    pub early: EarlyForm,
    /// The command SWITCHOVER_START before ram's END (machine types from 10.0).
    pub switchover_start: bool,
    /// Channels under TLS end with close_notify (machine types from 10.0).
    pub tls_goodbye: bool,
    /// What to make of SWITCHOVER_ACK.
    pub acks: AckForm,
    /// What to make of early and wrong replies.
    pub replies: ReplyForm,
    /// Nothing is sent on main until every channel is connected (9.0 and later).
    pub main_awaits_channels: bool,
    /// The section id of `ram`: 2 up to 9.0, 1 later. The other ids follow from it.
    pub ram_section_id: u32,
    /// The device tail starts with `apic` in place of `timer` (11.1).
    pub apic_first: bool,
}

impl Form {
    /// The shape that a QEMU `binary` gives a stream when it runs a machine of type `machine`.
    ///
    /// Observed for the binaries 7.2, 10.0 and 11.1; between them the change is placed at the
    /// release that made it.
    #[must_use]
    pub fn qemu(binary: Version, machine: Version) -> Self {
        let v = Version::new;
        Self {
            configuration: machine >= v(2, 4),
            footers: machine >= v(2, 4),
            vmdesc: match () {
                () if machine <= v(2, 2) => VmdescForm::Absent,
                () if binary < v(9, 0) => VmdescForm::Plain,
                () => VmdescForm::WithConfiguration,
            },
            globalstate: match () {
                () if machine <= v(2, 3) => GlobalStateForm::Absent,
                () if binary < v(9, 0) => GlobalStateForm::Whole,
                () => GlobalStateForm::Split,
            },
            sync: if binary >= v(8, 1) && machine >= v(8, 1) {
                SyncForm::Flush
            } else {
                SyncForm::PerEos
            },
            zero: if binary >= v(9, 0) && machine >= v(9, 0) {
                ZeroForm::InPackets
            } else {
                ZeroForm::OnMain
            },
            packets: if binary >= v(9, 0) { PacketForm::Clean } else { PacketForm::Stale },
            early: if binary >= v(11, 0) { EarlyForm::BeforeRam } else { EarlyForm::AfterRam },
            switchover_start: binary >= v(10, 0) && machine >= v(10, 0),
            tls_goodbye: binary >= v(10, 0) && machine >= v(10, 0),
            acks: match () {
                () if binary < v(11, 1) => AckForm::One,
                () if machine <= v(11, 0) => AckForm::OneExactly,
                () => AckForm::NoneExactly,
            },
            replies: if binary < v(8, 0) { ReplyForm::AtOnce } else { ReplyForm::AtEnd },
            main_awaits_channels: binary >= v(9, 0),
            // `block` stands before it up to 9.0.
            ram_section_id: if binary <= v(9, 0) { 2 } else { 1 },
            apic_first: binary >= v(11, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_versions_are_read_from_full_names() {
        assert_eq!(Version::of_machine("pc-q35-10.0"), Some(Version::new(10, 0)));
        assert_eq!(Version::of_machine("pc-i440fx-2.12"), Some(Version::new(2, 12)));
        assert_eq!(Version::of_machine("virt"), None);
    }

    #[test]
    fn each_row_keyed_to_the_machine_type_changes_where_it_was_observed() {
        let v = Version::new;
        let form = |machine| Form::qemu(v(10, 0), machine);
        assert_eq!(form(v(8, 0)).sync, SyncForm::PerEos);
        assert_eq!(form(v(8, 1)).sync, SyncForm::Flush);
        assert_eq!(form(v(8, 2)).zero, ZeroForm::OnMain);
        assert_eq!(form(v(9, 0)).zero, ZeroForm::InPackets);
        assert!(!form(v(9, 2)).switchover_start);
        assert!(form(v(10, 0)).switchover_start);
        let old = |machine| Form::qemu(v(7, 2), machine);
        assert!(!old(v(2, 3)).footers && old(v(2, 4)).footers);
        assert_eq!(old(v(2, 2)).vmdesc, VmdescForm::Absent);
        assert_eq!(old(v(2, 3)).vmdesc, VmdescForm::Plain);
        assert_eq!(Form::qemu(v(11, 1), v(11, 0)).acks, AckForm::OneExactly);
        assert_eq!(Form::qemu(v(11, 1), v(11, 1)).acks, AckForm::NoneExactly);
    }
}
