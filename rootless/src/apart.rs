//! Ids that one container has to itself, of all that its user's containers may have.

use rbox_types::{IdMap, IdMaps, IdRange};

use crate::Identity;

/// There are not as many left as a container is to have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the container needs {wanted} {what} ids that no other has, and of {all} are {free} free")]
pub struct TooFew {
    /// "user" or "group".
    pub what: &'static str,
    /// How many are looked for.
    pub wanted: u64,
    /// How many are left.
    pub free: u64,
    /// How many there are for all containers.
    pub all: u64,
}

impl Identity {
    /// Ranges for [`below`](Self::below): the ids from 0 to `count` inside, as [`fixed`](IdRange) say, and else by ids that are
    /// not among those of `taken`, nor this user's own.
    pub fn apart(
        &self,
        count: u32,
        fixed: (&[IdRange], &[IdRange]),
        taken: &[&IdMaps],
    ) -> Result<(Vec<IdRange>, Vec<IdRange>), TooFew> {
        let (own_uid, own_gid) = self.own();
        let uid = choose(&self.maps.uid, own_uid, count, fixed.0, taken.iter().map(|maps| &maps.uid));
        let gid = choose(&self.maps.gid, own_gid, count, fixed.1, taken.iter().map(|maps| &maps.gid));
        let too_few = |what| move |(wanted, free, all)| TooFew { what, wanted, free, all };
        Ok((uid.map_err(too_few("user"))?, gid.map_err(too_few("group"))?))
    }
}

/// Of one kind. Else how many are looked for, are left, and are there.
fn choose<'a>(
    map: &IdMap,
    own: u32,
    count: u32,
    fixed: &[IdRange],
    taken: impl Iterator<Item = &'a IdMap>,
) -> Result<Vec<IdRange>, (u64, u64, u64)> {
    let mut inside = vec![IdRange { inside: 0, outside: 0, length: count }];
    let mut free = without(map.ranges().to_vec(), Side::Outside, own, 1);
    let all = total(&free);
    for range in fixed {
        inside = without(inside, Side::Inside, range.inside, range.length);
        free = without(free, Side::Inside, range.outside, range.length);
    }
    for range in taken.flat_map(IdMap::ranges) {
        free = without(free, Side::Outside, range.outside, range.length);
    }
    let wanted = total(&inside);
    // In one piece, if there is one that is long enough: each is one more line of the map, of which newuidmap(1) takes few.
    let whole = free.iter().find(|range| u64::from(range.length) >= wanted).map(std::slice::from_ref);
    let mut pieces = whole.unwrap_or(&free).iter().copied();
    let (mut piece, mut ranges) = (pieces.next(), Vec::new());
    for mut gap in inside {
        while gap.length > 0 {
            let Some(from) = &mut piece else { return Err((wanted, total(&free), all)) };
            let length = gap.length.min(from.length);
            ranges.push(IdRange { inside: gap.inside, outside: from.inside, length });
            (gap.inside, gap.length) = (gap.inside + length, gap.length - length);
            (from.inside, from.length) = (from.inside + length, from.length - length);
            if from.length == 0 {
                piece = pieces.next();
            }
        }
    }
    ranges.extend(fixed);
    Ok(ranges)
}

fn total(ranges: &[IdRange]) -> u64 {
    ranges.iter().map(|range| u64::from(range.length)).sum()
}

/// By which of its two sides a range is looked at.
#[derive(Clone, Copy)]
enum Side {
    Inside,
    Outside,
}

/// What is left of these ranges where `length` ids from `first` on are taken from them.
fn without(ranges: Vec<IdRange>, side: Side, first: u32, length: u32) -> Vec<IdRange> {
    let end = first.saturating_add(length);
    let left = |range: IdRange| {
        let start = match side {
            Side::Inside => range.inside,
            Side::Outside => range.outside,
        };
        let part = |from: u32, to: u32| {
            let (from, to) = (from.clamp(start, start + range.length), to.clamp(start, start + range.length));
            let offset = from - start;
            let part = IdRange {
                inside: range.inside + offset,
                outside: range.outside + offset,
                length: to.saturating_sub(from),
            };
            (part.length > 0).then_some(part)
        };
        [part(start, first), part(end, start + range.length)]
    };
    ranges.into_iter().flat_map(left).flatten().collect()
}

#[cfg(test)]
mod tests {
    use rbox_types::IdMap;

    use super::*;
    use crate::Kind;

    fn range(inside: u32, outside: u32, length: u32) -> IdRange {
        IdRange { inside, outside, length }
    }

    fn identity(ranges: &[IdRange]) -> Identity {
        let map = IdMap::new(ranges.to_vec()).expect("valid");
        let mut identity = Identity::given(IdMaps { uid: map.clone(), gid: map }, Kind::Subid);
        identity.own = (1000, 1000);
        identity
    }

    /// Gives ids to one container after the other; none of the user's own, none twice.
    #[test]
    fn no_id_is_given_twice() {
        let identity = identity(&[range(0, 1000, 1), range(1, 100_000, 100), range(101, 300_000, 50)]);
        let mut taken: Vec<IdMaps> = Vec::new();
        let give = |taken: &mut Vec<IdMaps>, count| {
            let (uid, gid) = identity.apart(count, (&[], &[]), &taken.iter().collect::<Vec<_>>())?;
            let maps = identity.below(&uid, &gid).expect("of its own ids").maps;
            taken.push(maps);
            Ok(uid)
        };
        assert_eq!(give(&mut taken, 60), Ok(vec![range(0, 1, 60)]));
        // Where there is room in one piece, and then where there is any.
        assert_eq!(give(&mut taken, 45), Ok(vec![range(0, 101, 45)]));
        assert_eq!(give(&mut taken, 43), Ok(vec![range(0, 61, 40), range(40, 146, 3)]));
        let too_few = TooFew { what: "user", wanted: 3, free: 2, all: 150 };
        assert_eq!(give(&mut taken, 3), Err(too_few));
        let mut outside: Vec<u32> = taken
            .iter()
            .flat_map(|maps| maps.uid.ranges())
            .flat_map(|range| range.outside..range.outside + range.length)
            .collect();
        outside.sort_unstable();
        outside.dedup();
        assert_eq!(outside.len(), 148);
        assert!(!outside.contains(&1000));
        // What is given back can be given again.
        taken.remove(0);
        assert_eq!(give(&mut taken, 3), Ok(vec![range(0, 1, 3)]));
    }

    #[test]
    fn some_are_said() {
        let identity = identity(&[range(0, 1000, 1), range(1, 100_000, 100)]);
        let fixed = [range(5, 0, 1), range(50, 1, 2)];
        let chosen = identity.apart(10, (&fixed, &[]), &[]).expect("there are enough");
        assert_eq!(chosen.0, [range(0, 3, 5), range(6, 8, 4), range(5, 0, 1), range(50, 1, 2)]);
        assert_eq!(chosen.1, [range(0, 1, 10)]);
        let map = identity.below(&chosen.0, &chosen.1).expect("valid").maps.uid;
        assert_eq!((map.outside(5), map.outside(50), map.outside(0)), (Some(1000), Some(100_000), Some(100_002)));
    }

    #[test]
    fn one_id_is_none_to_give() {
        let identity = identity(&[range(0, 1000, 1)]);
        let too_few = identity.apart(1, (&[], &[]), &[]).expect_err("his own");
        assert_eq!(too_few, TooFew { what: "user", wanted: 1, free: 0, all: 0 });
    }
}
