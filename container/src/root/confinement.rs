//! What the process that serves a root filesystem keeps for itself: to work on files, as root of the container's ids.
//!
//! A hostile workload chooses the names, and what is asked for in which order. Whoever takes the server over by that finds no
//! socket, no program to execute, no process to look at or to signal, no way into other namespaces.

use std::io;

use rbox_sys::caps::{self, Capabilities, Sets};
use rbox_sys::process;

use crate::confinement::{allow_only, entry, errno, masked};

/// Calls that are allowed with any arguments.
const ALLOWED: &str = "\
    brk clock_getres clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close copy_file_range dup \
    exit exit_group faccessat faccessat2 fallocate fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 \
    fdatasync fgetxattr flistxattr fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate \
    ftruncate64 futex futex_time64 getdents64 getpid getrandom gettid getxattr getxattrat ioctl lgetxattr linkat \
    listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr madvise membarrier mkdirat mknodat mremap \
    munmap name_to_handle_at nanosleep newfstatat openat openat2 pipe2 poll ppoll ppoll_time64 pread64 preadv \
    preadv2 pwrite64 pwritev pwritev2 read readlinkat readv removexattr removexattrat renameat renameat2 \
    restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield set_robust_list \
    setxattr setxattrat sigaltstack splice statfs statfs64 statx symlinkat syncfs tgkill umask unlinkat utimensat \
    utimensat_time64 write writev";

const CLONE_THREAD: u64 = 0x0001_0000;
const ENOSYS: u32 = 38;

/// Confines this process, for good.
pub(super) fn confine() -> io::Result<()> {
    let files = Capabilities::FILES;
    caps::set(&Sets {
        bounding: files,
        effective: files,
        permitted: files,
        inheritable: Capabilities(0),
        ambient: Capabilities(0),
    })?;
    process::set_undumpable()?;
    caps::set_no_new_privileges()?;
    let threads = entry("clone", masked(0, CLONE_THREAD, CLONE_THREAD));
    // What its flags are is out of a filter's sight; without it the C library takes the other one.
    allow_only(vec![entry(ALLOWED, Vec::new()), threads, errno("clone3", ENOSYS)])
}
