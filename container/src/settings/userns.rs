//! `--userns`, `--uidmap`, `--gidmap`: whose ids a container has.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use rbox_rootless::{Error, Identity};
use rbox_types::IdRange;
use serde::{Deserialize, Serialize};

/// Whose they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Userns {
    /// Root is the user himself; all others are of his ranges.
    #[default]
    Own,
    /// The user himself is this one instead of root, or, where nothing is said, whom he is outside.
    KeepId {
        /// The user id inside.
        uid: Option<u32>,
        /// The group id inside.
        gid: Option<u32>,
    },
    /// Some of the ranges, which no other container has: they are [chosen](crate::Engine) when it is made, and then are
    /// [`Mapped`](Self::Mapped).
    Auto(Auto),
    /// As these say: outside is what the ids of [`Own`](Self::Own) are inside.
    Mapped {
        /// User ids.
        uid: Vec<IdRange>,
        /// Group ids.
        gid: Vec<IdRange>,
    },
}

/// What is said of ids that are to be chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Auto {
    /// How many; as many as the image needs, where that is left open.
    pub size: Option<NonZeroU32>,
    /// User ids that are to be these, as those of [`Userns::Mapped`].
    pub uid: Vec<IdRange>,
    /// Group ids.
    pub gid: Vec<IdRange>,
}

impl Userns {
    /// With what was left open filled in.
    #[must_use]
    pub(crate) fn settle(&self, identity: &Identity) -> Self {
        let (own_uid, own_gid) = identity.own();
        match self {
            Self::Own | Self::Mapped { .. } | Self::Auto(_) => self.clone(),
            Self::KeepId { uid, gid } => {
                Self::KeepId { uid: Some(uid.unwrap_or(own_uid)), gid: Some(gid.unwrap_or(own_gid)) }
            }
        }
    }

    /// Who the user himself is inside, where that is not root.
    pub(crate) fn kept(&self) -> Option<(u32, u32)> {
        match self {
            Self::KeepId { uid: Some(uid), gid: Some(gid) } if (*uid, *gid) != (0, 0) => Some((*uid, *gid)),
            Self::Own | Self::KeepId { .. } | Self::Mapped { .. } | Self::Auto(_) => None,
        }
    }

    /// The ids, of all that containers may have; none where they are just those.
    pub(crate) fn ids(&self, identity: &Identity) -> Result<Option<Identity>, Error> {
        match (self, self.kept()) {
            (Self::Mapped { uid, gid }, _) => identity.below(uid, gid).map(Some),
            // None at all, until they are chosen.
            (Self::Auto(_), _) => identity.below(&[], &[]).map(Some),
            (_, Some((uid, gid))) => identity.keeping(uid, gid).map(Some),
            (_, None) => Ok(None),
        }
    }

    /// Whether files are shown with other ids than they are stored with.
    pub(crate) fn shows_otherwise(&self) -> bool {
        self.kept().is_some() || matches!(self, Self::Mapped { .. } | Self::Auto(_))
    }

    /// What was said.
    pub(crate) fn flag(&self) -> String {
        match self {
            Self::Mapped { .. } => "--uidmap, --gidmap".into(),
            _ => format!("--userns={self}"),
        }
    }

    /// As Podman shows it to programs: ids that are somehow mapped are the container's own.
    pub(crate) fn mode(&self) -> String {
        match self {
            Self::Mapped { .. } => "private".into(),
            _ => self.to_string(),
        }
    }

    /// With what `--uidmap` and `--gidmap` say. Where one of them says nothing, it is as the other.
    pub fn with(self, uid: Vec<MapFlag>, gid: Vec<MapFlag>) -> Result<Self, String> {
        if uid.is_empty() && gid.is_empty() {
            return Ok(self);
        }
        if self != Self::Own {
            return Err("--userns and --uidmap, --gidmap say the same in two ways".into());
        }
        let ranges = |flags: &[MapFlag]| flags.iter().map(|flag| flag.0).collect::<Vec<_>>();
        let (uid, gid) = (ranges(&uid), ranges(&gid));
        Ok(match (uid.is_empty(), gid.is_empty()) {
            (true, _) => Self::Mapped { uid: gid.clone(), gid },
            (_, true) => Self::Mapped { gid: uid.clone(), uid },
            _ => Self::Mapped { uid, gid },
        })
    }
}

