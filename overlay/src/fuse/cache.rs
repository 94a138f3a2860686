//! What was used last, and room for no more.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Values that together weigh so much at most, or a single one.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    most: usize,
    values: HashMap<K, Held<V>>,
    weight: usize,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    used: u64,
    weight: usize,
}

impl<K: Hash + Eq + Copy, V> Cache<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, values: HashMap::new(), weight: 0, by_use: BTreeMap::new(), uses: 0 }
    }

    pub(super) fn get(&mut self, key: K) -> Option<&mut V> {
        let held = self.values.get_mut(&key)?;
        // Most often it is the one that was used last.
        if held.used != self.uses {
            self.uses += 1;
            self.by_use.remove(&held.used);
            held.used = self.uses;
            self.by_use.insert(self.uses, key);
        }
        Some(&mut held.value)
    }

    /// What was used longest ago makes room.
    pub(super) fn put(&mut self, key: K, value: V) {
        self.put_weighing(key, value, 1);
    }

    /// As [`put`](Self::put), of one that weighs more.
    pub(super) fn put_weighing(&mut self, key: K, value: V, weight: usize) {
        self.remove(key);
        while self.weight + weight > self.most {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.weight -= self.values.remove(&oldest).map_or(0, |held| held.weight);
        }
        self.uses += 1;
        self.weight += weight;
        self.by_use.insert(self.uses, key);
        self.values.insert(key, Held { value, used: self.uses, weight });
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let held = self.values.remove(&key)?;
        self.by_use.remove(&held.used);
        self.weight -= held.weight;
        Some(held.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_used_longest_ago_goes() {
        let mut cache = Cache::new(2);
        cache.put(1, 'a');
        cache.put(2, 'b');
        assert_eq!(cache.get(1), Some(&mut 'a'));
        cache.put(3, 'c');
        assert_eq!((cache.get(1).copied(), cache.get(2).copied(), cache.get(3).copied()), (Some('a'), None, Some('c')));
        cache.put(3, 'd');
        assert_eq!((cache.get(1).copied(), cache.remove(3), cache.get(3)), (Some('a'), Some('d'), None));
        cache.put_weighing(4, 'e', 9);
        assert_eq!((cache.get(1).copied(), cache.get(4).copied()), (None, Some('e')));
        cache.put(5, 'f');
        assert_eq!((cache.get(4).copied(), cache.get(5).copied()), (None, Some('f')));
    }
}
