//! Things that are forgotten when nobody has used them for a while, or when there are too many: then those that have
//! been left alone the longest go first, an eighth of them at once, so that it costs little to look for them.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// At most so many, by key.
#[derive(Debug)]
pub(crate) struct Idle<K, V> {
    entries: HashMap<K, Entry<V>>,
    most: usize,
    /// Nothing is to be forgotten before; later than that things may have been used.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    used: Instant,
    keep: Duration,
}

impl<K: Hash + Eq + Clone, V> Idle<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: HashMap::new(), most, next: None }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// One of them, which is used by that, and is kept for `keep` at least from now on.
    pub(crate) fn get(&mut self, key: &K, keep: Duration, now: Instant) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        entry.used = now;
        entry.keep = entry.keep.max(keep);
        Some(&mut entry.value)
    }

    /// One of them; that does not count as use.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Puts one in, to be kept for `keep` after its last use; gives what was forgotten for it.
    pub(crate) fn put(&mut self, key: K, value: V, keep: Duration, now: Instant) -> Vec<(K, V)> {
        let full = self.entries.len() >= self.most && !self.entries.contains_key(&key);
        let mut forgotten = if full { self.forget_some() } else { Vec::new() };
        self.next = Some(self.next.map_or(now + keep, |next| next.min(now + keep)));
        let old = self.entries.insert(key.clone(), Entry { value, used: now, keep });
        forgotten.extend(old.map(|old| (key, old.value)));
        forgotten
    }

    /// Forgets an eighth of them, one at least.
    pub(crate) fn forget_some(&mut self) -> Vec<(K, V)> {
        let mut uses: Vec<Instant> = self.entries.values().map(|entry| entry.used).collect();
        let Some(last) = uses.len().checked_sub(1) else { return Vec::new() };
        let mut left = uses.len().div_ceil(8);
        let (_, limit, _) = uses.select_nth_unstable((left - 1).min(last));
        let limit = *limit;
        // Many may have been used at one moment.
        self.extract(|entry| {
            let goes = entry.used <= limit && left > 0;
            left -= usize::from(goes);
            goes
        })
    }

    /// Forgets all of them.
    pub(crate) fn forget_all(&mut self) -> Vec<(K, V)> {
        self.next = None;
        self.extract(|_| true)
    }

    /// Lets go of memory that nobody uses: a table in which things come and go may be twice as large as it need be.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// When [`forget_unused`](Self::forget_unused) is to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Forgets what was not used for long enough.
    pub(crate) fn forget_unused(&mut self, now: Instant) -> Vec<(K, V)> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut next: Option<Instant> = None;
        let forgotten = self.extract(|entry| {
            let end = entry.used + entry.keep;
            if end > now {
                next = Some(next.map_or(end, |next| next.min(end)));
            }
            end <= now
        });
        // Not for each of many that end one shortly after the other.
        self.next = next.map(|next| next.max(now + Duration::from_secs(1)));
        forgotten
    }

    fn extract(&mut self, mut goes: impl FnMut(&Entry<V>) -> bool) -> Vec<(K, V)> {
        self.entries.extract_if(|_, entry| goes(entry)).map(|(key, entry)| (key, entry.value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_used_stays() {
        let (start, mut idle) = (Instant::now(), Idle::new(9));
        idle.put('a', 1, MINUTE, start);
        idle.put('b', 2, 3 * MINUTE, start);
        assert_eq!(idle.next_deadline(), Some(start + MINUTE));
        let later = start + MINUTE / 2;
        assert_eq!(idle.get(&'a', MINUTE, later), Some(&mut 1));
        assert_eq!(idle.forget_unused(start + MINUTE), []);
        assert_eq!(idle.next_deadline(), Some(later + MINUTE));
        assert_eq!(idle.forget_unused(later + MINUTE), [('a', 1)]);
        assert_eq!(idle.peek(&'b'), Some(&2));
        assert_eq!(idle.forget_unused(start + 3 * MINUTE), [('b', 2)]);
        assert_eq!((idle.len(), idle.next_deadline()), (0, None));
    }

    /// One is used every 50 seconds, and another one comes every ten seconds and is left alone.
    #[test]
    fn a_day() {
        const SECOND: Duration = Duration::from_secs(1);
        let (start, mut idle, mut woken) = (Instant::now(), Idle::new(99), 0);
        let mut sleep = |idle: &mut Idle<u32, ()>, until: Instant| {
            let mut forgotten = Vec::new();
            while let Some(at) = idle.next_deadline().filter(|at| *at <= until) {
                forgotten.extend(idle.forget_unused(at).into_iter().map(|(key, ())| key));
                assert!(idle.next_deadline().is_none_or(|next| next > at), "nobody would ever sleep");
                woken += 1;
            }
            forgotten
        };
        idle.put(0, (), MINUTE, start);
        for number in 1..24 * 360 {
            let now = start + number * 10 * SECOND;
            let gone = sleep(&mut idle, now);
            assert_eq!(gone, if number > 6 { vec![number - 6] } else { vec![] });
            idle.put(number, (), MINUTE, now);
            if number % 5 == 0 {
                assert!(idle.get(&0, MINUTE, now).is_some());
            }
            assert_eq!(idle.len() as u32, number.min(6) + 1);
        }
        assert_eq!(sleep(&mut idle, start + 25 * 60 * MINUTE).len(), 7);
        assert_eq!((idle.len(), idle.next_deadline()), (0, None));
        assert!(woken <= 2 * 24 * 360, "woken {woken} times");
    }

    /// One comes each second, and stays for a while.
    #[test]
    fn a_table_is_no_larger_for_all_that_has_gone() {
        const THERE: u32 = 1200;
        let (start, mut idle) = (Instant::now(), Idle::new(4096));
        for number in 0..20 * THERE {
            let now = start + number * Duration::from_secs(1);
            idle.forget_unused(now);
            idle.put(number, (), THERE * Duration::from_secs(1), now);
        }
        idle.shrink();
        let as_new: HashMap<u32, ()> = HashMap::with_capacity(idle.len());
        assert_eq!(idle.entries.capacity(), as_new.capacity());
    }

    #[test]
    fn the_oldest_make_room() {
        let (start, mut idle) = (Instant::now(), Idle::new(16));
        for number in 0..16 {
            assert_eq!(idle.put(number, (), MINUTE, start + number * Duration::from_secs(1)), []);
        }
        idle.get(&0, MINUTE, start + MINUTE);
        assert_eq!(idle.put(5, (), MINUTE, start + MINUTE), [(5, ())], "no room is needed for one that is there");
        let mut forgotten = idle.put(99, (), MINUTE, start + MINUTE);
        forgotten.sort_unstable();
        assert_eq!(forgotten, [(1, ()), (2, ())]);
        assert_eq!(idle.len(), 15);
        assert!(idle.peek(&99).is_some());
    }

    #[test]
    fn all_of_one_moment() {
        let (start, mut idle) = (Instant::now(), Idle::new(16));
        for number in 0..100 {
            idle.put(number, (), MINUTE, start);
            assert!(idle.peek(&number).is_some() && idle.len() <= 16);
        }
        assert!(idle.len() >= 14);
    }
}
