//! How the server waits for the next question: awake, for a moment.
//!
//! Who asks sleeps until the answer is there, and the server until the next question is. To wake a processor that sleeps takes
//! longer than most answers do, in a virtual machine several times as long: an interrupt, and a way through the hypervisor.
//! A program that asks for one thing after the other asks again within microseconds. So after an answer to a question
//! that came soon the server looks for the next one before it sleeps. What that costs is a processor's time, and never
//! much more than what lay between two questions; where somebody else wants the processor, there is none to be had.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rbox_sys::poll::{self, Interest};
use rbox_sys::sched;

/// Who asks again within this does it soon. It has to have room for the wake-ups of both: it is what first tells a busy client.
const SOON: Duration = Duration::from_micros(150);
/// For so long it is worth to stay awake.
const AWAKE: Duration = Duration::from_micros(100);
/// Who lets others have the processor for longer than this has let somebody have it.
const OTHERS: Duration = Duration::from_micros(20);

/// The one that answers, between two questions.
#[derive(Debug)]
pub(super) struct Lingering {
    device: OwnedFd,
    /// With one processor nobody asks while the server is awake.
    several: bool,
    answered: Instant,
    soon: bool,
}

impl Lingering {
    pub(super) fn new(device: OwnedFd) -> Self {
        let several = sched::affinity().is_ok_and(|processors| processors.len() > 1);
        Self { device, several, answered: Instant::now(), soon: false }
    }

    /// A question was read.
    pub(super) fn asked(&mut self) {
        self.soon = self.answered.elapsed() < SOON;
    }

    /// It was answered. Comes back when there is another one, or it is better to sleep until there is.
    pub(super) fn answered(&mut self) {
        self.answered = Instant::now();
        if !self.several || !self.soon {
            return;
        }
        loop {
            // What fails here fails where the question is read.
            if !matches!(poll::wait([(self.device.as_fd(), Interest::Read)], Some(Duration::ZERO)), Ok([false])) {
                return;
            }
            let before = Instant::now();
            if before - self.answered > AWAKE {
                return;
            }
            thread::yield_now();
            if before.elapsed() > OTHERS {
                return;
            }
        }
    }
}
