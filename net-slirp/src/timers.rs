//! When something is to be looked at again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::token::Token;

/// Times, each of somebody who then finds out himself whether there is anything to do. A time that is put off is not moved
/// but found out of date when it comes, so that a connection with traffic costs nothing here.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Instant, u64)>>);

impl Timers {
    pub(crate) fn add(&mut self, at: Instant, token: Token) {
        self.0.push(Reverse((at, token.encode())));
    }

    /// The earliest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out one that is not later than `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Token> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse((_, bits))| Token::decode(bits))
    }
}
