//! XBZRLE: what changed in a page since it was last sent.

use super::{Reader, WireError, WireFault};

/// One changed piece of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch<'a> {
    /// Where it begins in the page, bytes.
    pub at: usize,
    /// The bytes that now stand there; at least one.
    pub bytes: &'a [u8],
}

/// The pieces of an encoded page in ascending order (`migration/xbzrle.c`,
/// `xbzrle_decode_buffer`): repeated, the length of an unchanged run and of a
/// changed one, each in one or two bytes of seven bits, then the changed bytes.
///
/// Every piece lies inside the page. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Patches<'a> {
    encoded: &'a [u8],
    rest: &'a [u8],
    page_bytes: usize,
    at: usize,
}

impl<'a> Patches<'a> {
    /// The pieces of `encoded`, for a page of `page_bytes`.
    #[inline]
    pub fn new(encoded: &'a [u8], page_bytes: usize) -> Self {
        Self { encoded, rest: encoded, page_bytes, at: 0 }
    }

    fn is_first(&self) -> bool {
        self.rest.len() == self.encoded.len()
    }

    /// The next piece; `None` if it is wrong.
    #[inline]
    fn piece(&mut self) -> Option<Patch<'a>> {
        let (unchanged, rest) = length(self.rest)?;
        let (changed, rest) = length(rest)?;
        // Lengths have 14 bits, and `at` is inside the page.
        let at = self.at.wrapping_add(unchanged);
        let end = at.wrapping_add(changed);
        if changed == 0 || end > self.page_bytes || (unchanged == 0 && !self.is_first()) {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(changed)?;
        (self.rest, self.at) = (rest, end);
        Some(Patch { at, bytes })
    }

    /// What is wrong with the next piece.
    #[cold]
    fn wrong(&self) -> WireError {
        let mut reader = Reader::new(self.encoded);
        let taken = self.encoded.len().saturating_sub(self.rest.len());
        let found = reader.bytes("xbzrle", taken).and_then(|_| self.judge(&mut reader));
        found.err().unwrap_or_else(|| empty_run(&reader, "xbzrle changed run", reader.at()))
    }

    /// The rules of [`Patches::piece`] once more, each with its words.
    fn judge(&self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        let unchanged_at = reader.at();
        let unchanged = judged_length(reader, "xbzrle unchanged run")?;
        if unchanged == 0 && !self.is_first() {
            return Err(empty_run(reader, "xbzrle unchanged run", unchanged_at));
        }
        let changed_at = reader.at();
        let changed = judged_length(reader, "xbzrle changed run")?;
        if changed == 0 {
            return Err(empty_run(reader, "xbzrle changed run", changed_at));
        }
        let end = self.at.saturating_add(unchanged).saturating_add(changed);
        if end > self.page_bytes {
            let count = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
            let fault = WireFault::OverLimit { found: count(end), limit: count(self.page_bytes) };
            return Err(reader.fault_at("xbzrle changed run", changed_at, fault));
        }
        reader.bytes("xbzrle changed bytes", changed).map(drop)
    }
}

/// `uleb128` of at most two bytes (`util/cutils.c`, `uleb128_decode_small`), and what
/// stands behind it.
#[inline]
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [low, rest @ ..] if low & MORE == 0 => Some((usize::from(*low), rest)),
        [low, high, rest @ ..] if high & MORE == 0 => {
            Some((usize::from(low & !MORE) | usize::from(*high) << LOW_BITS, rest))
        }
        _ => None,
    }
}

/// As [`length`], with words for what is wrong.
fn judged_length(reader: &mut Reader<'_>, field: &'static str) -> Result<usize, WireError> {
    let at = reader.at();
    let low = reader.byte(field)?;
    if low & MORE == 0 {
        return Ok(usize::from(low));
    }
    let high = reader.byte(field)?;
    if high & MORE != 0 {
        let fault = WireFault::Unknown { found: u64::from(high) };
        return Err(reader.fault_at(field, at, fault));
    }
    Ok(usize::from(low & !MORE) | usize::from(high) << LOW_BITS)
}

fn empty_run(reader: &Reader<'_>, field: &'static str, at: usize) -> WireError {
    reader.fault_at(field, at, WireFault::UnderLimit { found: 0, limit: 1 })
}

impl<'a> Iterator for Patches<'a> {
    type Item = Result<Patch<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(match self.piece() {
            Some(patch) => Ok(patch),
            None => {
                let wrong = self.wrong();
                self.rest = &[];
                Err(wrong)
            }
        })
    }
}

const MORE: u8 = 0x80;
const LOW_BITS: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(encoded: &[u8]) -> Result<Vec<(usize, Vec<u8>)>, WireError> {
        Patches::new(encoded, 4096)
            .map(|patch| patch.map(|patch| (patch.at, patch.bytes.to_vec())))
            .collect()
    }

    #[test]
    fn the_observed_page_has_two_changed_bytes() {
        let golden = [0x64, 0x01, 0x31, 0xeb, 0x0e, 0x01, 0x38];
        assert_eq!(all(&golden), Ok(vec![(100, vec![0x31]), (2000, vec![0x38])]));
        assert_eq!(all(&[]), Ok(vec![]));
    }

    #[test]
    fn only_the_first_unchanged_run_may_be_empty() {
        assert_eq!(all(&[0, 2, 7, 8]), Ok(vec![(0, vec![7, 8])]));
        assert!(all(&[0, 1, 7, 0, 1, 8]).is_err());
        assert!(all(&[0, 0]).is_err(), "a changed run has bytes");
    }

    #[test]
    fn no_piece_reaches_past_the_page_or_the_record() {
        // 4095 unchanged, then one byte fits and two do not.
        assert_eq!(all(&[0xff, 0x1f, 1, 9]), Ok(vec![(4095, vec![9])]));
        assert!(all(&[0xff, 0x1f, 2, 9, 9]).is_err());
        assert!(all(&[0xff, 0xff, 1, 9]).is_err(), "a third byte of length");
        for cut in 1..7 {
            let golden = [0x64, 0x01, 0x31, 0xeb, 0x0e, 0x01, 0x38];
            let whole = cut == 3;
            assert_eq!(all(&golden[..cut]).is_ok(), whole, "cut at {cut}");
        }
    }
}
