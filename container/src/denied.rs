//! `run --explain-denied`: which system calls a container's filter refuses, how often, and what would let them through.
//!
//! A thread answers the calls as the filter would, and counts them; the verdicts on them come when the workload has ended.
//! What the kernel itself refuses, be it for want of a capability, does not come by here: a filter is asked before the
//! call is made, and nobody is told how it went.

use std::collections::HashMap;
use std::thread::{self, JoinHandle};

use oci_spec::runtime::{Capabilities, Capability};
use rbox_runtime::ALL_CAPABILITIES;
use rbox_runtime::seccomp::{self, Call, KernelVersion, Program, Refusal, Refusals};

use crate::security::Security;

/// A system call that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Its name.
    pub call: String,
    /// How often.
    pub times: u64,
    /// What it got.
    pub refusal: Refusal,
    /// Capabilities each of which has the profile let it through, as it was made the first time.
    pub opened_by: Vec<Capability>,
}

/// All that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Denials {
    /// By name.
    pub calls: Vec<Denied>,
    /// How many more there were, when there were too many different ones.
    pub others: u64,
}

/// More different calls than this are a workload that tries them all out, and not one that needs them.
const MOST: usize = 512;

/// What is counted as one: the architecture, the number and the answer.
type Kind = (u32, u32, Refusal);

#[derive(Debug, Default)]
struct Counts {
    /// The first call of each, and how many there were.
    kinds: HashMap<Kind, (Call, u64)>,
    others: u64,
}

impl Counts {
    fn count(&mut self, call: Call, refusal: Refusal) {
        let (kind, is_full) = ((call.arch, call.number, refusal), self.kinds.len() >= MOST);
        match self.kinds.get_mut(&kind) {
            Some((_, times)) => *times += 1,
            None if is_full => self.others += 1,
            None => drop(self.kinds.insert(kind, (call, 1))),
        }
    }
}

/// Hears of refused calls, from the workload's start on.
#[derive(Debug, Default)]
pub(crate) struct Watch(Option<JoinHandle<Counts>>);

impl Watch {
    /// Begins to answer the calls.
    pub(crate) fn begin(&mut self, refusals: Refusals) {
        self.0 = Some(thread::spawn(move || {
            let mut counts = Counts::default();
            // Where the listener fails, the kernel refuses the calls with ENOSYS from now on.
            while let Ok(Some((call, refusal))) = refusals.next() {
                counts.count(call, refusal);
            }
            counts
        }));
    }

    /// Waits until nobody is left under the filter, and tells what it has refused.
    pub(crate) fn finish(self, security: &Security, kernel: KernelVersion) -> Denials {
        let counts = self.0.and_then(|thread| thread.join().ok()).unwrap_or_default();
        // A filter for each capability: not where there is nothing to explain.
        let openers = if counts.kinds.is_empty() { Vec::new() } else { openers(security, kernel) };
        let mut calls: Vec<Denied> = counts
            .kinds
            .into_iter()
            .map(|((_, _, refusal), (call, times))| Denied {
                call: seccomp::name_of(&call),
                times,
                refusal,
                opened_by: openers.iter().filter(|(_, program)| program.allows(&call)).map(|(one, _)| *one).collect(),
            })
            .collect();
        calls.sort_by(|a, b| (&a.call, a.refusal).cmp(&(&b.call, b.refusal)));
        Denials { calls, others: counts.others }
    }
}

/// Each capability that the container lacks, with the filter that it would have with it.
fn openers(security: &Security, kernel: KernelVersion) -> Vec<(Capability, Program)> {
    let granted = security.granted().unwrap_or_default();
    let lacking = ALL_CAPABILITIES.into_iter().filter(|one| !granted.contains(one));
    lacking
        .filter_map(|one| {
            let more: Capabilities = granted.iter().copied().chain([one]).collect();
            let profile = security.seccomp(&more, kernel).ok()??;
            Some((one, seccomp::compile(&profile).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_that_tries_them_all() {
        let mut counts = Counts::default();
        let call = |number| Call { number, ..Call::default() };
        for number in 0..2000 {
            counts.count(call(number), Refusal::Errno(1));
        }
        counts.count(call(7), Refusal::Errno(1));
        assert_eq!((counts.kinds.len(), counts.others), (MOST, 2000 - MOST as u64));
        assert_eq!(counts.kinds[&(0, 7, Refusal::Errno(1))].1, 2);
        counts.count(call(7), Refusal::Killed);
        assert_eq!(counts.others, 2001 - MOST as u64, "another answer is another kind");
    }
}
