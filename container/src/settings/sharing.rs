//! `--ipc`, `--pid`, `--uts`, `--network`, `--userns`: whose namespaces a container has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{NetworkMode, Userns, is_default};

/// Those that can be another's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sharing {
    /// System V IPC, POSIX message queues and /dev/shm.
    #[serde(skip_serializing_if = "is_default")]
    pub ipc: Ipc,
    /// Process ids.
    #[serde(skip_serializing_if = "is_default")]
    pub pid: Whose,
    /// The host name.
    #[serde(skip_serializing_if = "is_default")]
    pub uts: Whose,
    /// Devices, addresses, ports.
    #[serde(skip_serializing_if = "is_default")]
    pub network: NetworkMode,
    /// Ids.
    #[serde(skip_serializing_if = "is_default")]
    pub userns: Userns,
}

impl Sharing {
    /// Of a record: where an older rbox says nothing of a network, there was none.
    pub(crate) fn settled(&self) -> Self {
        let network = if self.network == NetworkMode::Unsaid { NetworkMode::None } else { self.network.clone() };
        Self { network, ..self.clone() }
    }

    /// Whether any can only be had by who is in no namespace of his own: another container's belong to its user namespace,
    /// and nobody forks into a pid namespace that is not below his own (pid_namespaces(7)).
    pub(crate) fn reaches_out(&self) -> bool {
        let Self { ipc, pid, uts, network, userns: _ } = self;
        *pid != Whose::Private
            || matches!(ipc, Ipc::Container(_))
            || matches!(uts, Whose::Container(_))
            || matches!(network, NetworkMode::Container(_))
    }
}

/// Whose a namespace is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Whose {
    /// The container's own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of the container of this name or id.
    Container(String),
}

/// `--ipc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ipc {
    /// The container's own, and of those who join it.
    #[default]
    Shareable,
    /// The container's alone.
    Private,
    /// As [`Private`](Self::Private), and without /dev/shm.
    None,
    /// The host's.
    Host,
    /// That of the container of this name or id.
    Container(String),
}

/// What `container:` is followed by; none where the word is another.
fn container(word: &str) -> Result<Option<String>, String> {
    match word.split_once(':') {
        Some(("container", "")) => Err("expected a container's name or id after container:".into()),
        Some(("container", name)) => Ok(Some(name.into())),
        Some(("ns", _)) => {
            Err("this version joins namespaces of containers (container:NAME), and none by a path".into())
        }
        _ => Ok(None),
    }
}

impl FromStr for Whose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, container(text)?) {
            (_, Some(name)) => Ok(Self::Container(name)),
            ("" | "private", _) => Ok(Self::Private),
            ("host", _) => Ok(Self::Host),
            _ => Err("expected private, host or container:NAME".into()),
        }
    }
}

impl FromStr for Ipc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, container(text)?) {
            (_, Some(name)) => Ok(Self::Container(name)),
            ("" | "shareable", _) => Ok(Self::Shareable),
            ("private", _) => Ok(Self::Private),
            ("none", _) => Ok(Self::None),
            ("host", _) => Ok(Self::Host),
            _ => Err("expected shareable, private, none, host or container:NAME".into()),
        }
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::Host => f.write_str("host"),
            Self::Container(name) => write!(f, "container:{name}"),
        }
    }
}

impl fmt::Display for Ipc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shareable => f.write_str("shareable"),
            Self::Private => f.write_str("private"),
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Container(name) => write!(f, "container:{name}"),
        }
    }
}

as_words!(Whose, Ipc);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for word in ["private", "host", "container:a"] {
            assert_eq!(word.parse::<Whose>().expect(word).to_string(), word);
        }
        for word in ["shareable", "private", "none", "host", "container:a"] {
            assert_eq!(word.parse::<Ipc>().expect(word).to_string(), word);
        }
        for wrong in ["none", "container:", "container", "ns:/proc/1/ns/pid", "pod"] {
            wrong.parse::<Whose>().expect_err(wrong);
        }
    }
}
