//! `process.scheduler`, `process.ioPriority` and `process.execCPUAffinity`.

use std::io::ErrorKind;

use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy,
    Process, Scheduler,
};
use rbox_sys::ioprio::{self, Class, Priority};
use rbox_sys::sched;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::{During, Failure};
use crate::number_list;

/// When, where and before whom a process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scheduling {
    scheduler: Option<SchedulerPlan>,
    /// As the kernel writes it.
    io_priority: Option<u16>,
    /// The processors for one more process in a container; the first one has all that its cgroup has (runtime spec,
    /// "execCPUAffinity").
    affinity: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SchedulerPlan {
    name: String,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Has the caller, and so the process that it makes, begin on the processors that `process` has until it is in the
/// container's cgroup.
pub(crate) fn begin(process: &Process) -> Result<(), Error> {
    keep_to(&processors(process, ExecCPUAffinity::initial)?).map_err(Error::Inside)
}

impl Scheduling {
    /// Checks and reduces what a spec says.
    pub(crate) fn of(process: &Process) -> Result<Self, Error> {
        Ok(Self {
            scheduler: process.scheduler().as_ref().map(SchedulerPlan::of).transpose()?,
            io_priority: process.io_priority().as_ref().map(io_priority).transpose()?.map(Priority::number),
            affinity: processors(process, ExecCPUAffinity::cpu_affinity_final)?,
        })
    }

    /// Applies it to the calling thread. `enters`: it comes into a container that is there.
    pub(crate) fn apply(&self, enters: bool) -> Result<(), Failure> {
        if enters {
            keep_to(&self.affinity)?;
        }
        if let Some(priority) = self.io_priority {
            ioprio::set(Priority::from_number(priority))
                .during(|| "set the I/O priority")
                .map_err(|failure| with_hint(failure, "CAP_SYS_NICE"))?;
        }
        match &self.scheduler {
            Some(scheduler) => scheduler.apply(),
            None => Ok(()),
        }
    }
}

fn with_hint(failure: Failure, capability: &str) -> Failure {
    match ErrorKind::from(&failure) {
        ErrorKind::PermissionDenied => {
            failure.hint(format!("that takes {capability} on the host, which a container in a user namespace has not"))
        }
        _ => failure,
    }
}

impl SchedulerPlan {
    fn of(asked: &Scheduler) -> Result<Self, Error> {
        let refuse = |why: String| Err(Error::Refused { field: "process.scheduler", why });
        // Include/uapi/linux/sched.h. SCHED_ISO is reserved there, and not implemented.
        let policy = match asked.policy() {
            Policy::SchedOther => 0,
            Policy::SchedFifo => 1,
            Policy::SchedRr => 2,
            Policy::SchedBatch => 3,
            Policy::SchedIdle => 5,
            Policy::SchedDeadline => 6,
            Policy::SchedIso => return refuse("no kernel has SCHED_ISO".into()),
        };
        let flags = asked.flags().iter().flatten().fold(0, |flags, flag| {
            flags
                | match flag {
                    Flag::SchedResetOnFork => 0x01,
                    Flag::SchedFlagReclaim => 0x02,
                    Flag::SchedFlagDLOverrun => 0x04,
                    Flag::SchedFlagKeepPolicy => 0x08,
                    Flag::SchedFlagKeepParams => 0x10,
                    Flag::SchedFlagUtilClampMin => 0x20,
                    Flag::SchedFlagUtilClampMax => 0x40,
                }
        });
        let times = [asked.runtime(), asked.deadline(), asked.period()].map(|time| time.unwrap_or(0));
        if asked.policy() != &Policy::SchedDeadline && times != [0; 3] {
            return refuse(format!("{} takes no runtime, deadline or period", asked.policy()));
        }
        let nice = asked.nice().unwrap_or(0);
        if !(-20..=19).contains(&nice) {
            return refuse(format!("nice {nice} is not from -20 to 19"));
        }
        let Ok(priority) = u32::try_from(asked.priority().unwrap_or(0)) else {
            return refuse("the priority is below 0".into());
        };
        let [runtime, deadline, period] = times;
        let name = asked.policy().to_string();
        Ok(Self { name, policy, flags, nice, priority, runtime, deadline, period })
    }

    fn apply(&self) -> Result<(), Failure> {
        let Self { policy, flags, nice, priority, runtime, deadline, period, .. } = *self;
        let what = || format!("set the scheduling policy {}", self.name);
        let mut wanted = sched::Scheduling::default();
        (wanted.policy, wanted.flags, wanted.nice, wanted.priority) = (policy, flags, nice, priority);
        (wanted.runtime, wanted.deadline, wanted.period) = (runtime, deadline, period);
        sched::set(wanted).during(what).map_err(|failure| with_hint(failure, "CAP_SYS_NICE"))
    }
}

fn io_priority(asked: &LinuxIOPriority) -> Result<Priority, Error> {
    let class = match asked.class() {
        IOPriorityClass::IoprioClassRt => Class::RealTime,
        IOPriorityClass::IoprioClassBe => Class::BestEffort,
        IOPriorityClass::IoprioClassIdle => Class::Idle,
    };
    match u8::try_from(asked.priority()) {
        Ok(level) if level < 8 => Ok(Priority::new(class, level)),
        _ => Err(Error::Refused {
            field: "process.ioPriority",
            why: format!("the priority {} is not from 0 to 7", asked.priority()),
        }),
    }
}

/// Those of a list of the process's `execCPUAffinity`; none: whichever the kernel chooses.
fn processors(process: &Process, list: fn(&ExecCPUAffinity) -> &Option<String>) -> Result<Vec<usize>, Error> {
    /// More than any kernel has (CONFIG_NR_CPUS).
    const MAX: usize = 8192;
    let list = process.exec_cpu_affinity().as_ref().and_then(|affinity| list(affinity).as_deref()).unwrap_or_default();
    let refused = || Error::Refused { field: "process.execCPUAffinity", why: format!("{list:?} is no list of CPUs") };
    number_list::parse(list, MAX).ok_or_else(refused)
}

fn keep_to(processors: &[usize]) -> Result<(), Failure> {
    match processors {
        [] => Ok(()),
        some => sched::set_affinity(some).during(|| format!("keep to the processors {some:?}")),
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxIOPriorityBuilder;

    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut scheduler = Scheduler::default();
        scheduler.set_policy(Policy::SchedBatch).set_nice(Some(5));
        let plan = SchedulerPlan::of(&scheduler).expect("valid");
        assert_eq!((plan.policy, plan.nice), (3, 5));
        scheduler.set_runtime(Some(1));
        SchedulerPlan::of(&scheduler).expect_err("a runtime is for SCHED_DEADLINE");
        scheduler.set_runtime(None).set_nice(Some(-21));
        SchedulerPlan::of(&scheduler).expect_err("nice is out of range");
        let priority = |level| {
            let builder = LinuxIOPriorityBuilder::default().class(IOPriorityClass::IoprioClassBe).priority(level);
            io_priority(&builder.build().expect("all is there"))
        };
        assert_eq!(priority(4).expect("valid").number(), 2 << 13 | 4);
        priority(8).expect_err("there are eight");
    }

    #[test]
    fn a_list_is_for_those_who_enter() {
        let plan = Scheduling { affinity: vec![8000], ..Scheduling::default() };
        plan.apply(false).expect("the first process has all");
        plan.apply(true).expect_err("there is no such processor");
    }
}
