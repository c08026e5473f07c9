//! The QEMU whose tables and texts are imitated.

use std::fmt;
use std::str::FromStr;

/// A QEMU release whose capabilities, parameters and error texts we answer
/// with. Ordered by age, so `version >= QemuVersion::V10_0` reads as "since".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QemuVersion {
    /// 7.2.22, as in Debian bookworm.
    V7_2,
    /// 10.0.13, as in Debian trixie.
    V10_0,
    /// 11.1.3.
    V11_1,
}

impl QemuVersion {
    /// Every version there is, the oldest first.
    pub const ALL: [Self; 3] = [Self::V7_2, Self::V10_0, Self::V11_1];

    /// `(major, minor, micro)`, as the QMP greeting and `query-version` show it.
    #[must_use]
    pub const fn triple(self) -> (u8, u8, u8) {
        match self {
            Self::V7_2 => (7, 2, 22),
            Self::V10_0 => (10, 0, 13),
            Self::V11_1 => (11, 1, 3),
        }
    }
}

impl fmt::Display for QemuVersion {
    /// `major.minor`, the form [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, _) = self.triple();
        write!(f, "{major}.{minor}")
    }
}

impl FromStr for QemuVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|version| version.to_string() == text)
            .ok_or_else(|| format!("unknown QEMU version '{text}': known are 7.2, 10.0 and 11.1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_what_it_prints() {
        for version in QemuVersion::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert_eq!("7.2".parse(), Ok(QemuVersion::V7_2));
        assert!("7.2.22".parse::<QemuVersion>().is_err());
        assert!("9.0".parse::<QemuVersion>().is_err());
    }
}
