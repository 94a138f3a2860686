//! How long it is worth to look again and again rather than to sleep.
//!
//! Who sleeps is woken late: to have a processor that has nothing else to do begin again takes longer than all that is done
//! for a datagram. So where things have happened one shortly after the other, the next one is looked for a little while; and
//! where they have not, or where somebody else wants the processor meanwhile, that time is none.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rbox_sys::epoll::{Epoll, Ready};

/// No longer than this.
const LONGEST: Duration = Duration::from_micros(50);
/// Where it begins to be worth it.
const SHORTEST: Duration = Duration::from_micros(10);
/// Who answers needs the processor for less than this; it is somebody else who has it for longer.
const BRIEF: Duration = Duration::from_micros(50);
/// Then so many waits are slept through.
const SLEEPS: u32 = 256;

/// How long it is by now.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    time: Duration,
    sleeps: u32,
}

impl Patience {
    /// Waits until something is the case, or `limit` has passed.
    pub(crate) fn wait(&mut self, epoll: &mut Epoll, limit: Option<Duration>, told: &mut Vec<Ready>) -> io::Result<()> {
        let began = Instant::now();
        let (mut now, mut until) = (began, began + self.time());
        while now < until {
            told.extend(epoll.wait(Some(Duration::ZERO))?);
            if !told.is_empty() {
                break;
            }
            let looked = Instant::now();
            thread::yield_now();
            now = Instant::now();
            if !self.yielded(now - looked) {
                until = now;
            }
        }
        if told.is_empty() {
            told.extend(epoll.wait(limit)?);
        }
        self.waited(began.elapsed());
        Ok(())
    }

    /// How long to look.
    fn time(&self) -> Duration {
        if self.sleeps == 0 { self.time } else { Duration::ZERO }
    }

    /// The processor was given up for so long, to whoever else might want it. Says whether to go on looking.
    fn yielded(&mut self, time: Duration) -> bool {
        let is_brief = time <= BRIEF;
        if !is_brief {
            self.sleeps = SLEEPS;
        }
        is_brief
    }

    /// For so long there was nothing to do.
    fn waited(&mut self, time: Duration) {
        self.sleeps = self.sleeps.saturating_sub(1);
        self.time = match time {
            _ if time <= self.time => self.time,
            _ if time <= LONGEST => (self.time * 2).clamp(SHORTEST, LONGEST),
            _ if self.time > SHORTEST => self.time / 2,
            _ => Duration::ZERO,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    #[test]
    fn it_grows_where_it_is_worth_it_and_is_gone_where_not() {
        let mut patience = Patience::default();
        assert_eq!(patience.time(), Duration::ZERO, "who has waited for nothing yet sleeps");
        let waits = [(40, 10), (40, 20), (15, 20), (21, 40), (50, 50), (50, 50), (51, 25)];
        for (waited, then) in waits {
            patience.waited(waited * MICRO);
            assert_eq!(patience.time(), then * MICRO, "after {waited} µs");
        }
        (0..3).for_each(|_| patience.waited(51 * MICRO));
        assert_eq!(patience.time(), Duration::ZERO);
    }

    #[test]
    fn others_who_want_the_processor_have_it() {
        let mut patience = Patience::default();
        (0..3).for_each(|_| patience.waited(30 * MICRO));
        assert!(patience.yielded(9 * MICRO) && patience.time() > Duration::ZERO);
        assert!(!patience.yielded(60 * MICRO));
        for _ in 0..SLEEPS {
            assert_eq!(patience.time(), Duration::ZERO);
            patience.waited(30 * MICRO);
        }
        assert!(patience.time() > Duration::ZERO, "perhaps they do not any more");
    }
}
