//! Pages on main: in batches, and encoded where the source would encode them.

use super::op::MainPages;
use crate::{
    encode::{
        compressed_page::PageCompressor,
        ram::PageItem,
        xbzrle::{self, Delta},
    },
    guest::PageRef,
    plan::Plan,
};

/// Makes items of pages and collects them.
#[derive(Debug)]
pub(super) struct MainItems {
    /// Never without items.
    batch: Option<MainPages>,
    /// The block of the last item, which the next one need not name.
    last_block: Option<u16>,
    compressor: Option<PageCompressor>,
    /// What is encoded of one page.
    encoded: Vec<u8>,
    /// A page as it was sent before and as it is sent now.
    pages: [Vec<u8>; 2],
}

impl MainItems {
    pub(super) fn new(plan: &Plan) -> Self {
        let config = plan.config();
        Self {
            batch: None,
            last_block: None,
            compressor: config.compress.then(|| PageCompressor::new(config.level)),
            encoded: Vec::new(),
            pages: [(); 2].map(|()| vec![0; config.page_bytes as usize]),
        }
    }

    /// Whether an item of `block` must wait until the items so far are a step.
    pub(super) fn is_full(&self, plan: &Plan, block: u16) -> bool {
        let room = plan.batch_pages();
        self.batch.as_ref().is_some_and(|batch| batch.block != block || batch.items.len() == room)
    }

    /// The items so far.
    pub(super) fn take(&mut self) -> Option<MainPages> {
        self.batch.take()
    }

    /// Adds a page, said to be zero or with what it holds; nothing if that is what was sent before.
    pub(super) fn push(&mut self, plan: &Plan, block: u16, page: PageRef, as_zero: bool) {
        let item = if as_zero { Some(PageItem::Zero) } else { self.item(plan, block, page) };
        let Some(item) = item else { return };
        let continues = self.last_block.replace(block) == Some(block);
        let batch = self.batch.get_or_insert_with(|| MainPages {
            block,
            continues,
            items: Vec::with_capacity(plan.batch_pages()),
            encoded: Vec::new(),
        });
        batch.items.push((item, page));
        batch.encoded.append(&mut self.encoded);
    }

    /// How the source sends a page that it does not say to be zero; `None` for one that is what it
    /// was.
    fn item(&mut self, plan: &Plan, block: u16, page: PageRef) -> Option<PageItem> {
        let (config, guest) = (plan.config(), plan.guest());
        let [before, now] = &mut self.pages;
        // Behind the first round pages are no longer compressed where XBZRLE is on.
        if config.xbzrle && page.generation > 0 {
            let Some(cached) = guest.cached(block, page.page, page.generation) else {
                return Some(PageItem::Full);
            };
            guest.fill(block, cached, before);
            guest.fill(block, page, now);
            return match xbzrle::encode(before, now, &mut self.encoded) {
                Delta::Same => None,
                Delta::Overflow => Some(PageItem::Full),
                Delta::Runs(bytes) => {
                    let bytes = u16::try_from(bytes).expect("runs are no longer than a page");
                    Some(PageItem::Xbzrle { bytes })
                }
            };
        }
        match &mut self.compressor {
            // The first page of a block goes as it is, so that its name is out before the others.
            Some(compressor) if self.last_block == Some(block) => {
                guest.fill(block, page, now);
                let bytes = compressor.page(now, &mut self.encoded);
                let bytes = u32::try_from(bytes).expect("little more than a page");
                Some(PageItem::CompressPage { bytes })
            }
            _ => Some(PageItem::Full),
        }
    }
}
