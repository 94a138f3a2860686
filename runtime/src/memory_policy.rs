//! `linux.memoryPolicy`: which memory nodes the container's pages come from.

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};
use rbox_sys::mempolicy;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::{During, Failure};
use crate::number_list;

/// As the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryPolicy {
    name: String,
    /// With its flags.
    mode: i32,
    nodes: Vec<usize>,
}

impl MemoryPolicy {
    /// Checks and reduces what a spec says.
    pub(crate) fn of(asked: &LinuxMemoryPolicy) -> Result<Self, Error> {
        // Include/uapi/linux/mempolicy.h.
        let mode = match asked.mode() {
            Mode::MpolDefault => 0,
            Mode::MpolPreferred => 1,
            Mode::MpolBind => 2,
            Mode::MpolInterleave => 3,
            Mode::MpolLocal => 4,
            Mode::MpolPreferredMany => 5,
            Mode::MpolWeightedInterleave => 6,
        };
        let flags = asked.flags().iter().flatten().fold(0, |flags, flag| {
            flags
                | match flag {
                    Flag::MpolFStaticNodes => 1 << 15,
                    Flag::MpolFRelativeNodes => 1 << 14,
                    Flag::MpolFNumaBalancing => 1 << 13,
                }
        });
        let list = asked.nodes().as_deref().unwrap_or_default();
        let nodes = number_list::parse(list, mempolicy::MAX_NODES).ok_or_else(|| Error::Refused {
            field: "linux.memoryPolicy",
            why: format!("{list:?} is no list of memory nodes"),
        })?;
        Ok(Self { name: asked.mode().to_string(), mode: mode | flags, nodes })
    }

    /// Applies it to the calling thread, and to what it becomes.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        mempolicy::set(self.mode, &self.nodes)
            .during(|| format!("set the memory policy {} for the nodes {:?}", self.name, self.nodes))
    }
}
