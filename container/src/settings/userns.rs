//! `--userns`: whose ids a container has.

use std::fmt;
use std::str::FromStr;

use rbox_rootless::Identity;
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
}

impl Userns {
    /// With what was left open filled in.
    #[must_use]
    pub(crate) fn settle(&self, identity: &Identity) -> Self {
        let (own_uid, own_gid) = identity.own();
        match self {
            Self::Own => Self::Own,
            Self::KeepId { uid, gid } => {
                Self::KeepId { uid: Some(uid.unwrap_or(own_uid)), gid: Some(gid.unwrap_or(own_gid)) }
            }
        }
    }

    /// Who the user himself is inside, where that is not root.
    pub(crate) fn kept(&self) -> Option<(u32, u32)> {
        match self {
            Self::KeepId { uid: Some(uid), gid: Some(gid) } if (*uid, *gid) != (0, 0) => Some((*uid, *gid)),
            Self::Own | Self::KeepId { .. } => None,
        }
    }
}

impl FromStr for Userns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, options) = text.split_once(':').map_or((text, ""), |(kind, options)| (kind, options));
        match kind {
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
            "auto" | "nomap" | "ns" => Err(format!("{kind} is not there yet; keep-id is")),
            _ => Err(format!("{text:?} is none of keep-id[:uid=ID,gid=ID] and private")),
        }
    }
}

impl fmt::Display for Userns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::KeepId { uid, gid } = self else { return Ok(()) };
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
        assert_eq!("".parse(), Ok(Userns::Own));
        assert_eq!(Userns::Own.to_string(), "");
        for wrong in ["host", "auto", "keep-id:uid", "keep-id:uid=x", "keep-id:size=1", "private:x", "other"] {
            wrong.parse::<Userns>().expect_err(wrong);
        }
    }
}
