//! Which ids a container of this user has.

use std::path::Path;
use std::{fmt, fs, io};

use rbox_sys::ids;
use rbox_types::{IdMap, IdMaps, IdRange};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::subid::{self, SubidRange, SubidSource};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The ranges, where there are any; else one id.
    #[default]
    Auto,
    /// The ranges, or an error.
    Subid,
    /// One id.
    Single,
}

/// As it is typed.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Subid => "subid",
            Self::Single => "single",
        })
    }
}

/// How the maps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// By newuidmap and newgidmap.
    Subid,
    /// By this process itself: it maps its own id alone.
    Single,
    /// By this process itself, which is root and may map any ids.
    Privileged,
}

/// The ids of a user's containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Inside → outside.
    pub maps: IdMaps,
    /// How they are written.
    pub kind: Kind,
    /// Who says which ranges this user has.
    #[serde(default)]
    pub source: SubidSource,
    /// Who this user is: uid and gid.
    pub(crate) own: (u32, u32),
}

/// Where root's containers live when /etc/subuid gives root no range: above all that Linux distributions and
/// systemd hand out (systemd's UIDS-GIDS.md leaves 1879048192–2147352575 unused).
const ROOT_RANGE: SubidRange = SubidRange { start: 1_879_048_192, length: 65_536 };

impl Identity {
    /// The identity of the user who runs this process.
    pub fn detect(choice: Choice) -> Result<Self, Error> {
        let (uid, gid) = (ids::uid(), ids::gid());
        let single = |source| Self {
            maps: IdMaps { uid: IdMap::single(uid), gid: IdMap::single(gid) },
            kind: Kind::Single,
            source,
            own: (uid, gid),
        };
        if choice == Choice::Single {
            return Ok(single(SubidSource::default()));
        }
        let name = name_in(&read("/etc/passwd")?, uid);
        let source = SubidSource::of(&read("/etc/nsswitch.conf")?);
        let (uids, gids) = source.ranges(name.as_deref(), uid, read)?;
        if uid == 0 {
            return Ok(Self { source, ..Self::of_root(&uids, &gids)? });
        }
        if uids.is_empty() || gids.is_empty() {
            return match choice {
                Choice::Subid => Err(Error::NoRanges { user: name.unwrap_or_else(|| uid.to_string()), asked: source }),
                _ => Ok(single(source)),
            };
        }
        let maps = IdMaps { uid: with_own_id(uid, &uids)?, gid: with_own_id(gid, &gids)? };
        Ok(Self { maps, kind: Kind::Subid, source, own: (uid, gid) })
    }

    /// Root's containers have no id of root's: 0 inside is the first of the range.
    fn of_root(uids: &[SubidRange], gids: &[SubidRange]) -> Result<Self, Error> {
        let map = |ranges: &[SubidRange], own: &str| -> Result<IdMap, Error> {
            let ranges = if ranges.is_empty() { &[ROOT_RANGE][..] } else { ranges };
            let ours = parse_map(&read(own)?);
            if ranges.iter().all(|range| ours.iter().any(|line| line.holds(*range))) {
                return Ok(IdMap::new(consecutive(0, ranges))?);
            }
            // Inside somebody else's container only that container's ids can be mapped on.
            Ok(IdMap::new(ours.iter().map(|line| IdRange { outside: line.inside, ..*line }).collect())?)
        };
        let maps = IdMaps { uid: map(uids, "/proc/self/uid_map")?, gid: map(gids, "/proc/self/gid_map")? };
        Ok(Self { maps, kind: Kind::Privileged, source: SubidSource::default(), own: (0, 0) })
    }

    /// That of somebody else's choice, to be written by this process.
    pub fn given(maps: IdMaps, kind: Kind) -> Self {
        Self { maps, kind, source: SubidSource::default(), own: (ids::uid(), ids::gid()) }
    }

    /// The same ids, for a process that is in a user namespace with them, and root there.
    #[must_use]
    pub fn inside(&self) -> Self {
        let maps = IdMaps { uid: self.maps.uid.onto_itself(), gid: self.maps.gid.onto_itself() };
        Self { maps, kind: Kind::Privileged, source: self.source.clone(), own: (0, 0) }
    }

    /// Who this user is: uid and gid.
    pub fn own(&self) -> (u32, u32) {
        self.own
    }

