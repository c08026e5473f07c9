//! A range of guest RAM: a pointer with a proof, never a reference.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crate::mapping::Mapping;
use crate::streaming;

/// `len` bytes of guest RAM that are mapped, readable and writable for as long as `'ram`.
///
/// It is a proof of range, not of ownership: the kernel and other threads may write the same bytes.
/// So it never becomes a `&[u8]`; it is handed to the kernel as an iovec, or copied from and to.
#[derive(Clone, Copy, Debug)]
pub struct Span<'ram> {
    first: NonNull<u8>,
    len: usize,
    ram: PhantomData<&'ram Mapping>,
}

// SAFETY: a span is an address and a length; using it from another thread is as good as from this
// one.
// - the memory is unmapped by whoever drops the mapping, which `'ram` outlaws on any thread.
// - what is read or written through it is raw bytes, with no promise about who else writes them.
unsafe impl Send for Span<'_> {}
// SAFETY: as for Send; no method needs exclusive access to the span itself.
unsafe impl Sync for Span<'_> {}

impl<'ram> Span<'ram> {
    /// The range `offset .. offset + len` of a mapping; `None` if it is empty or not all inside.
    pub(crate) fn new(mapping: &'ram Mapping, offset: usize, len: usize) -> Option<Self> {
        let end = offset.checked_add(len)?;
        if len == 0 || end > mapping.bytes() {
            return None;
        }
        let first = NonNull::new(mapping.base().wrapping_add(offset))?;
        Some(Self { first, len, ram: PhantomData })
    }

    /// The first byte; valid for reads and writes of [`Self::len`] bytes during `'ram`.
    pub fn as_ptr(self) -> *mut u8 {
        self.first.as_ptr()
    }

    /// How many bytes; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a span is never empty")]
    pub fn len(self) -> usize {
        self.len
    }

    /// Copies `from` to the whole span, past the caches: nobody here reads pages soon.
    ///
    /// # Panics
    /// If the lengths differ: our own bug.
    pub(crate) fn copy_from(self, from: &[u8]) {
        assert_eq!(self.len, from.len(), "copy into guest RAM of another length");
        // SAFETY: copy needs len readable bytes, len writable bytes, no overlap.
        // - `from` is a slice of len bytes (assert).
        // - the span is mapped writable for len bytes (constructor).
        // - no reference ever points into guest RAM, so `from` cannot overlap it.
        unsafe { streaming::copy(from.as_ptr(), self.as_ptr(), self.len) }
    }

    /// Copies `from` to `at` of the span.
    ///
    /// # Panics
    /// If it does not fit: our own bug.
    #[inline]
    pub fn patch(self, at: usize, from: &[u8]) {
        assert!(at <= self.len && from.len() <= self.len - at, "a patch outside its page");
        let to = self.as_ptr().wrapping_add(at);
        // SAFETY: copy_nonoverlapping needs readable bytes, writable bytes, no overlap.
        // - `from` is a slice of that many bytes.
        // - at + from.len() <= len (assert), and the span is mapped writable (constructor).
        // - no reference ever points into guest RAM, so `from` cannot overlap it.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }

    /// Copies the whole span to `to`.
    ///
    /// # Panics
    /// If the lengths differ: our own bug.
    pub(crate) fn copy_to(self, to: &mut [u8]) {
        assert_eq!(self.len, to.len(), "copy out of guest RAM of another length");
        // SAFETY: copy_nonoverlapping needs len readable bytes, len writable bytes, no overlap.
        // - the span is mapped readable for len bytes (constructor); any bits are a u8.
        // - `to` is a slice of len bytes (assert).
        // - no reference ever points into guest RAM, so `to` cannot overlap it.
        unsafe { ptr::copy_nonoverlapping(self.as_ptr(), to.as_mut_ptr(), self.len) }
    }

    /// Makes every byte zero.
    pub(crate) fn clear(self) {
        // SAFETY: write_bytes needs len writable bytes; u8 has no alignment and any bits are one.
        // - the span is mapped writable for len bytes (constructor).
        unsafe { ptr::write_bytes(self.as_ptr(), 0, self.len) }
    }

    /// Writes the first byte of every `page_bytes` back to itself, so that the kernel provides the
    /// page.
    pub(crate) fn touch(self, page_bytes: usize) {
        for offset in (0..self.len).step_by(page_bytes) {
            let byte = self.as_ptr().wrapping_add(offset);
            // SAFETY: read_volatile needs one readable, aligned, initialised byte.
            // - offset < len (loop), and the span is mapped for len bytes (constructor).
            let value = unsafe { byte.read_volatile() };
            // SAFETY: write_volatile needs one writable, aligned byte: the same one.
            unsafe { byte.write_volatile(value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Span;
    use crate::ladder::Rung;
    use crate::mapping::Mapping;

    #[test]
    fn ranges_not_all_inside_have_no_span() {
        let mapping = Mapping::anonymous(Rung::Base, 8192).expect("map");
        let inside = [(0, 1), (0, 8192), (8191, 1), (4096, 4096)];
        let outside = [
            (0, 0),
            (8192, 0),
            (0, 8193),
            (8192, 1),
            (4096, 4097),
            (usize::MAX, 1),
            (1, usize::MAX),
            (usize::MAX, usize::MAX),
        ];
        for (offset, len) in inside {
            assert!(Span::new(&mapping, offset, len).is_some(), "{offset} {len}");
        }
        for (offset, len) in outside {
            assert!(Span::new(&mapping, offset, len).is_none(), "{offset} {len}");
        }
    }

    #[test]
    fn bytes_copied_in_come_out_and_clearing_clears_only_them() {
        let mapping = Mapping::anonymous(Rung::Base, 8192).expect("map");
        let span = |offset, len| Span::new(&mapping, offset, len).expect("inside");
        span(0, 8192).copy_from(&[0xaa; 8192]);
        span(100, 4096).clear();
        span(0, 8192).touch(4096);
        let mut seen = vec![1; 8192];
        span(0, 8192).copy_to(&mut seen);
        for (index, byte) in seen.iter().enumerate() {
            let expected = if (100..4196).contains(&index) { 0 } else { 0xaa };
            assert_eq!(*byte, expected, "byte {index}");
        }
    }
}