/// Of digits alone: Podman's sign before one means something else.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `CONTAINER:ID[:AMOUNT]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapFlag(IdRange);

impl Auto {
    fn parse(options: &str) -> Result<Self, String> {
        let mut auto = Self::default();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let map = || value.parse().map(|MapFlag(range)| range).map_err(|error| format!("{key}: {error}"));
            match key {
                "size" => {
                    let size = number(value).and_then(NonZeroU32::new);
                    auto.size = Some(size.ok_or_else(|| format!("{option}: expected how many ids, at least 1"))?);
                }
                "uidmapping" => auto.uid.push(map()?),
                "gidmapping" => auto.gid.push(map()?),
                _ => return Err(format!("auto has no option {key:?}; it has size=, uidmapping= and gidmapping=")),
            }
        }
        Ok(auto)
    }
}

impl fmt::Display for Auto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let maps = |key: &'static str, ranges: &[IdRange]| -> Vec<String> {
            ranges
                .iter()
                .map(|IdRange { inside, outside, length }| format!("{key}={inside}:{outside}:{length}"))
                .collect()
        };
        let size = self.size.map(|size| format!("size={size}"));
        let options: Vec<String> =
            size.into_iter().chain(maps("uidmapping", &self.uid)).chain(maps("gidmapping", &self.gid)).collect();
        write!(f, "auto{}{}", if options.is_empty() { "" } else { ":" }, options.join(","))
    }
}

impl FromStr for MapFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Option<Vec<u32>> = text.split(':').map(number).collect();
        match numbers.as_deref() {
            Some([inside, outside]) => Ok(Self(IdRange { inside: *inside, outside: *outside, length: 1 })),
            Some([inside, outside, length]) => {
                Ok(Self(IdRange { inside: *inside, outside: *outside, length: *length }))
            }
            _ => Err(format!(
                "{text:?}: expected CONTAINER_ID:ID:AMOUNT; ID 0 is you, those from 1 on are of your ranges"
            )),
        }
    }
}

impl FromStr for Userns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, options) = text.split_once(':').map_or((text, ""), |(kind, options)| (kind, options));
        match kind {
            // As records have it.
            "map" => {
                let (uid, gid) = options.split_once(';').ok_or("expected two maps")?;
                let ranges = |line| ranges(line).ok_or_else(|| format!("{text}: no map"));
                Ok(Self::Mapped { uid: ranges(uid)?, gid: ranges(gid)? })
            }
            "" | "private" if options.is_empty() => Ok(Self::Own),
            "keep-id" => {
                let (mut uid, mut gid) = (None, None);
                for option in options.split(',').filter(|option| !option.is_empty()) {
                    let (key, value) = option.split_once('=').unwrap_or((option, ""));
                    let place = match key {
                        "uid" => &mut uid,
                        "gid" => &mut gid,
                        _ => return Err(format!("keep-id has no option {key:?}; it has uid= and gid=")),
                    };
                    *place = Some(value.parse().map_err(|_| format!("{option}: expected a number"))?);
                }
                Ok(Self::KeepId { uid, gid })
            }
            "host" => {
                Err("the host's user namespace has no root for a container of an ordinary user: its own one can \
                           mount, and owns its namespaces"
                    .into())
            }
            "container" => {
                Err("who joins another container's namespaces, as by --network container:NAME, has its ids".into())
            }
            "auto" => Ok(Self::Auto(Auto::parse(options)?)),
            "nomap" | "ns" => Err(format!("{kind} is not there yet; auto and keep-id are")),
            _ => Err(format!(
                "{text:?} is none of auto[:size=N,uidmapping=MAP,gidmapping=MAP], keep-id[:uid=ID,gid=ID] and private"
            )),
        }
    }
}

