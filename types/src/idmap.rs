//! Maps between the ids inside a user namespace and those outside (user_namespaces(7)).

use std::fmt;

use serde::{Deserialize, Serialize};

/// One line of `/proc/<pid>/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id as seen inside the namespace.
    pub inside: u32,
    /// The id outside that it stands for.
    pub outside: u32,
    /// How many ids follow each other, at least one.
    pub length: u32,
}

/// The lines of one map: not empty, no id twice on either side, id 0 mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<IdRange>", into = "Vec<IdRange>")]
pub struct IdMap(Vec<IdRange>);

/// Why ranges do not make an [`IdMap`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdMap {
    /// No id 0: nothing could be root inside.
    #[error("the id map does not map id 0")]
    NoRoot,
    /// A range of no ids, or one that runs past the last id.
    #[error("the id map has the range {0}, which is empty or too long")]
    Range(IdRange),
    /// An id that the map above has not.
    #[error("the id {0} is none that there is")]
    Unmapped(u32),
    /// An id stands in two ranges.
    #[error("the ranges {0} and {1} of the id map overlap")]
    Overlap(IdRange, IdRange),
}

impl IdMap {
    /// A map of these ranges.
    pub fn new(ranges: Vec<IdRange>) -> Result<Self, InvalidIdMap> {
        ranges.iter().try_for_each(|range| Self::checked(range).map(drop))?;
        let overlap = |a: u32, a_len: u32, b: u32, b_len: u32| a < b + b_len && b < a + a_len;
        for (at, a) in ranges.iter().enumerate() {
            for b in &ranges[at + 1..] {
                if overlap(a.inside, a.length, b.inside, b.length) || overlap(a.outside, a.length, b.outside, b.length)
                {
                    return Err(InvalidIdMap::Overlap(*a, *b));
                }
            }
        }
        let map = Self(ranges);
        map.outside(0).ok_or(InvalidIdMap::NoRoot)?;
        Ok(map)
    }

    /// The map in which 0 inside is `id` outside and nothing else is mapped.
    pub fn single(id: u32) -> Self {
        Self(vec![IdRange { inside: 0, outside: id, length: 1 }])
    }

    /// The id outside that `inside` stands for.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = inside.checked_sub(range.inside)?;
            (offset < range.length).then(|| range.outside + offset)
        })
    }

    /// The id inside that stands for `outside`.
    pub fn inside(&self, outside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = outside.checked_sub(range.outside)?;
            (offset < range.length).then(|| range.inside + offset)
        })
    }

    /// The id outside that root inside stands for.
    pub fn root(&self) -> u32 {
        // `new` and `single` made sure that 0 is mapped.
        self.outside(0).unwrap_or(u32::MAX)
    }

    /// The ranges, in the order in which they were given.
    pub fn ranges(&self) -> &[IdRange] {
        &self.0
    }

    /// The same ids, each standing for itself. Range by range: of a map below this one, the kernel takes no range that
    /// lies across two of this one's.
    #[must_use]
    pub fn onto_itself(&self) -> Self {
        Self(self.0.iter().map(|range| IdRange { outside: range.inside, ..*range }).collect())
    }

    /// The ids of this map, with `id` inside in the place of root: what is below it moves up by one. None where there is no
    /// such id inside.
    pub fn keeping(&self, id: u32) -> Option<Self> {
        self.outside(id)?;
        let last = self.0.iter().map(|range| range.inside + (range.length - 1)).max()?;
        let lines = [(0, 1, id), (id, 0, 1), (id.checked_add(1)?, id + 1, last - id)];
        let lines = lines.map(|(inside, outside, length)| IdRange { inside, outside, length });
        self.below(&lines.into_iter().filter(|range| range.length > 0).collect::<Vec<_>>()).ok()
    }

    /// A map whose ranges lead to the inside of this one, as one that leads to the outside: range by range of both, since the
    /// kernel takes none that lies across two of the map above.
    pub fn below(&self, ranges: &[IdRange]) -> Result<Self, InvalidIdMap> {
        let mut lines = Vec::new();
        for range in ranges {
            let (mut done, of) = (0, Self::checked(range)?);
            while done < of.length {
                let id = of.outside + done;
                let above = self.0.iter().find(|above| id >= above.inside && id - above.inside < above.length);
                let above = above.ok_or(InvalidIdMap::Unmapped(id))?;
                let offset = id - above.inside;
                let length = (above.length - offset).min(of.length - done);
                lines.push(IdRange { inside: of.inside + done, outside: above.outside + offset, length });
                done += length;
            }
        }
        Self::new(lines)
    }

    fn checked(range: &IdRange) -> Result<&IdRange, InvalidIdMap> {
        let fits = |start: u32| start.checked_add(range.length).is_some();
        if range.length == 0 || !fits(range.inside) || !fits(range.outside) {
            return Err(InvalidIdMap::Range(*range));
        }
        Ok(range)
    }

    /// How many ids are mapped.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|range| u64::from(range.length)).sum()
    }

    /// Whether id 0 is the only one mapped.
    pub fn is_single(&self) -> bool {
        self.count() == 1
    }
}

