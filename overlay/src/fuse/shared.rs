//! Who answers: one thread, and what would keep it waiting is done by others.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rbox_sys::Errno;

use super::view::View;
use crate::is;

/// Whoever waits for room waits so long, so often.
const WAIT: Duration = Duration::from_millis(1);
const WAITS: usize = 50;
/// So many threads beside the one that answers. With more to do, that waits.
const HELPERS: usize = 8;

/// What all threads have.
#[derive(Debug)]
pub(super) struct Shared {
    view: Mutex<View>,
    helpers: AtomicUsize,
    /// What was read; the kernel takes a copy.
    room: Mutex<Vec<u8>>,
}

impl Shared {
    pub(super) fn new(view: View) -> Self {
        Self { view: Mutex::new(view), helpers: AtomicUsize::new(0), room: Mutex::default() }
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn room(&self) -> MutexGuard<'_, Vec<u8>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what may take long, beside the thread that answers.
    pub(super) fn beside(self: &Arc<Self>, act: impl FnOnce(&Arc<Self>) + Send + 'static) {
        if self.helpers.fetch_add(1, Ordering::Relaxed) >= HELPERS {
            self.helpers.fetch_sub(1, Ordering::Relaxed);
            return act(self);
        }
        let shared = self.clone();
        // Panics where there can be no thread, as the answering ones would have done at the start.
        std::thread::spawn(move || {
            act(&shared);
            shared.helpers.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Makes a change, and answers. Where there is no room for it there may be some in a moment: what was removed goes when
    /// the kernel has forgotten it, which the thread that answers is told meanwhile.
    pub(super) fn change<T: 'static>(
        self: &Arc<Self>,
        act: impl Fn(&mut View) -> io::Result<T> + Send + 'static,
        answer: impl FnOnce(io::Result<T>) + Send + 'static,
    ) {
        match self.try_change(&act) {
            None => self.beside(move |shared| answer(shared.change_in_a_moment(act))),
            Some(result) => answer(result),
        }
    }

    /// Makes a change, unless there is no room for it and may be in a moment.
    pub(super) fn try_change<T>(&self, act: impl Fn(&mut View) -> io::Result<T>) -> Option<io::Result<T>> {
        let mut view = self.view();
        match act(&mut view) {
            Err(error) if is_full(&error) && view.nodes.has_left() => None,
            result => Some(result),
        }
    }

    /// Tries again until there is room for a change, or there will be none.
    pub(super) fn change_in_a_moment<T>(&self, act: impl Fn(&mut View) -> io::Result<T>) -> io::Result<T> {
        for _ in 0..WAITS {
            std::thread::sleep(WAIT);
            if let Some(result) = self.try_change(&act) {
                return result;
            }
        }
        act(&mut self.view())
    }
}

fn is_full(error: &io::Error) -> bool {
    is(error, Errno::NOSPC) || is(error, Errno::DQUOT)
}
