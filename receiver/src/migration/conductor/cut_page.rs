//! A full page that the end of a read cuts: its parts go into place as they come, so that none of
//! them is moved together first.

use super::{Walk, placing};
use crate::main_stream::CutPage;

/// A page of which a part is in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    block: usize,
    offset: u64,
    have: usize,
}

impl Walk<'_> {
    /// Puts what there is of a page into place, if all that is left of the input is one's beginning.
    pub(super) fn begin_cut_page(&mut self) {
        let Some(cut) = self.stream.cut_page(self.input.bytes()) else { return };
        let CutPage { block, offset, bytes, consumed } = cut;
        self.pages.put_part(&placing(self.run), block, offset, bytes);
        self.cut = Some(Cut { block, offset, have: bytes.len() });
        self.input.consume(consumed);
    }

    /// Puts more of the page into place that was cut, if one was; false if it still lacks some.
    pub(super) fn complete_cut_page(&mut self) -> bool {
        let Some(Cut { block, offset, have }) = &mut self.cut else { return true };
        let (page_bytes, input) = (self.page.as_usize(), self.input.bytes());
        let count = input.len().min(page_bytes - *have);
        let place = placing(self.run);
        self.pages.put_part(&place, *block, *offset + *have as u64, &input[..count]);
        *have += count;
        if *have < page_bytes {
            self.input.consume(count);
            return false;
        }
        self.pages.take_whole(&place, *block, *offset);
        self.cut = None;
        self.stream.passed_page();
        self.input.consume(count);
        true
    }
}