impl TryFrom<Vec<IdRange>> for IdMap {
    type Error = InvalidIdMap;

    fn try_from(ranges: Vec<IdRange>) -> Result<Self, InvalidIdMap> {
        Self::new(ranges)
    }
}

impl From<IdMap> for Vec<IdRange> {
    fn from(map: IdMap) -> Self {
        map.0
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.length)
    }
}

/// The text that the kernel takes in `/proc/<pid>/uid_map`.
impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|range| writeln!(f, "{range}"))
    }
}

/// The two maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// User ids.
    pub uid: IdMap,
    /// Group ids.
    pub gid: IdMap,
}

impl IdMaps {
    /// A short, stable name for this pair, fit for a file name: files unpacked under one pair of maps have the
    /// wrong owners under any other, so the store keeps them apart by this key.
    pub fn key(&self) -> String {
        // FNV-1a, 64 bits: a name among the handful of maps that one user ever has, not a defence.
        let text = format!("{}\0{}", self.uid, self.gid);
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        format!("{hash:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_else_in_the_place_of_root() {
        let line = |inside, outside, length| IdRange { inside, outside, length };
        let map = IdMap::new(vec![line(0, 1000, 1), line(1, 100, 10), line(11, 500, 5)]).expect("valid");
        for id in [0, 1, 5, 10, 11, 15] {
            let kept = map.keeping(id).expect("an id inside");
            assert_eq!(kept.outside(id), Some(1000));
            let others: Vec<u32> =
                (0..16).filter(|inside| *inside != id).filter_map(|inside| kept.outside(inside)).collect();
            assert_eq!(others, (100..110).chain(500..505).collect::<Vec<_>>(), "{id}: {kept}");
            // The kernel takes no line that lies across two.
            let within = |range: &IdRange| {
                map.ranges()
                    .iter()
                    .any(|of| range.outside >= of.outside && range.outside + range.length <= of.outside + of.length)
            };
            assert!(kept.ranges().iter().all(within), "{id}: {kept}");
        }
        assert_eq!(
            map.below(&[line(0, 9, 4), line(7, 0, 1)]).map(|map| map.to_string()),
            Ok("0 108 2\n2 500 2\n7 1000 1\n".into())
        );
        assert_eq!(map.below(&[line(0, 14, 3)]), Err(InvalidIdMap::Unmapped(16)));
        assert_eq!(map.below(&[line(1, 1, 3)]), Err(InvalidIdMap::NoRoot));
        assert_eq!(map.keeping(16), None);
        assert_eq!(IdMap::single(7).keeping(0), Some(IdMap::single(7)));
        assert_eq!(IdMap::single(7).keeping(1), None);
    }

    fn range(inside: u32, outside: u32, length: u32) -> IdRange {
        IdRange { inside, outside, length }
    }

    #[test]
    fn looks_ids_up() {
        let map = IdMap::new(vec![range(0, 1000, 1), range(1, 100_000, 65_536)]).expect("valid");
        assert_eq!(map.root(), 1000);
        assert_eq!(map.outside(1), Some(100_000));
        assert_eq!(map.outside(65_536), Some(165_535));
        assert_eq!(map.outside(65_537), None);
        assert_eq!(map.to_string(), "0 1000 1\n1 100000 65536\n");
        assert!(!map.is_single());
    }

    #[test]
    fn a_map_onto_itself_keeps_its_ranges() {
        let map = IdMap::new(vec![range(0, 1000, 1), range(1, 100_000, 65_536)]).expect("valid");
        assert_eq!(map.onto_itself().to_string(), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn refuses_maps_the_kernel_would_refuse() {
        let refused = |ranges| IdMap::new(ranges).expect_err("invalid");
        assert_eq!(refused(vec![]), InvalidIdMap::NoRoot);
        assert_eq!(refused(vec![range(0, 0, 0)]), InvalidIdMap::Range(range(0, 0, 0)));
        assert_eq!(refused(vec![range(0, u32::MAX, 2)]), InvalidIdMap::Range(range(0, u32::MAX, 2)));
        let (a, b) = (range(0, 1000, 10), range(10, 1009, 10));
        assert_eq!(refused(vec![a, b]), InvalidIdMap::Overlap(a, b));
    }

    #[test]
    fn keys_tell_maps_apart() {
        let maps = |id| IdMaps { uid: IdMap::single(id), gid: IdMap::single(1000) };
        assert_eq!(maps(1000).key(), maps(1000).key());
        assert_ne!(maps(1000).key(), maps(1001).key());
        assert_eq!(maps(1000).key().len(), 16);
    }
}
