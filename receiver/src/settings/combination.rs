//! Which capabilities exclude or require each other, with the texts of the
//! version that refuses them (`migration/options.c`, `migrate_caps_check`).

use super::capability::Capability;
use super::{IncomingPhase, MultifdCompression, QemuVersion};

/// What a change of capabilities is judged by.
pub(super) struct Change {
    pub(super) version: QemuVersion,
    pub(super) phase: IncomingPhase,
    pub(super) old: CapabilitySet,
    pub(super) new: CapabilitySet,
    pub(super) compression: MultifdCompression,
    pub(super) tls: bool,
}

/// Capabilities that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CapabilitySet(u32);

impl CapabilitySet {
    pub(super) fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    pub(super) fn set(&mut self, capability: Capability, on: bool) {
        if on {
            self.0 |= capability.bit();
        } else {
            self.0 &= !capability.bit();
        }
    }
}

impl Change {
    /// The first rule the new set breaks, in the order QEMU checks them.
    ///
    /// # Errors
    /// QEMU's text for that rule.
    pub(super) fn check(&self) -> Result<(), String> {
        use Capability::{
            AutoConverge, BackgroundSnapshot, Compress, DirtyLimit, MappedRam, Multifd,
            PostcopyPreempt, PostcopyRam, ReturnPath, SwitchoverAck, XColo, XIgnoreShared, Xbzrle,
            ZeroCopySend,
        };
        let (v7, v11) = (self.version == QemuVersion::V7_2, self.version == QemuVersion::V11_1);
        let started = self.phase != IncomingPhase::NotStarted;

        if v11 {
            self.requires(XColo, ReturnPath)?;
        }
        self.excludes(PostcopyRam, XIgnoreShared, "Postcopy is not compatible with ignore-shared")?;
        if self.version == QemuVersion::V10_0 {
            self.excludes(PostcopyRam, Multifd, "Postcopy is not yet compatible with multifd")?;
        }
        if self.on(BackgroundSnapshot)
            && let Some(other) =
                NOT_WITH_BACKGROUND_SNAPSHOT.into_iter().find(|&other| self.on(other))
        {
            return Err(format!("Background-snapshot is not compatible with {}", other.name()));
        }
        if self.on(ZeroCopySend)
            && (!self.on(Multifd)
                || self.on(Compress)
                || self.on(Xbzrle)
                || self.compression != MultifdCompression::None
                || self.tls)
        {
            return Err(ZERO_COPY.into());
        }
        if self.on(PostcopyPreempt) {
            if !self.on(PostcopyRam) {
                return Err("Postcopy preempt requires postcopy-ram".into());
            }
            self.excludes(
                PostcopyPreempt,
                Compress,
                "Postcopy preempt not compatible with compress",
            )?;
            if !v7 && started && !self.old.has(PostcopyPreempt) {
                return Err("Postcopy preempt must be set before incoming starts".into());
            }
        }
        self.excludes(Multifd, Compress, "Multifd is not compatible with compress")?;
        if !v7 && started && self.on(Multifd) && !self.old.has(Multifd) {
            return Err("Multifd must be set before incoming starts".into());
        }
        self.requires(SwitchoverAck, ReturnPath)?;
        self.excludes(
            DirtyLimit,
            AutoConverge,
            "dirty-limit conflicts with auto-converge either of then available currently",
        )?;
        if self.on(DirtyLimit) {
            return Err(
                "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set".into()
            );
        }
        if !v7 {
            self.excludes(Multifd, Xbzrle, "Multifd is not compatible with xbzrle")?;
        }
        self.excludes(MappedRam, Xbzrle, "Mapped-ram migration is incompatible with xbzrle")?;
        self.excludes(MappedRam, PostcopyRam, "Mapped-ram migration is incompatible with postcopy")
    }

    fn on(&self, capability: Capability) -> bool {
        self.new.has(capability)
    }

    fn excludes(&self, one: Capability, other: Capability, text: &str) -> Result<(), String> {
        if self.on(one) && self.on(other) { Err(text.into()) } else { Ok(()) }
    }

    fn requires(&self, one: Capability, other: Capability) -> Result<(), String> {
        if self.on(one) && !self.on(other) {
            return Err(format!(
                "Capability '{}' requires capability '{}'",
                one.name(),
                other.name()
            ));
        }
        Ok(())
    }
}

/// Said by `migrate-set-capabilities` and `migrate-set-parameters` alike.
pub(super) const ZERO_COPY: &str =
    "Zero copy only available for non-compressed non-TLS multifd migration";

/// In the order QEMU looks for them: the first found is named.
const NOT_WITH_BACKGROUND_SNAPSHOT: [Capability; 15] = [
    Capability::PostcopyRam,
    Capability::DirtyBitmaps,
    Capability::PostcopyBlocktime,
    Capability::LateBlockActivate,
    Capability::ReturnPath,
    Capability::Multifd,
    Capability::PauseBeforeSwitchover,
    Capability::AutoConverge,
    Capability::ReleaseRam,
    Capability::RdmaPinAll,
    Capability::Compress,
    Capability::Xbzrle,
    Capability::XColo,
    Capability::ValidateUuid,
    Capability::ZeroCopySend,
];
