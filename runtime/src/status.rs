//! Where a container is in its life.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A container's life (runtime spec, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its first process is on its way.
    Creating,
    /// All is there, and the workload waits.
    Created,
    /// The workload runs.
    Running,
    /// All its processes are stopped for a while.
    Paused,
    /// Its first process is gone.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}
