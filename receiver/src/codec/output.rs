//! Where decoded bytes go: a raw range, since it may be guest RAM.

use std::marker::PhantomData;

use landfall_pagepool::Span;

/// Bytes that a decoder may write during `'a`. Never a slice of ours: others may write
/// guest RAM at any time.
pub(super) struct Output<'a> {
    first: *mut u8,
    len: usize,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Output<'a> {
    /// Memory of our own.
    pub(super) fn of_slice(slice: &'a mut [u8]) -> Self {
        Self { first: slice.as_mut_ptr(), len: slice.len(), memory: PhantomData }
    }

    /// Valid for writes of [`Self::len`] bytes during `'a`.
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.first
    }

    /// How many bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl<'a> From<Span<'a>> for Output<'a> {
    fn from(span: Span<'a>) -> Self {
        Self { first: span.as_ptr(), len: span.len(), memory: PhantomData }
    }
}
