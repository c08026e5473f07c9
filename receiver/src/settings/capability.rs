//! The capabilities: names, which version has which, and the order in which
//! `query-migrate-capabilities` lists them.

use super::QemuVersion;

/// A migration capability (`qapi/migration.json`, `MigrationCapability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are QEMU's own; see name()")]
pub enum Capability {
    Xbzrle,
    RdmaPinAll,
    AutoConverge,
    ZeroBlocks,
    Compress,
    Events,
    PostcopyRam,
    XColo,
    ReleaseRam,
    Block,
    ReturnPath,
    PauseBeforeSwitchover,
    Multifd,
    DirtyBitmaps,
    PostcopyBlocktime,
    LateBlockActivate,
    XIgnoreShared,
    ValidateUuid,
    BackgroundSnapshot,
    ZeroCopySend,
    PostcopyPreempt,
    SwitchoverAck,
    DirtyLimit,
    MappedRam,
}

impl Capability {
    /// Those `version` has, in the order it lists them.
    pub fn of(version: QemuVersion) -> impl Iterator<Item = Self> {
        ROWS.iter()
            .filter(move |row| row.first <= version && version <= row.last)
            .map(|row| row.capability)
    }

    /// The capability `version` calls `name`.
    #[must_use]
    pub fn named(name: &str, version: QemuVersion) -> Option<Self> {
        Self::of(version).find(|capability| capability.name() == name)
    }

    /// QEMU's name, as on QMP and on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The property of the migration object that `-global migration.X=` sets
    /// to turn this on; a few capabilities have none.
    #[must_use]
    pub fn property(self) -> Option<&'static str> {
        self.row().property
    }

    /// This one's place in a set of capabilities.
    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }

    fn row(self) -> &'static Row {
        let row = &ROWS[self as usize];
        debug_assert!(row.capability == self, "a row of capabilities is out of place");
        row
    }
}

struct Row {
    capability: Capability,
    name: &'static str,
    property: Option<&'static str>,
    first: QemuVersion,
    last: QemuVersion,
}

const fn row(capability: Capability, name: &'static str, property: &'static str) -> Row {
    Row {
        capability,
        name,
        property: Some(property),
        first: QemuVersion::V7_2,
        last: QemuVersion::V11_1,
    }
}

impl Row {
    const fn without_property(self) -> Self {
        Self { property: None, ..self }
    }

    const fn since(self, first: QemuVersion) -> Self {
        Self { first, ..self }
    }

    const fn until(self, last: QemuVersion) -> Self {
        Self { last, ..self }
    }
}

/// In QEMU's order, all versions merged: each version's list is a subsequence.
/// The enum's order is the same, so that a capability is its row's index.
static ROWS: [Row; 24] = [
    row(Capability::Xbzrle, "xbzrle", "x-xbzrle"),
    row(Capability::RdmaPinAll, "rdma-pin-all", "x-rdma-pin-all"),
    row(Capability::AutoConverge, "auto-converge", "x-auto-converge"),
    row(Capability::ZeroBlocks, "zero-blocks", "x-zero-blocks").until(QemuVersion::V10_0),
    row(Capability::Compress, "compress", "x-compress").until(QemuVersion::V7_2),
    row(Capability::Events, "events", "x-events"),
    row(Capability::PostcopyRam, "postcopy-ram", "x-postcopy-ram"),
    row(Capability::XColo, "x-colo", "x-colo"),
    row(Capability::ReleaseRam, "release-ram", "x-release-ram"),
    row(Capability::Block, "block", "x-block").until(QemuVersion::V7_2),
    row(Capability::ReturnPath, "return-path", "x-return-path"),
    row(Capability::PauseBeforeSwitchover, "pause-before-switchover", "").without_property(),
    row(Capability::Multifd, "multifd", "x-multifd"),
    row(Capability::DirtyBitmaps, "dirty-bitmaps", "").without_property(),
    row(Capability::PostcopyBlocktime, "postcopy-blocktime", "").without_property(),
    row(Capability::LateBlockActivate, "late-block-activate", "").without_property(),
    row(Capability::XIgnoreShared, "x-ignore-shared", "").without_property(),
    row(Capability::ValidateUuid, "validate-uuid", "").without_property(),
    row(Capability::BackgroundSnapshot, "background-snapshot", "x-background-snapshot"),
    row(Capability::ZeroCopySend, "zero-copy-send", "x-zero-copy-send"),
    row(Capability::PostcopyPreempt, "postcopy-preempt", "x-postcopy-preempt"),
    row(Capability::SwitchoverAck, "switchover-ack", "x-switchover-ack").since(QemuVersion::V10_0),
    row(Capability::DirtyLimit, "dirty-limit", "x-dirty-limit").since(QemuVersion::V10_0),
    row(Capability::MappedRam, "mapped-ram", "mapped-ram").since(QemuVersion::V10_0),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(version: QemuVersion) -> String {
        Capability::of(version).map(Capability::name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_capability_sits_in_the_row_of_its_own_number() {
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(row.capability as usize, index, "{}", row.name);
        }
    }

    #[test]
    fn the_lists_are_those_the_three_versions_answer_with() {
        assert_eq!(
            names(QemuVersion::V11_1),
            "xbzrle rdma-pin-all auto-converge events postcopy-ram x-colo release-ram return-path \
             pause-before-switchover multifd dirty-bitmaps postcopy-blocktime late-block-activate \
             x-ignore-shared validate-uuid background-snapshot zero-copy-send postcopy-preempt \
             switchover-ack dirty-limit mapped-ram"
        );
        assert_eq!(
            names(QemuVersion::V10_0),
            names(QemuVersion::V11_1).replace("auto-converge ", "auto-converge zero-blocks ")
        );
        assert_eq!(
            names(QemuVersion::V7_2),
            "xbzrle rdma-pin-all auto-converge zero-blocks compress events postcopy-ram x-colo \
             release-ram block return-path pause-before-switchover multifd dirty-bitmaps \
             postcopy-blocktime late-block-activate x-ignore-shared validate-uuid \
             background-snapshot zero-copy-send postcopy-preempt"
        );
    }

    #[test]
    fn sixteen_capabilities_of_10_0_are_properties_and_only_mapped_ram_is_bare() {
        let properties: Vec<_> =
            Capability::of(QemuVersion::V10_0).filter_map(Capability::property).collect();
        assert_eq!(properties.len(), 16);
        let bare: Vec<_> = properties.iter().filter(|name| !name.starts_with("x-")).collect();
        assert_eq!(bare, [&"mapped-ram"]);
    }
}
