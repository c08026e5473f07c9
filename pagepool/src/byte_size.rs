//! A number of bytes as people read it.

use std::fmt;

/// A byte count that prints in the largest binary unit, with one decimal where it is not whole:
/// `2 GiB`, `16.5 MiB`, `12 B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        let unit = UNITS.iter().find(|(unit_bytes, _)| bytes >= *unit_bytes);
        match unit {
            None => write!(f, "{bytes} B"),
            Some((unit_bytes, name)) if bytes.is_multiple_of(*unit_bytes) => {
                write!(f, "{} {name}", bytes / unit_bytes)
            }
            Some((unit_bytes, name)) => {
                write!(f, "{:.1} {name}", bytes as f64 / *unit_bytes as f64)
            }
        }
    }
}

const UNITS: [(u64, &str); 5] =
    [(1 << 50, "PiB"), (1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn sizes_print_in_their_largest_unit() {
        let shown = [0, 12, 1024, 17_301_504, 2 << 30, 4 << 40].map(|n| ByteSize(n).to_string());
        assert_eq!(shown, ["0 B", "12 B", "1 KiB", "16.5 MiB", "2 GiB", "4 TiB"]);
    }
}
