//! Sequence numbers: modulo 2³², compared within half of that (RFC 9293, 3.4).

use std::ops::{Add, AddAssign};

/// A place in one direction's stream of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Seq(pub(crate) u32);

impl Seq {
    /// How far this is behind `other`; negative if it is before it.
    pub(crate) fn since(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    pub(crate) fn is_after(self, other: Self) -> bool {
        self.since(other) > 0
    }

    pub(crate) fn is_before(self, other: Self) -> bool {
        self.since(other) < 0
    }

    pub(crate) fn later(self, other: Self) -> Self {
        if self.is_after(other) { self } else { other }
    }
}

impl Add<usize> for Seq {
    type Output = Self;

    fn add(self, bytes: usize) -> Self {
        Self(self.0.wrapping_add(bytes as u32))
    }
}

impl AddAssign<usize> for Seq {
    fn add_assign(&mut self, bytes: usize) {
        *self = *self + bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn around_the_end() {
        let (before, after) = (Seq(u32::MAX - 1), Seq(3));
        assert_eq!((after.since(before), before.since(after)), (5, -5));
        assert!(after.is_after(before) && before.is_before(after) && before + 5 == after);
        assert_eq!(before.later(after), after);
    }
}
