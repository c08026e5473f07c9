//! Which pages are to be sent: what no pass has sent yet, and what the guest writes.

use super::speed::Mix;
use crate::forecast::question::DirtyTracking;
use crate::forecast::{PAGE_BYTES, Question};

/// Pages that have to be sent: in the working set, and outside of it, where nothing is written and
/// a page is sent once.
pub(super) struct Dirty {
    inside: Share,
    outside: Share,
    /// Pages among both that no pass has sent.
    unsent: f64,
    /// Nothing of the first pass is left.
    is_later: bool,
    tracking: DirtyTracking,
}

/// Pages, and how many of them are zero.
#[derive(Clone, Copy, Default)]
struct Share {
    pages: f64,
    zero: f64,
}

impl Share {
    /// A part of it.
    fn part(self, share: f64) -> Self {
        Self { pages: self.pages * share, zero: self.zero * share }
    }

    fn less(self, other: Self) -> Self {
        Self { pages: (self.pages - other.pages).max(0.0), zero: (self.zero - other.zero).max(0.0) }
    }
}

/// What a pass has sent.
pub(super) struct Sent {
    inside: Share,
    outside: Share,
    /// Pages of both that an earlier pass has sent.
    pub(super) again: f64,
}

impl Sent {
    pub(super) fn zero(&self) -> f64 {
        self.inside.zero + self.outside.zero
    }
}

impl Dirty {
    /// All of RAM. Zero pages are outside of the working set as long as there is room.
    pub(super) fn all(question: &Question) -> Self {
        let guest = question.guest;
        let inside = guest.working_set_bytes as f64 / PAGE_BYTES as f64;
        let all = guest.ram_bytes as f64 / PAGE_BYTES as f64;
        let outside = all - inside;
        let zero = all * guest.zero_share;
        // Where nothing is written the working set is memory like any other.
        let zero_outside = if guest.dirty_bytes_per_second > 0.0 {
            zero.min(outside)
        } else {
            zero * outside / all
        };
        Self {
            inside: Share { pages: inside, zero: zero - zero_outside },
            outside: Share { pages: outside, zero: zero_outside },
            unsent: all,
            is_later: false,
            tracking: question.source.tracking,
        }
    }

    pub(super) fn pages(&self) -> f64 {
        self.inside.pages + self.outside.pages
    }

    /// Pages among them that a pass has sent.
    pub(super) fn again(&self) -> f64 {
        (self.pages() - self.unsent).max(0.0)
    }

    pub(super) fn content(&self) -> Mix {
        let zero = self.inside.zero + self.outside.zero;
        let share = |pages: f64| if self.pages() > 0.0 { pages / self.pages() } else { 0.0 };
        Mix { zero_share: share(zero), again_share: share(self.again()) }
    }

    /// Takes pages away. The first pass meets both kinds alike; a later one goes on where the one
    /// before it stopped, and so meets first what that had not sent.
    pub(super) fn send(&mut self, pages: f64) -> Sent {
        let share_of = |pages: f64, of: f64| if of > 0.0 { (pages / of).min(1.0) } else { 0.0 };
        let (inside, outside) = if self.is_later {
            let outside = pages.min(self.outside.pages);
            (share_of(pages - outside, self.inside.pages), share_of(outside, self.outside.pages))
        } else {
            let share = share_of(pages, self.pages());
            (share, share)
        };
        // What no pass has sent comes first, whichever of the two it is of.
        let again = (pages - self.unsent).max(0.0);
        self.unsent -= pages - again;
        let sent =
            Sent { inside: self.inside.part(inside), outside: self.outside.part(outside), again };
        self.inside = self.inside.less(sent.inside);
        self.outside = self.outside.less(sent.outside);
        self.is_later = true;
        sent
    }

    /// Adds what the guest has written in a pass. Of `w` pages that are written at random, `n`
    /// writes leave `w * exp(-n/w)` untouched.
    pub(super) fn write(&mut self, question: &Question, sent: &Sent, duration_s: f64) {
        let guest = question.guest;
        let working_set = guest.working_set_bytes as f64 / PAGE_BYTES as f64;
        let writes = guest.dirty_bytes_per_second / PAGE_BYTES as f64 * duration_s;
        let each = writes / working_set;
        if each <= 0.0 {
            return;
        }
        let all_the_time = -(-each).exp_m1();
        let sent_share = match self.tracking {
            DirtyTracking::AtSync => all_the_time,
            // Watched from when it was sent: on average for half of the pass.
            DirtyTracking::BeforeSending => 1.0 + (-each).exp_m1() / each,
        };
        let clean = (working_set - self.inside.pages - sent.inside.pages).max(0.0);
        let written = sent.inside.pages * sent_share + clean * all_the_time;
        self.inside.pages = (self.inside.pages + written).min(working_set);
    }
}
