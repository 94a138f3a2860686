//! `--egress`, `--egress-file`, `--egress-log`: where a container may go, and where it is written down.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rbox_net_slirp::egress::{InvalidPolicy, Policy};
use serde::{Deserialize, Serialize};

/// The rules, as they were given; together they make one policy. And who is told what comes of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Egress {
    /// `allow=RULE,…`, `deny=RULE,…`, `none`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// What stood in files when the container was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Where each flow is written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<EgressLog>,
}

impl Egress {
    /// What they come to; everything is allowed where there are none.
    pub fn policy(&self) -> Result<Policy, InvalidPolicy> {
        let mut policy = Policy::default();
        self.options.iter().try_for_each(|option| policy.add(option))?;
        self.files.iter().try_for_each(|text| policy.add_file(text))?;
        Ok(policy)
    }
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressLog {
    /// `-`: rbox's own standard error.
    Stderr,
    /// At the end of this file.
    File(PathBuf),
}

impl fmt::Display for EgressLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("-"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for EgressLog {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::Stderr } else { Self::File(text.into()) })
    }
}

/// One `--egress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressOption(pub String);

impl FromStr for EgressOption {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        Policy::default().add(text)?;
        Ok(Self(text.to_owned()))
    }
}
