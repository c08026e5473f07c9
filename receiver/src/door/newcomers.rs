//! All connections that have not said what they are, the oldest first.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};

use super::newcomer::{Look, Newcomer};

/// Newcomers that are waited for together: a source may connect 255 channels before it sends the
/// first byte, and with epoll(7) whoever sends one costs the same however many are silent.
pub(super) struct Newcomers {
    epoll: Epoll,
    /// By number, which is by age.
    all: BTreeMap<u64, Newcomer>,
}

impl Newcomers {
    /// # Errors
    /// No more file descriptors.
    pub(super) fn none() -> Result<Self, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, all: BTreeMap::new() })
    }

    /// One more, the youngest.
    ///
    /// # Errors
    /// epoll_ctl(2): the host has no room for it, or it is nothing that one can wait for.
    pub(super) fn add(&mut self, newcomer: Newcomer) -> Result<(), Errno> {
        let number = newcomer.number;
        self.epoll.add(newcomer.fd(), EpollEvent::new(newcomer.waits_for(), number))?;
        self.all.insert(number, newcomer);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Readable when [`Newcomers::ready`] has somebody.
    pub(super) fn poll_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// The numbers of those that have sent something; more may have.
    pub(super) fn ready(&self) -> Vec<u64> {
        let mut events = [EpollEvent::empty(); LOOKS_PER_TURN];
        // Interrupted: the next turn finds them.
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        events[..count].iter().map(EpollEvent::data).collect()
    }

    /// Looks at one; it stays until it is taken.
    pub(super) fn look(&mut self, number: u64) -> Look {
        let newcomer = self.all.get_mut(&number).expect("whoever is waited for is here");
        let before = newcomer.waits_for();
        let look = newcomer.look();
        let waits_for = newcomer.waits_for();
        if waits_for != before {
            let mut event = EpollEvent::new(waits_for, number);
            self.epoll.modify(newcomer.fd(), &mut event).expect("it was added");
        }
        look
    }

    /// Takes one out.
    pub(super) fn take(&mut self, number: u64) -> Newcomer {
        let newcomer = self.all.remove(&number).expect("whoever is waited for is here");
        // Its descriptor may live on elsewhere.
        self.epoll.delete(newcomer.fd()).expect("it was added");
        newcomer
    }

    /// Takes the oldest out.
    pub(super) fn take_oldest(&mut self) -> Option<Newcomer> {
        let number = *self.all.keys().next()?;
        Some(self.take(number))
    }

    /// Takes the oldest out if it came before `then_ns`.
    pub(super) fn take_older_than(&mut self, then_ns: u64) -> Option<Newcomer> {
        if self.oldest()?.since_ns < then_ns { self.take_oldest() } else { None }
    }

    /// Those in the clear that have said nothing are as if they had come at `now_ns`.
    pub(super) fn let_wait(&mut self, now_ns: u64) {
        let waiting = self.all.values_mut().filter(|newcomer| newcomer.has_said_nothing());
        waiting.for_each(|newcomer| newcomer.since_ns = now_ns);
    }

    /// The oldest.
    pub(super) fn oldest(&self) -> Option<&Newcomer> {
        self.all.values().next()
    }

    /// The youngest.
    pub(super) fn youngest(&self) -> Option<&Newcomer> {
        self.all.values().next_back()
    }

    /// True if this one is here, and its TLS handshake goes on.
    pub(super) fn is_in_handshake(&self, number: u64) -> bool {
        self.all.get(&number).is_some_and(Newcomer::is_in_handshake)
    }

    /// All, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Newcomer> {
        self.all.values()
    }
}

/// Newcomers looked at before others are accepted.
const LOOKS_PER_TURN: usize = 256;
