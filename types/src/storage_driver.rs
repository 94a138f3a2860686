//! What makes one tree of an image's layers and what a container writes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageDriver {
    /// The kernel's overlay.
    Overlay,
    /// rbox's own overlay, which a process of its own serves by FUSE.
    Fuse,
    /// Each container has a copy of its image.
    Copy,
}

impl StorageDriver {
    /// All that there are, best first.
    pub const ALL: [Self; 3] = [Self::Overlay, Self::Fuse, Self::Copy];

    /// As it is typed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Fuse => "fuse",
            Self::Copy => "copy",
        }
    }
}

impl fmt::Display for StorageDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for StorageDriver {
    type Err = String;

    /// Docker's and Podman's names for the same are taken too.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "overlay" | "overlay2" => Ok(Self::Overlay),
            "fuse" | "fuse-overlayfs" => Ok(Self::Fuse),
            "copy" | "vfs" => Ok(Self::Copy),
            other => Err(format!("{other:?} is none of overlay, fuse and copy")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for driver in StorageDriver::ALL {
            assert_eq!(driver.word().parse(), Ok(driver));
        }
        assert_eq!("vfs".parse(), Ok(StorageDriver::Copy));
        assert!("zfs".parse::<StorageDriver>().is_err());
    }
}
