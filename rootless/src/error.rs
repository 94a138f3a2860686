//! What goes wrong on the way to being root inside, and what mends it.

use std::io;
use std::path::PathBuf;

use rbox_types::InvalidIdMap;

use crate::SubidSource;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that says who has which ids cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user has ranges, but the helper that maps them is not installed.
    #[error("{helper} is not installed, and without it the ranges of /etc/subuid and /etc/subgid cannot be mapped")]
    NoHelper {
        /// `newuidmap` or `newgidmap`.
        helper: &'static str,
    },
    /// Somebody else than files has the ranges, and nobody here can ask.
    #[error("getsubids is not installed, and /etc/nsswitch.conf says that {service} has the ranges of subordinate ids")]
    NoGetsubids {
        /// Who has them.
        service: String,
    },
    /// The helper refused.
    #[error("{helper} failed: {message}")]
    Helper {
        /// `newuidmap`, `newgidmap` or `getsubids`.
        helper: &'static str,
        /// What it printed.
        message: String,
    },
    /// The user asked for ranges and has none.
    #[error("user {user} has no ranges in {}", of_whom(asked))]
    NoRanges {
        /// Name or number of the user.
        user: String,
        /// Who was asked.
        asked: SubidSource,
    },
    /// An id that is none of the container's.
    #[error("no {what} of a container can have the id {id}: they have {count} ids")]
    NotKept {
        /// "user" or "group".
        what: &'static str,
        /// Which.
        id: u32,
        /// How many there are.
        count: u64,
    },
    /// What is asked for makes no map.
    #[error("the ids of the container cannot be mapped so")]
    Map(#[source] InvalidIdMap),
    /// The files give ranges that no map can be made of.
    #[error("the ranges of /etc/subuid and /etc/subgid cannot be used")]
    Ranges(#[from] InvalidIdMap),
    /// The kernel does not let this user make a user namespace.
    #[error("cannot make a user namespace")]
    Userns(#[source] io::Error),
    /// The kernel refused a map.
    #[error("cannot write {path}")]
    WriteMap {
        /// The file under /proc.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The namespace that others' are to be below cannot be made.
    #[error("cannot {operation} the user namespace that containers are made below")]
    Parent {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A worker could not be started or talked to.
    #[error("cannot {operation} a worker inside a user namespace")]
    Worker {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// What another process of ours met, as it words it.
    #[error("{message}")]
    InHelper {
        /// The error and its causes.
        message: String,
        /// What mends it.
        hint: Option<String>,
    },
}

/// The source of ranges, without the words on how it is asked.
fn of_whom(asked: &SubidSource) -> String {
    match asked {
        SubidSource::Files => asked.to_string(),
        SubidSource::Service(name) => format!("{name}, which /etc/nsswitch.conf says has them"),
    }
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoHelper { .. } => Some(
                "install it (Debian, Ubuntu: apt install uidmap; Fedora: dnf install shadow-utils; Alpine: apk add \
                 shadow-uidmap), or use one id only with --identity=single"
                    .into(),
            ),
            Self::NoGetsubids { .. } => Some(
                "install it (Debian, Ubuntu: apt install uidmap; Fedora: dnf install shadow-utils-subid; Alpine: apk add \
                 shadow-subids), have /etc/nsswitch.conf say \"subid: files\", or use one id only with --identity=single"
                    .into(),
            ),
            Self::Helper { helper: "getsubids", .. } => {
                Some("see what getsubids USER prints; --identity=single does without it".into())
            }
            Self::Helper { message, .. } if message.contains("not permitted") => Some(
                "the helper needs its setuid bit or file capability: chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap \
                 as root, or reinstall its package; --identity=single does without it"
                    .into(),
            ),
            Self::Helper { .. } => {
                Some("check that /etc/subuid and /etc/subgid both have a range for this user".into())
            }
            Self::NoRanges { user, asked: SubidSource::Service(service) } => Some(format!(
                "ask whoever looks after {service} for some (FreeIPA: ipa subid-generate --owner={user}), and see what \
                 getsubids {user} prints"
            )),
            Self::NoRanges { user, asked: SubidSource::Files } => Some(format!(
                "give it some as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user} (choose \
                 numbers that nobody else has)"
            )),
            Self::NotKept { count: 1, .. } => Some(
                "it needs ranges in /etc/subuid and /etc/subgid, as root: usermod --add-subuids 100000-165535 --add-subgids \
                 100000-165535 USER"
                    .into(),
            ),
            Self::NotKept { .. } => Some("be another one inside: --userns=keep-id:uid=1000,gid=1000".into()),
            Self::InHelper { hint, .. } => hint.clone(),
            Self::Userns(source) => Some(crate::probe::userns_hint(source)),
            _ => None,
        }
    }
}
