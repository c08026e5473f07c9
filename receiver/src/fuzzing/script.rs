//! Reading scripts: what is not there is zero, nothing fails.

use std::sync::LazyLock;

use fastrand::Rng;

use super::memory::PAGE;

/// What is left of a script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The next `count` bytes, or fewer if there are fewer.
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(super) fn be16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }
}

/// The content of a page by its recipe: 0 is zero, 1 is zero but for the last
/// byte, all others are mixed.
pub(super) fn page_content(recipe: u8) -> &'static [u8] {
    static PAGES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=255).flat_map(made).collect());
    &PAGES[usize::from(recipe) * PAGE..][..PAGE]
}

fn made(recipe: u8) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    match recipe {
        0 => {}
        1 => page[PAGE - 1] = 1,
        _ => {
            let mut random = Rng::with_seed(recipe.into());
            random.fill(&mut page);
        }
    }
    page
}
