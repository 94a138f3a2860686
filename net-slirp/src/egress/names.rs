//! Which names an address has been answered for, and until when that holds.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::name::Name;

/// So many pairs of a name and an address at most; the oldest makes room.
const MOST: usize = 10_000;
/// So many names of one address, since each is looked at when somebody connects there.
const MOST_OF_ONE: usize = 256;
/// For so long after the answer has run out, an address may still be connected to: whoever has just been answered tries
/// one address after another, and answers may be cached for no time at all.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// No answer holds for longer (RFC 8767, 4).
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The table.
#[derive(Debug)]
pub(super) struct Names {
    by_address: HashMap<IpAddr, Vec<Learnt>>,
    /// Each by when it was learnt last.
    by_age: BTreeMap<u64, (IpAddr, Name)>,
    next: u64,
    most: usize,
}

#[derive(Debug)]
struct Learnt {
    name: Name,
    until: Instant,
    age: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        Self::of_at_most(MOST)
    }

    fn of_at_most(most: usize) -> Self {
        Self { by_address: HashMap::new(), by_age: BTreeMap::new(), next: 0, most }
    }

    /// This address was answered for this name, for so many seconds.
    pub(super) fn learn(&mut self, name: &Name, address: IpAddr, ttl: u32, now: Instant) {
        // A TTL with the first bit set is none (RFC 2181, 8).
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        let until = now + Duration::from_secs(ttl.into()).min(LONGEST) + GRACE;
        let age = self.next;
        self.next += 1;
        let names = self.by_address.entry(address).or_default();
        match names.iter_mut().find(|learnt| learnt.name == *name) {
            Some(learnt) => {
                self.by_age.remove(&learnt.age);
                // The earlier answer may be in somebody's cache.
                learnt.until = learnt.until.max(until);
                learnt.age = age;
            }
            None => {
                if names.len() >= MOST_OF_ONE
                    && let Some(oldest) = names.iter().map(|learnt| learnt.age).min()
                {
                    names.retain(|learnt| learnt.age != oldest);
                    self.by_age.remove(&oldest);
                }
                names.push(Learnt { name: name.clone(), until, age });
            }
        }
        self.by_age.insert(age, (address, name.clone()));
        while self.by_age.len() > self.most {
            self.forget_oldest();
        }
    }

    /// The names of this address.
    pub(super) fn of(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &Name> {
        self.learnt(address, now).map(|learnt| &learnt.name)
    }

    /// The one of them that was learnt last.
    pub(super) fn latest_of(&self, address: IpAddr, now: Instant) -> Option<&Name> {
        self.learnt(address, now).max_by_key(|learnt| learnt.age).map(|learnt| &learnt.name)
    }

    fn learnt(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &Learnt> {
        self.by_address.get(&address).into_iter().flatten().filter(move |learnt| now < learnt.until)
    }

    fn forget_oldest(&mut self) {
        let Some((age, (address, _))) = self.by_age.pop_first() else { return };
        if let Some(names) = self.by_address.get_mut(&address) {
            names.retain(|learnt| learnt.age != age);
            if names.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn of(names: &Names, number: u32, now: Instant) -> Vec<&str> {
        names.of(address(number), now).map(Name::as_str).collect()
    }

    #[test]
    fn as_long_as_it_may_be_cached_and_a_while() {
        let (mut names, now) = (Names::new(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        names.learn(&name("a.example"), address(1), 60, now);
        names.learn(&name("b.example"), address(1), 0, now);
        assert_eq!(of(&names, 1, after(29)), ["a.example", "b.example"]);
        assert_eq!(of(&names, 1, after(30)), ["a.example"]);
        assert_eq!(of(&names, 1, after(89)), ["a.example"]);
        assert_eq!(of(&names, 1, after(90)), [""; 0]);
        assert_eq!(of(&names, 2, now), [""; 0]);
        assert_eq!(names.latest_of(address(1), now).map(Name::as_str), Some("b.example"));
        // A later answer that runs out sooner takes nothing back; one that runs out later counts.
        names.learn(&name("a.example"), address(1), 0, after(1));
        assert_eq!(of(&names, 1, after(89)), ["a.example"]);
        assert_eq!(names.latest_of(address(1), after(1)).map(Name::as_str), Some("a.example"));
        names.learn(&name("a.example"), address(1), 60, after(80));
        assert_eq!(of(&names, 1, after(169)), ["a.example"]);
    }

    #[test]
    fn absurd_times_are_none_or_a_week() {
        let (mut names, now) = (Names::new(), Instant::now());
        names.learn(&name("a.example"), address(1), u32::MAX, now);
        names.learn(&name("b.example"), address(1), i32::MAX as u32, now);
        assert_eq!(of(&names, 1, now + GRACE), ["b.example"]);
        assert_eq!(of(&names, 1, now + LONGEST + GRACE), [""; 0]);
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut names, now) = (Names::of_at_most(3), Instant::now());
        for number in 1..=3 {
            names.learn(&name("a.example"), address(number), 60, now);
        }
        names.learn(&name("a.example"), address(1), 60, now);
        names.learn(&name("a.example"), address(4), 60, now);
        let there: Vec<u32> = (1..=4).filter(|number| !of(&names, *number, now).is_empty()).collect();
        assert_eq!(there, [1, 3, 4]);
        assert_eq!((names.by_address.len(), names.by_age.len()), (3, 3));
    }

    #[test]
    fn it_is_bounded_whatever_is_learnt() {
        let (mut names, now) = (Names::new(), Instant::now());
        for number in 0..30_000 {
            names.learn(&name(&format!("n{number}.example")), address(number % 7), 60, now);
        }
        assert_eq!(names.by_age.len(), 7 * MOST_OF_ONE);
        for number in 0..30_000 {
            names.learn(&name("a.example"), address(number), 60, now);
        }
        assert_eq!(names.by_age.len(), MOST);
        assert_eq!(names.by_address.values().map(Vec::len).sum::<usize>(), MOST);
        assert_eq!(of(&names, 29_999, now), ["a.example"]);
    }
}
