//! How a container is called.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// 64 hex digits; people use any unambiguous prefix, and tables show the first 12.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// Why a text is not a [`ContainerId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a container id: expected 64 lower-case hex digits")]
pub struct InvalidContainerId(String);

impl ContainerId {
    /// The id that spells these random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(crate::Digest::from_sha256(bytes).hex())
    }

    /// The bytes that it spells.
    pub fn bytes(&self) -> [u8; 32] {
        // It is 64 hex digits since it was made.
        crate::Digest::from_hex(&self.0).map_or([0; 32], |digits| digits.sha256())
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for ContainerId {
    type Err = InvalidContainerId;

    fn from_str(text: &str) -> Result<Self, InvalidContainerId> {
        match crate::Digest::from_hex(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(InvalidContainerId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidContainerId;

    fn try_from(text: String) -> Result<Self, InvalidContainerId> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, Docker's and Podman's rule, at most 253 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// Why a text is not a [`ContainerName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a container name: use letters, digits, '_', '.' and '-', and begin with a letter or digit")]
pub struct InvalidContainerName(String);

impl ContainerName {
    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = InvalidContainerName;

    fn from_str(text: &str) -> Result<Self, InvalidContainerName> {
        let valid = text.len() <= 253
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidContainerName(text.to_owned())) }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = InvalidContainerName;

    fn try_from(text: String) -> Result<Self, InvalidContainerName> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "web-1", "0.x_y"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", "a\0"] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_is_a_safe_file_name() {
        let id = ContainerId::from_random([0xab; 32]);
        assert_eq!(id.short(), "abababababab");
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert!("../..".parse::<ContainerId>().is_err());
    }
}
