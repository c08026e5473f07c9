//! What the kernels are held against: the loops that anybody would write first.

/// A guest's page in ordinary memory.
pub(crate) type Page = [u8; 4096];

/// A loop over a page, by its name.
#[derive(Clone, Copy)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// Whether the page is zero.
    pub(crate) is_zero: fn(&Page) -> bool,
}

/// Reads all of a page and does nothing else: what memory can give. The sum of a page that is not
/// zero may be; those that the benches have are not.
pub(crate) const SUM: Contestant = Contestant { name: "sum", is_zero: |page| sum(page) == 0 };

/// `BYTES` bytes are or-ed together, word by word, then looked at.
#[inline(always)]
pub(crate) fn plain<const BYTES: usize>(page: &Page) -> bool {
    page.as_chunks::<BYTES>().0.iter().all(|step| words(step).fold(0, |any, word| any | word) == 0)
}

/// The sum of a page's words.
#[inline(always)]
pub(crate) fn sum(page: &Page) -> u64 {
    words(page).fold(0, u64::wrapping_add)
}

#[inline(always)]
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word))
}
