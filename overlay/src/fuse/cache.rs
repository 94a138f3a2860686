//! What was used last, and room for no more.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most so many values.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    most: usize,
    values: HashMap<K, (V, u64)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K: Hash + Eq + Copy, V> Cache<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, values: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    pub(super) fn get(&mut self, key: K) -> Option<&mut V> {
        let (value, used) = self.values.get_mut(&key)?;
        self.uses += 1;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(value)
    }

    /// What was used longest ago makes room.
    pub(super) fn put(&mut self, key: K, value: V) {
        self.remove(key);
        while self.values.len() >= self.most {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.values.remove(&oldest);
        }
        self.uses += 1;
        self.by_use.insert(self.uses, key);
        self.values.insert(key, (value, self.uses));
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let (value, used) = self.values.remove(&key)?;
        self.by_use.remove(&used);
        Some(value)
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
    }
}
