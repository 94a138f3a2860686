//! Who answers: one thread, and what would keep it waiting is done by others.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rbox_sys::Errno;

use super::view::View;
use crate::is;

/// Whoever waits for room waits so long, so often.
const WAIT: Duration = Duration::from_millis(1);
const WAITS: usize = 50;
/// So many threads at most are beside the one that answers, as soon as they are needed.
const HELPERS: usize = 8;

/// What all threads have.
#[derive(Debug)]
pub(super) struct Shared {
    view: Mutex<View>,
    work: Mutex<Work>,
    more_work: Condvar,
}

type Act = Box<dyn FnOnce(&Shared) + Send>;

/// What is to be done beside.
#[derive(Default)]
struct Work {
    left: VecDeque<Act>,
    helpers: usize,
    idle: usize,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} left, {} of {} helpers idle", self.left.len(), self.idle, self.helpers)
    }
}

impl Shared {
    pub(super) fn new(view: View) -> Self {
        let (work, more_work) = Default::default();
        Self { view: Mutex::new(view), work, more_work }
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what may take long, beside the thread that answers.
    pub(super) fn beside(self: &Arc<Self>, act: impl FnOnce(&Self) + Send + 'static) {
        let mut work = self.work();
        work.left.push_back(Box::new(act));
        if work.idle >= work.left.len() || work.helpers == HELPERS {
            self.more_work.notify_one();
            return;
        }
        let shared = self.clone();
        // Without a thread this one does it.
        match std::thread::Builder::new().spawn(move || shared.help()) {
            Ok(_) => work.helpers += 1,
            Err(_) if work.helpers > 0 => {}
            Err(_) => {
                let act = work.left.pop_back();
                drop(work);
                act.into_iter().for_each(|act| act(self));
            }
        }
    }

    fn help(&self) -> ! {
        let mut work = self.work();
        loop {
            match work.left.pop_front() {
                Some(act) => {
                    drop(work);
                    act(self);
                    work = self.work();
                }
                None => {
                    work.idle += 1;
                    work = self.more_work.wait(work).unwrap_or_else(PoisonError::into_inner);
                    work.idle -= 1;
                }
            }
        }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
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
