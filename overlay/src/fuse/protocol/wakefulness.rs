//! How long the server stays awake for the next question.
//!
//! Who asks sleeps until the answer is there, and the server until the next question is. To wake a processor that sleeps takes
//! longer than most answers do, in a virtual machine several times as long: an interrupt, and a way through the hypervisor.
//! A program that asks for one thing after the other asks again within microseconds. So after a question that came soon
//! the server looks for the next one before it sleeps. What that costs is a processor's time, and never much more than
//! what lay between two questions.
//!
//! Where others want the processor, they get it (sched_yield(2)), and the server is better off asleep: whoever is woken comes
//! before those that have run all the time, and whoever has looked around all the time is one of these.

use std::thread;
use std::time::{Duration, Instant};

use rbox_sys::sched;

/// Who asks again within this does it soon. It has to have room for the wake-ups of both: it is what first tells a busy client.
const SOON: Duration = Duration::from_micros(150);
/// For so long it is worth to stay awake.
const AWAKE: Duration = Duration::from_micros(100);
/// Who lets others have the processor for longer than this has let somebody have it who has much to do: it is less than what
/// the scheduler gives at a time, and more than the kernel's own work takes, or a client that thinks on this processor.
const OTHERS: Duration = Duration::from_micros(500);
/// How long it then sleeps as everybody does; twice as long each time, unless that was some time ago.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Of the pause, this part goes with each question that found it awake.
const FORGETTING: u32 = 64;

/// What is known of the last questions, and of the others.
#[derive(Debug)]
pub(super) struct Wakefulness {
    /// With one processor nobody asks while the server is awake.
    several: bool,
    soon: bool,
    pause: Duration,
    paused_until: Instant,
}

/// For one question.
#[derive(Debug)]
pub(super) struct Wait {
    began: Instant,
    awake: bool,
    /// When others were let have the processor, if they had it.
    others: Option<Instant>,
}

impl Wakefulness {
    pub(super) fn new() -> Self {
        let several = sched::affinity().is_ok_and(|processors| processors.len() > 1);
        Self { several, soon: false, pause: Duration::ZERO, paused_until: Instant::now() }
    }

    /// The last question is answered.
    pub(super) fn begin(&self) -> Wait {
        let began = Instant::now();
        Wait { began, awake: self.several && self.soon && began >= self.paused_until, others: None }
    }

    /// There is no question yet: has whoever wants the processor have it. Says whether to look again, or to sleep.
    pub(super) fn stays(&mut self, wait: &mut Wait) -> bool {
        if !wait.awake {
            return false;
        }
        let now = Instant::now();
        if let Some(others) = wait.others {
            // And none of them was the one who asks.
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
            self.paused_until = others + self.pause;
            wait.awake = false;
        } else if now - wait.began > AWAKE {
            wait.awake = false;
        } else {
            thread::yield_now();
            let after = Instant::now();
            wait.others = (after - now > OTHERS).then_some(after);
        }
        wait.awake
    }

    /// The next question is there.
    pub(super) fn end(&mut self, wait: &Wait) {
        self.soon = wait.began.elapsed() < SOON;
        if wait.awake {
            self.pause -= self.pause / FORGETTING;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wakeful() -> Wakefulness {
        Wakefulness { several: true, ..Wakefulness::new() }
    }

    #[test]
    fn it_sleeps_at_once_unless_the_last_question_came_soon() {
        let mut wakefulness = wakeful();
        let mut wait = wakefulness.begin();
        assert!(!wakefulness.stays(&mut wait));
        wakefulness.end(&wait);
        assert!(wakefulness.begin().awake);
        let long_ago = Instant::now().checked_sub(SOON).expect("the machine was up then");
        wakefulness.end(&Wait { began: long_ago, awake: true, others: None });
        assert!(!wakefulness.begin().awake);
    }

    #[test]
    fn it_does_not_stay_awake_for_long() {
        let mut wakefulness = Wakefulness { soon: true, ..wakeful() };
        let mut wait = wakefulness.begin();
        wait.began = wait.began.checked_sub(AWAKE).expect("the machine was up then");
        assert!(!wakefulness.stays(&mut wait));
        assert_eq!(wakefulness.pause, Duration::ZERO);
    }

    #[test]
    fn where_others_want_the_processor_it_sleeps_longer_each_time() {
        let mut wakefulness = Wakefulness { soon: true, ..wakeful() };
        for expected in [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4] {
            let mut wait = Wait { began: Instant::now(), awake: true, others: Some(Instant::now()) };
            assert!(!wakefulness.stays(&mut wait));
            assert_eq!(wakefulness.pause, expected);
            assert!(!wakefulness.begin().awake, "so soon after");
        }
        for _ in 0..1000 {
            wakefulness.end(&Wait { began: Instant::now(), awake: true, others: None });
        }
        assert!(wakefulness.pause < FIRST_PAUSE, "that was some time ago");
    }

    #[test]
    fn a_client_that_had_the_processor_is_nobody_else() {
        let mut wakefulness = Wakefulness { soon: true, ..wakeful() };
        let wait = Wait { began: Instant::now(), awake: true, others: Some(Instant::now()) };
        // It has asked meanwhile.
        wakefulness.end(&wait);
        assert_eq!(wakefulness.pause, Duration::ZERO);
        assert!(wakefulness.begin().awake);
    }
}
