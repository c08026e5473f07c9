//! A queue from one thread to another that wakes them seldom: who waits for room is woken when half
//! of it is free, and nobody spins. A wake-up for each step costs as much as the step.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// A queue of at most `room` items: the end that puts and the end that takes.
pub(super) fn queue<T>(room: usize) -> (Putter<T>, Taker<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State { items: VecDeque::with_capacity(room), closed: false }),
        room,
        more: Condvar::new(),
        less: Condvar::new(),
    });
    (Putter(Arc::clone(&shared)), Taker(shared))
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    room: usize,
    /// There is something to take, or nothing comes any more.
    more: Condvar,
    /// Half is free, or nothing is taken any more.
    less: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// One end is gone.
    closed: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.state().closed = true;
        self.more.notify_all();
        self.less.notify_all();
    }
}

/// The end that puts; dropping it ends the queue once all is taken.
#[derive(Debug)]
pub(super) struct Putter<T>(Arc<Shared<T>>);

impl<T> Putter<T> {
    /// Puts an item, as soon as there is room; false when nobody takes any more.
    pub(super) fn put(&self, item: T) -> bool {
        let shared = &*self.0;
        let mut state = shared.state();
        if state.items.len() >= shared.room {
            let is_full =
                |state: &mut State<T>| state.items.len() > shared.room / 2 && !state.closed;
            let waited = shared.less.wait_while(state, is_full);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        state.items.push_back(item);
        let was_empty = state.items.len() == 1;
        drop(state);
        if was_empty {
            shared.more.notify_one();
        }
        true
    }
}

impl<T> Drop for Putter<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The end that takes; dropping it refuses what is put.
#[derive(Debug)]
pub(super) struct Taker<T>(Arc<Shared<T>>);

impl<T> Taker<T> {
    /// The next item, as soon as there is one; `None` when none comes any more.
    pub(super) fn take(&self) -> Option<T> {
        let shared = &*self.0;
        let nothing = |state: &mut State<T>| state.items.is_empty() && !state.closed;
        let waited = shared.more.wait_while(shared.state(), nothing);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let item = state.items.pop_front();
        let is_half = state.items.len() == shared.room / 2;
        drop(state);
        if is_half {
            shared.less.notify_one();
        }
        item
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn everything_put_is_taken_in_order_whatever_the_room() {
        for room in [1, 2, 3, 32] {
            let (putter, taker) = queue(room);
            thread::scope(|scope| {
                scope.spawn(move || (0..10_000).for_each(|item| assert!(putter.put(item))));
                let taken: Vec<i32> = std::iter::from_fn(|| taker.take()).collect();
                assert!(taken.into_iter().eq(0..10_000), "room {room}");
            });
        }
    }

    #[test]
    fn a_taker_that_goes_refuses_who_waits_for_room() {
        let (putter, taker) = queue(2);
        assert!(putter.put(1) && putter.put(2));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| putter.put(3));
            thread::sleep(std::time::Duration::from_millis(20));
            drop(taker);
            assert!(!waiting.join().expect("no panic"));
        });
    }

    #[test]
    fn what_was_put_before_the_end_is_still_taken() {
        let (putter, taker) = queue(4);
        assert!(putter.put(1));
        drop(putter);
        assert_eq!((taker.take(), taker.take()), (Some(1), None));
    }
}
