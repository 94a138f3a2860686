//! `--egress`, `--egress-file`: where a container may go.

use std::str::FromStr;

use rbox_net_slirp::egress::{InvalidPolicy, Policy};
use serde::{Deserialize, Serialize};

/// The rules, as they were given; together they make one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EgressRules {
    /// `allow=RULE,…`, `deny=RULE,…`, `none`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// What stood in files when the container was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

impl EgressRules {
    /// What they come to; everything is allowed where there are none.
    pub fn policy(&self) -> Result<Policy, InvalidPolicy> {
        let mut policy = Policy::default();
        self.options.iter().try_for_each(|option| policy.add(option))?;
        self.files.iter().try_for_each(|text| policy.add_file(text))?;
        Ok(policy)
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
