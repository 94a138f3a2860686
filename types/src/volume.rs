//! How a volume is called, and how far its first use has come.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A volume's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, Docker's and Podman's rule, at most 253 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

/// Why a text is not a [`VolumeName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a volume name: use letters, digits, '_', '.' and '-', and begin with a letter or digit")]
pub struct InvalidVolumeName(String);

impl VolumeName {
    /// The name of a volume that nobody has named: 64 hex digits that spell these random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(crate::Digest::from_sha256(bytes).hex())
    }

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = InvalidVolumeName;

    fn from_str(text: &str) -> Result<Self, InvalidVolumeName> {
        let valid = text.len() <= 253
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidVolumeName(text.to_owned())) }
    }
}

impl TryFrom<String> for VolumeName {
    type Error = InvalidVolumeName;

    fn try_from(text: String) -> Result<Self, InvalidVolumeName> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a volume's first use has come: one byte in a file beside its content, so that a write changes it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstUse {
    /// No container has had it.
    Ahead,
    /// It is being filled with what an image has; if nobody is at it, somebody was killed.
    Begun,
    /// What is in it is its own.
    Over,
}

impl FirstUse {
    /// The byte.
    pub fn byte(self) -> u8 {
        match self {
            Self::Ahead => b'n',
            Self::Begun => b'f',
            Self::Over => b'u',
        }
    }

    /// What the file's first byte says. One that a power cut has emptied must not cost a volume its content.
    pub fn of(byte: Option<u8>) -> Self {
        match byte {
            Some(b'n') => Self::Ahead,
            Some(b'f') => Self::Begun,
            _ => Self::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "data-1.x_Y", &"a".repeat(253)] {
            assert_eq!(good.parse::<VolumeName>().expect(good).as_str(), good);
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a:b", &"a".repeat(254)] {
            assert!(bad.parse::<VolumeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_over() {
        for state in [FirstUse::Ahead, FirstUse::Begun, FirstUse::Over] {
            assert_eq!(FirstUse::of(Some(state.byte())), state);
        }
        assert_eq!(FirstUse::of(None), FirstUse::Over);
        assert_eq!(FirstUse::of(Some(0)), FirstUse::Over);
    }
}
