//! A hash table of places in another table, in 4 bytes each and a little room.

/// Nothing is there.
const NONE: u32 = u32::MAX;

/// Cells, some of which have a number. What a number stands for, and whether it is the one that is looked for, the caller
/// knows. Each is in the cell of its hash or in one of those after it, with none that is empty between (linear probing).
#[derive(Debug, Default)]
pub(super) struct Index {
    cells: Vec<u32>,
    used: usize,
}

impl Index {
    /// One with room for so many.
    pub(super) fn with_room(most: usize) -> Self {
        Self { cells: vec![NONE; cells_for(most)], used: 0 }
    }

    /// The number with this hash that is the one.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        if self.cells.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            match self.cells[at] {
                NONE => return None,
                number if is_it(number) => return Some(number),
                _ => at = self.after(at),
            }
        }
    }

    /// Adds a number that is not there. `hash_of` says the hash of each.
    pub(super) fn insert(&mut self, number: u32, hash_of: impl Fn(u32) -> u64) {
        if self.used + 1 > self.cells.len() / 5 * 4 {
            let grown = vec![NONE; cells_for(self.used + self.used / 2 + 1)];
            let old = std::mem::replace(&mut self.cells, grown);
            for number in old.into_iter().filter(|number| *number != NONE) {
                self.put(number, hash_of(number));
            }
        }
        self.put(number, hash_of(number));
        self.used += 1;
    }

    /// Takes a number away. What follows it moves up, for otherwise it would not be found over the gap.
    pub(super) fn remove(&mut self, number: u32, hash_of: impl Fn(u32) -> u64) {
        if self.cells.is_empty() {
            return;
        }
        let mut gap = self.home(hash_of(number));
        while self.cells[gap] != number {
            if self.cells[gap] == NONE {
                return;
            }
            gap = self.after(gap);
        }
        let mut at = self.after(gap);
        while self.cells[at] != NONE {
            let home = self.home(hash_of(self.cells[at]));
            // Whether the gap is between its home and where it is, around the end of the table.
            if self.distance(home, at) >= self.distance(gap, at) {
                self.cells[gap] = self.cells[at];
                gap = at;
            }
            at = self.after(at);
        }
        self.cells[gap] = NONE;
        self.used -= 1;
    }

    fn put(&mut self, number: u32, hash: u64) {
        let mut at = self.home(hash);
        while self.cells[at] != NONE {
            at = self.after(at);
        }
        self.cells[at] = number;
    }

    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.cells.len() as u128) >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.cells.len() { 0 } else { at + 1 }
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.cells.len() - from }
    }
}

/// Of five, four are used at most.
fn cells_for(numbers: usize) -> usize {
    (numbers / 4 + 2) * 5
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn it_is_as_a_set() {
        // Few homes, so that there are long runs of cells, also around the end.
        let hash_of = |number: u32| u64::from(number % 7).wrapping_mul(u64::MAX / 7);
        let (mut index, mut set, mut random) = (Index::default(), HashSet::new(), 1_u64);
        for _ in 0..5000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = (random >> 40) as u32 % 60;
            if set.insert(number) {
                index.insert(number, hash_of);
            } else {
                set.remove(&number);
                index.remove(number, hash_of);
            }
            for number in 0..60 {
                let found = index.find(hash_of(number), |other| other == number);
                assert_eq!(found.is_some(), set.contains(&number));
            }
        }
    }
}
