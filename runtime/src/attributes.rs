//! What a process has besides its ids and capabilities: the fields of a spec that the kernel keeps for each one.

use oci_spec::runtime::{Linux, LinuxPersonality, LinuxPersonalityDomain, Process};
use rbox_sys::personality::{self, Personality};
use serde::{Deserialize, Serialize};

use crate::error::{During, Failure};
use crate::labels::{Labels, Modules};
use crate::memory_policy::MemoryPolicy;
use crate::rlimits::Rlimits;
use crate::scheduling::Scheduling;
use crate::{Error, oom_score};

/// Those of a spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessAttributes {
    pub(crate) rlimits: Rlimits,
    pub(crate) labels: Labels,
    oom_score_adj: Option<i32>,
    scheduling: Scheduling,
    memory_policy: Option<MemoryPolicy>,
    /// Whether there is one, and whether it is the 32-bit one.
    is_32_bit: Option<bool>,
}

impl ProcessAttributes {
    /// Checks and reduces what a spec says.
    pub(crate) fn of(process: &Process, linux: &Linux) -> Result<Self, Error> {
        Ok(Self {
            rlimits: Rlimits::of(process.rlimits().as_deref().unwrap_or_default())?,
            labels: Labels::of(process, linux, Modules::of_host)?,
            oom_score_adj: oom_score::check(process.oom_score_adj())?,
            scheduling: Scheduling::of(process)?,
            memory_policy: linux.memory_policy().as_ref().map(MemoryPolicy::of).transpose()?,
            is_32_bit: linux.personality().as_ref().map(is_32_bit).transpose()?,
        })
    }

    /// Gives the process `pid` what only a privileged launcher can; it is in its user namespace already. What fails
    /// here is tried again inside, where it is a failure. `pid` is its number in /proc, `own_number` the kernel's.
    pub(crate) fn grant(&self, pid: u32, own_number: u32) {
        let _ = self.rlimits.make_room(Some(own_number));
        if let Some(wanted) = self.oom_score_adj {
            let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), wanted.to_string());
        }
    }

    /// Applies them to this process, while it still has its capabilities; all but the limits, for which it only makes
    /// room. `enters`: it comes into a container that is there.
    pub(crate) fn apply(&self, enters: bool) -> Result<(), Failure> {
        self.rlimits.make_room(None)?;
        if let Some(wanted) = self.oom_score_adj {
            oom_score::set(wanted)?;
        }
        self.scheduling.apply(enters)?;
        if let Some(policy) = &self.memory_policy {
            policy.apply()?;
        }
        if let Some(is_32_bit) = self.is_32_bit {
            let personality = if is_32_bit { Personality::Linux32 } else { Personality::Linux };
            personality::set(personality).during(|| "set the personality")?;
        }
        self.labels.apply()
    }
}

fn is_32_bit(asked: &LinuxPersonality) -> Result<bool, Error> {
    // The runtime spec reserves them, and names none.
    if let Some(flag) = asked.flags().iter().flatten().next() {
        return Err(Error::Refused { field: "linux.personality", why: format!("there is no flag {flag:?}") });
    }
    Ok(asked.domain() == LinuxPersonalityDomain::PerLinux32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_personality_are_refused() {
        let mut asked = LinuxPersonality::default();
        asked.set_domain(LinuxPersonalityDomain::PerLinux32);
        assert!(is_32_bit(&asked).expect("valid"));
        asked.set_flags(Some(vec!["ADDR_NO_RANDOMIZE".into()]));
        let error = is_32_bit(&asked).expect_err("refused").to_string();
        assert!(error.contains("linux.personality") && error.contains("ADDR_NO_RANDOMIZE"), "{error}");
    }
}
