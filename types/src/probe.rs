//! What a probe of the host found.

use serde::{Deserialize, Serialize};

/// Whether a facility can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeState {
    /// As it should be.
    Works,
    /// Not as it should be; rbox does without, or with less.
    Degraded,
    /// Containers do not run without it.
    Missing,
}

/// One facility of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was tried: "user namespaces".
    pub facility: String,
    /// Whether it can be used.
    pub state: ProbeState,
    /// What was seen.
    pub detail: String,
    /// What mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// It works.
    pub fn works(facility: &str, detail: impl Into<String>) -> Self {
        Self { facility: facility.into(), state: ProbeState::Works, detail: detail.into(), remedy: None }
    }

    /// It does not, or not well.
    pub fn lacks(facility: &str, state: ProbeState, detail: impl Into<String>, remedy: Option<String>) -> Self {
        Self { facility: facility.into(), state, detail: detail.into(), remedy }
    }
}
