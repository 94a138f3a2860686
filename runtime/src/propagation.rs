//! Whether mounts that come later appear elsewhere too: mount_namespaces(7), "SHARED SUBTREES".
//!
//! What the container has is private unless the spec says otherwise.

use std::io;
use std::os::fd::BorrowedFd;

use rbox_sys::mount;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What a word like `rslave` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Propagation {
    kind: Kind,
    recursive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    /// The mount and all below it neither give nor take.
    pub(crate) const PRIVATE: Self = Self { kind: Kind::Private, recursive: true };

    /// `shared`, `slave`, `private` or `unbindable`, or one of these with an `r` before it.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let of = |word| {
            Some(match word {
                "private" => Kind::Private,
                "slave" => Kind::Slave,
                "shared" => Kind::Shared,
                "unbindable" => Kind::Unbindable,
                _ => return None,
            })
        };
        match (of(word), word.strip_prefix('r').and_then(of)) {
            (Some(kind), _) => Some(Self { kind, recursive: false }),
            (None, Some(kind)) => Some(Self { kind, recursive: true }),
            (None, None) => None,
        }
    }

    /// `linux.rootfsPropagation`; an empty word says nothing.
    pub(crate) fn of_root(word: Option<&str>) -> Result<Option<Self>, Error> {
        match word.filter(|word| !word.is_empty()) {
            None => Ok(None),
            Some(word) => Self::parse(word).map(Some).ok_or_else(|| Error::Refused {
                field: "linux.rootfsPropagation",
                why: format!("{word:?} is none of shared, slave, private and unbindable, with or without an r"),
            }),
        }
    }

    /// Whether it takes what comes from where the mount was copied from.
    pub(crate) fn takes(self) -> bool {
        matches!(self.kind, Kind::Slave | Kind::Shared)
    }

    /// Whether it changes mounts that are private or slaves.
    pub(crate) fn is_late(self) -> bool {
        matches!(self.kind, Kind::Shared | Kind::Unbindable)
    }

    /// Sets it.
    pub(crate) fn apply(self, mounted: BorrowedFd<'_>) -> io::Result<()> {
        let kind = match self.kind {
            Kind::Private => mount::Propagation::Private,
            Kind::Slave => mount::Propagation::Slave,
            Kind::Shared => mount::Propagation::Shared,
            Kind::Unbindable => mount::Propagation::Unbindable,
        };
        mount::set_propagation(mounted, kind, self.recursive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let rslave = Propagation::parse("rslave").expect("a word");
        assert_eq!(rslave, Propagation { kind: Kind::Slave, recursive: true });
        assert!(rslave.takes() && !Propagation::PRIVATE.takes());
        assert_eq!(Propagation::parse("shared"), Some(Propagation { kind: Kind::Shared, recursive: false }));
        assert_eq!(Propagation::parse("rro"), None);
        assert_eq!(Propagation::of_root(Some("")).expect("none"), None);
        let error = Propagation::of_root(Some("public")).expect_err("no such word").to_string();
        assert!(error.contains("linux.rootfsPropagation") && error.contains("public"), "{error}");
    }
}