    /// The same ids outside, with the user himself as these inside instead of root.
    pub fn keeping(&self, uid: u32, gid: u32) -> Result<Self, Error> {
        let kept = |map: &IdMap, id: u32, what| map.keeping(id).ok_or(Error::NotKept { what, id, count: map.count() });
        let maps = IdMaps { uid: kept(&self.maps.uid, uid, "user")?, gid: kept(&self.maps.gid, gid, "group")? };
        Ok(Self { maps, ..self.clone() })
    }

    /// Those that these ranges say, which lead to what these ids are inside.
    pub fn below(&self, uid: &[IdRange], gid: &[IdRange]) -> Result<Self, Error> {
        let below = |map: &IdMap, ranges| map.below(ranges).map_err(Error::Map);
        let maps = IdMaps { uid: below(&self.maps.uid, uid)?, gid: below(&self.maps.gid, gid)? };
        Ok(Self { maps, ..self.clone() })
    }

    /// Gives a file to the container's root, where that is not this user.
    pub fn give_to_root(&self, path: &Path) -> io::Result<()> {
        match self.foreign_root() {
            Some((uid, gid)) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Whether the ids inside are those of this process's own user namespace.
    pub fn is_inside(&self) -> bool {
        self.maps.uid == self.maps.uid.onto_itself() && self.maps.gid == self.maps.gid.onto_itself()
    }

    /// Whether only one id is mapped, so that no file can belong to another.
    pub fn is_single(&self) -> bool {
        self.maps.uid.is_single()
    }

    /// The ids outside that root inside stands for, where they are not this user's own: what the container's root
    /// is to write must then be given to it first.
    pub fn foreign_root(&self) -> Option<(u32, u32)> {
        let root = (self.maps.uid.root(), self.maps.gid.root());
        (root != self.own).then_some(root)
    }
}

trait Holds {
    fn holds(&self, range: SubidRange) -> bool;
}

impl Holds for IdRange {
    /// Whether all of `range` is on the inside of this line.
    fn holds(&self, range: SubidRange) -> bool {
        let (start, end) = (u64::from(range.start), u64::from(range.start) + u64::from(range.length));
        u64::from(self.inside) <= start && end <= u64::from(self.inside) + u64::from(self.length)
    }
}

/// 0 is the user; 1 and on are the ranges, one after the other.
fn with_own_id(own: u32, ranges: &[SubidRange]) -> Result<IdMap, Error> {
    let mut lines = vec![IdRange { inside: 0, outside: own, length: 1 }];
    lines.extend(consecutive(1, ranges));
    Ok(IdMap::new(lines)?)
}

fn consecutive(first: u32, ranges: &[SubidRange]) -> Vec<IdRange> {
    let mut inside = first;
    let mut lines = Vec::new();
    for range in ranges {
        let length = range.length.min(u32::MAX - inside);
        lines.push(IdRange { inside, outside: range.start, length });
        inside += length;
    }
    lines
}

/// The lines of /proc/self/uid_map, whatever the kernel shows there.
fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(IdRange { inside: next()?, outside: next()?, length: next()? })
        })
        .collect()
}

/// The name of the user with this id: by /etc/passwd, or, where that is the caller, by his variables.
pub fn user_of(uid: u32) -> Option<String> {
    name_in(&read("/etc/passwd").unwrap_or_default(), uid)
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    let own = || (ids::uid() == uid).then(|| std::env::var("USER").ok()).flatten();
    subid::user_name(passwd, uid).map(str::to_owned).or_else(own)
}

/// A file's text; one that is missing is empty.
fn read(path: &str) -> Result<String, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::Read { path: Path::new(path).into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_id_first_then_the_ranges() {
        let ranges = [SubidRange { start: 100_000, length: 10 }, SubidRange { start: 200_000, length: 5 }];
        let map = with_own_id(1000, &ranges).expect("valid");
        assert_eq!(map.to_string(), "0 1000 1\n1 100000 10\n11 200000 5\n");
    }

    #[test]
    fn a_range_that_holds_the_user_himself_is_refused() {
        assert!(with_own_id(1000, &[SubidRange { start: 900, length: 200 }]).is_err());
    }

    #[test]
    fn nested_maps() {
        let lines = parse_map("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(lines.len(), 2);
        assert!(!lines.iter().any(|line| line.holds(ROOT_RANGE)));
        let whole = parse_map("0 0 4294967295");
        assert!(whole[0].holds(ROOT_RANGE));
    }
}
