//! The only thing that touches bytes.

use super::{WireError, WireFault};

/// Takes fields off the front of a byte slice and remembers where it is.
///
/// All integers of a migration are big-endian; a `cstr` is one length byte
/// (1..=255) and that many bytes. No method can read outside the slice, and
/// after an error the reader has not moved.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the first of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    /// Bytes taken so far.
    #[inline]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// What has not been taken.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error about a field that began at `at`.
    #[inline]
    pub const fn fault_at(&self, field: &'static str, at: usize, fault: WireFault) -> WireError {
        WireError { field, at, fault }
    }

    /// An error about the field that begins here.
    #[inline]
    pub const fn fault(&self, field: &'static str, fault: WireFault) -> WireError {
        self.fault_at(field, self.at, fault)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], WireError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                self.at = self.at.saturating_add(N);
                Ok(head)
            }
            None => Err(self.short(field, N)),
        }
    }

    /// The next `count` bytes.
    #[inline]
    pub fn bytes(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], WireError> {
        match self.rest.split_at_checked(count) {
            Some((head, rest)) => {
                self.rest = rest;
                self.at = self.at.saturating_add(count);
                Ok(head)
            }
            None => Err(self.short(field, count)),
        }
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(|&[byte]| byte)
    }

    /// The next byte, left where it is.
    #[inline]
    pub fn peek_byte(&self, field: &'static str) -> Result<u8, WireError> {
        self.rest.first().copied().ok_or_else(|| self.short(field, 1))
    }

    /// A 16-bit number.
    #[inline]
    pub fn be16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A 32-bit number.
    #[inline]
    pub fn be32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A 64-bit number.
    #[inline]
    pub fn be64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// A 32-bit number that can have one value only.
    #[inline]
    pub fn be32_is(&mut self, field: &'static str, expected: u32) -> Result<(), WireError> {
        let at = self.at;
        match self.be32(field)? {
            found if found == expected => Ok(()),
            found => Err(WireError {
                field,
                at,
                fault: WireFault::Mismatch {
                    found: u64::from(found),
                    expected: u64::from(expected),
                },
            }),
        }
    }

    /// A name with its length byte: 1 to 255 bytes of printable ASCII.
    pub fn cstr(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        let mut ahead = self.clone();
        let length = ahead.byte(field)?;
        let name = ahead.name(field, usize::from(length))?;
        *self = ahead;
        Ok(name)
    }

    /// Passes over a name with its length byte: 1 to 255 bytes, whatever they are.
    pub fn skip_cstr(&mut self, field: &'static str) -> Result<(), WireError> {
        let mut ahead = self.clone();
        let length = ahead.byte(field)?;
        if length == 0 {
            return Err(self.fault(field, WireFault::Empty));
        }
        ahead.bytes(field, usize::from(length))?;
        *self = ahead;
        Ok(())
    }

    /// A name of `count` bytes of printable ASCII, at least one.
    pub fn name(&mut self, field: &'static str, count: usize) -> Result<&'a str, WireError> {
        let mut ahead = self.clone();
        let name =
            printable(ahead.bytes(field, count)?).map_err(|fault| self.fault(field, fault))?;
        *self = ahead;
        Ok(name)
    }

    /// Takes the rest; an error if that is not empty.
    pub fn finish(&self, field: &'static str) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(self.fault(field, WireFault::Trailing { extra })),
        }
    }

    #[cold]
    fn short(&self, field: &'static str, needed: usize) -> WireError {
        let missing = needed.saturating_sub(self.rest.len());
        self.fault(field, WireFault::Short { missing })
    }
}

/// `bytes` as text, if they are printable ASCII (space to tilde) and at least
/// one.
///
/// QEMU lets a name hold any byte; every name that it makes is printable, and
/// names become file names, log lines and JSON here.
pub(super) fn printable(bytes: &[u8]) -> Result<&str, WireFault> {
    if bytes.is_empty() {
        return Err(WireFault::Empty);
    }
    if let Some(&byte) = bytes.iter().find(|byte| !matches!(byte, b' '..=b'~')) {
        return Err(WireFault::NotPrintable { byte });
    }
    // Printable ASCII is always UTF-8; the error arm is never taken.
    str::from_utf8(bytes).map_err(|_| WireFault::NotPrintable { byte: 0xff })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_a_field_is_short_and_moves_nothing() {
        let whole = [3, b'r', b'a', b'm'];
        for cut in 0..whole.len() {
            let mut reader = Reader::new(&whole[..cut]);
            let error = reader.cstr("idstr").unwrap_err();
            assert!(error.is_short(), "cut at {cut}: {error}");
            assert_eq!(reader.at(), 0);
        }
        assert_eq!(Reader::new(&whole).cstr("idstr"), Ok("ram"));
    }

    #[test]
    fn numbers_are_big_endian() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(reader.byte("a"), Ok(1));
        assert_eq!(reader.be16("b"), Ok(0x0203));
        assert_eq!(reader.be32("c"), Ok(0x0405_0607));
        assert_eq!(reader.be64("d"), Ok(0x0809_0a0b_0c0d_0e0f));
        assert_eq!(reader.at(), 15);
        assert_eq!(reader.finish("end"), Ok(()));
    }

    #[test]
    fn names_that_cannot_be_printed_are_refused() {
        for (bytes, fault) in [
            (&[0u8][..], WireFault::Empty),
            (&[1, 0], WireFault::NotPrintable { byte: 0 }),
            (&[2, b'a', 0x7f], WireFault::NotPrintable { byte: 0x7f }),
            (&[1, 0xc3], WireFault::NotPrintable { byte: 0xc3 }),
        ] {
            let error = Reader::new(bytes).cstr("idstr").unwrap_err();
            assert_eq!(error.fault, fault);
        }
    }

    #[test]
    fn an_error_reads_as_field_found_limit() {
        let error = WireError {
            field: "normal_pages",
            at: 16,
            fault: WireFault::OverLimit { found: 129, limit: 128 },
        };
        assert_eq!(error.to_string(), "normal_pages is 129, limit 128");
    }
}
