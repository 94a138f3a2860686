//! When the kernel runs what, and where: sched(7).
#![allow(unsafe_code)]

use std::io;

use crate::errno;

/// Has the calling thread let the others go first, without taking its share from it: it interrupts nobody (SCHED_BATCH),
/// and, from Linux 6.12 on, whoever wakes on its core interrupts it (a slice of 100 ms, the longest that the kernel
/// takes; Documentation/scheduler/sched-eevdf.rst).
pub fn give_way() -> io::Result<()> {
    const SLICE: u64 = 100_000_000;
    // To name another nice value could take a privilege.
    let nice = get()?.nice;
    set(Scheduling { policy: libc::SCHED_BATCH as u32, nice, runtime: SLICE, ..Scheduling::default() })
}

/// How a thread is scheduled: `struct sched_attr` of sched_setattr(2), as far as it has to do with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Scheduling {
    size: u32,
    /// A `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20, the first, to 19; of the policies that are not real-time ones.
    pub nice: i32,
    /// 1 to 99, the first; of SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds of each period; of SCHED_DEADLINE, as the next two.
    pub runtime: u64,
    /// Nanoseconds after which they must have been had.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// Schedules the calling thread like that.
pub fn set(scheduling: Scheduling) -> io::Result<()> {
    let attributes = Scheduling { size: size_of::<Scheduling>() as u32, ..scheduling };
    // SAFETY: 0 is the calling thread; `attributes` is a sched_attr of the size that it says it has (SCHED_ATTR_SIZE_VER0).
    errno::check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// How the calling thread is scheduled.
pub fn get() -> io::Result<Scheduling> {
    let mut attributes = Scheduling::default();
    // SAFETY: 0 is the calling thread; the kernel writes no more than the size that it is told.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size_of::<Scheduling>(), 0) } {
        0 => Ok(Scheduling { size: 0, ..attributes }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keeps the calling thread to these processors (sched_setaffinity(2)). Those that are not there, or that its cgroup
/// does not have, are left out; EINVAL: that leaves none.
pub fn set_affinity(processors: &[usize]) -> io::Result<()> {
    let bits = usize::BITS as usize;
    let words = processors.iter().max().map_or(1, |last| last / bits + 1);
    let mut mask = vec![0_usize; words];
    for processor in processors {
        mask[processor / bits] |= 1 << (processor % bits);
    }
    let size = size_of_val(&mask[..]);
    // SAFETY: 0 is the calling thread; the kernel reads no more than `size` bytes.
    errno::check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, mask.as_ptr()) })
}

/// The processors that the calling thread may run on (sched_getaffinity(2)).
pub fn affinity() -> io::Result<Vec<usize>> {
    // SAFETY: a set of none is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is the calling thread; the kernel writes no more than the size that it is told.
    errno::check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
    // SAFETY: only looks at the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&processor| unsafe { libc::CPU_ISSET(processor, &set) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_is_what_get_gets() {
        let wanted = Scheduling { policy: libc::SCHED_BATCH as u32, nice: 3, ..Scheduling::default() };
        set(wanted).expect("sched_setattr");
        let now = get().expect("sched_getattr");
        assert_eq!((now.policy, now.nice), (wanted.policy, wanted.nice));
    }

    #[test]
    fn one_processor() {
        set_affinity(&[0, 4000]).expect("there is a first one");
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
        assert_eq!(affinity().expect("sched_getaffinity"), [0]);
        assert!(set_affinity(&[]).is_err());
    }
}