fn line(ranges: &[IdRange]) -> String {
    let parts = ranges.iter().map(|IdRange { inside, outside, length }| format!("{inside}-{outside}-{length}"));
    parts.collect::<Vec<_>>().join(",")
}

/// What [`line`] has made.
fn ranges(line: &str) -> Option<Vec<IdRange>> {
    let range = |part: &str| {
        let mut numbers = part.split('-').map(|number| number.parse().ok());
        let mut next = || numbers.next()?;
        Some(IdRange { inside: next()?, outside: next()?, length: next()? })
    };
    line.split(',').map(range).collect()
}

impl fmt::Display for Userns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (uid, gid) = match self {
            Self::Own => return Ok(()),
            Self::KeepId { uid, gid } => (uid, gid),
            Self::Auto(auto) => return auto.fmt(f),
            Self::Mapped { uid, gid } => return write!(f, "map:{};{}", line(uid), line(gid)),
        };
        let options: Vec<String> = [("uid", uid), ("gid", gid)]
            .into_iter()
            .filter_map(|(key, id)| id.map(|id| format!("{key}={id}")))
            .collect();
        let separator = if options.is_empty() { "" } else { ":" };
        write!(f, "keep-id{separator}{}", options.join(","))
    }
}

impl TryFrom<String> for Userns {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Userns> for String {
    fn from(userns: Userns) -> Self {
        userns.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, uid, gid) in
            [("keep-id", None, None), ("keep-id:uid=5", Some(5), None), ("keep-id:uid=5,gid=6", Some(5), Some(6))]
        {
            let parsed: Userns = text.parse().expect(text);
            assert_eq!(parsed, Userns::KeepId { uid, gid });
            assert_eq!(parsed.to_string(), text);
        }
        for (text, size, uid, gid) in [
            ("auto", None, &[][..], &[][..]),
            ("auto:size=5", Some(5), &[], &[]),
            (
                "auto:size=5,uidmapping=0:1:2,uidmapping=9:0:1,gidmapping=1:7:3",
                Some(5),
                &[(0, 1, 2), (9, 0, 1)],
                &[(1, 7, 3)],
            ),
        ] {
            let ranges = |ranges: &[(u32, u32, u32)]| -> Vec<IdRange> {
                ranges.iter().map(|&(inside, outside, length)| IdRange { inside, outside, length }).collect()
            };
            let parsed: Userns = text.parse().expect(text);
            assert_eq!(
                parsed,
                Userns::Auto(Auto { size: size.and_then(NonZeroU32::new), uid: ranges(uid), gid: ranges(gid) })
            );
            assert_eq!(parsed.to_string(), text);
        }
        let flag = |text: &str| text.parse::<MapFlag>();
        let mapped = Userns::Own.with(vec![flag("0:1:5").expect("valid"), flag("5:0").expect("valid")], Vec::new());
        let mapped = mapped.expect("one way");
        assert_eq!(mapped.to_string(), "map:0-1-5,5-0-1;0-1-5,5-0-1");
        assert_eq!(mapped.to_string().parse(), Ok(mapped.clone()));
        mapped.with(vec![flag("0:1:5").expect("valid")], Vec::new()).expect_err("twice");
        for wrong in ["", "0", "0:1:2:3", "a:1:1", "+0:1:1"] {
            flag(wrong).expect_err(wrong);
        }
        assert_eq!("".parse(), Ok(Userns::Own));
        assert_eq!(Userns::Own.to_string(), "");
        for wrong in [
            "host",
            "auto:size=0",
            "auto:size=x",
            "auto:uid=1",
            "auto:gidmapping=1",
            "nomap",
            "keep-id:uid",
            "keep-id:uid=x",
            "keep-id:size=1",
            "private:x",
            "other",
        ] {
            wrong.parse::<Userns>().expect_err(wrong);
        }
    }
}
