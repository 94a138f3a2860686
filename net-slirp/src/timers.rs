//! When something is to be looked at again.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::token::Token;

/// Times, each of somebody who then finds out himself whether there is anything to do. A time that is put off is not
/// moved but found out of date when it comes, so that a connection with traffic costs nothing here. One that is not
/// needed any more is taken back: the time of an idle connection is hours ahead, and would be kept for as long.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, u64)>);

impl Timers {
    pub(crate) fn add(&mut self, at: Instant, token: Token) {
        self.0.insert((at, token.encode()));
    }

    pub(crate) fn remove(&mut self, at: Instant, token: Token) {
        self.0.remove(&(at, token.encode()));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The earliest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out one that is not later than `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Token> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop_first().map(|(_, bits)| Token::decode(bits))
    }
}
