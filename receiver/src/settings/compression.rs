//! The compressions of multifd.

use super::QemuVersion;
use crate::wire::Compression;

/// How the source packs multifd pages (`multifd-compression`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MultifdCompression {
    /// Pages as they are.
    None,
    /// One zlib stream a channel.
    Zlib,
    /// One zstd stream a channel.
    Zstd,
    /// Deflate by Intel IAA, since 9.1.
    Qpl,
    /// zlib by a Kunpeng accelerator, since 9.1.
    Uadk,
    /// Deflate by Intel QAT, since 9.2.
    Qatzip,
}

impl MultifdCompression {
    /// Every one, in the order of [`names`](Self::names) of the newest version.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Zlib, Self::Zstd, Self::Qpl, Self::Uadk, Self::Qatzip];

    /// What it is on the wire.
    #[must_use]
    pub const fn method(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Zlib => Compression::Zlib,
            Self::Zstd => Compression::Zstd,
            Self::Qpl => Compression::Qpl,
            Self::Uadk => Compression::Uadk,
            Self::Qatzip => Compression::Qatzip,
        }
    }

    /// QEMU's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.method().as_str()
    }

    /// The names `version` knows, whatever a build of it offers.
    #[must_use]
    pub const fn names(version: QemuVersion) -> &'static [&'static str] {
        match version {
            QemuVersion::V7_2 => &["none", "zlib", "zstd"],
            QemuVersion::V10_0 | QemuVersion::V11_1 => {
                &["none", "zlib", "zstd", "qpl", "uadk", "qatzip"]
            }
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.name() == name)
    }
}
