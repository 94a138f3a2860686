//! Docker's default profile, resolved for a container: which system calls it allows (moby/profiles, June 2026).
//!
//! It refuses what is not listed with EPERM. What a capability would let a process do is listed for containers that have
//! it. clone3(2) hides its flags behind a pointer, where no filter looks; so it gets ENOSYS, and C libraries then use
//! clone(2), whose flags are looked at.

use std::collections::HashSet;

use oci_spec::runtime::{
    Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::arch::Arch;
use super::profile::KernelVersion;

/// For which containers.
enum For {
    All,
    Kernel(KernelVersion),
    Native(&'static [Arch]),
    Granted(Capability),
}

const PTRACE_OBEYS_SECCOMP: KernelVersion = KernelVersion { major: 4, minor: 8 };

/// Allowed whatever the arguments.
const ALLOWED: &[(For, &str)] = &[
    (For::All, ALWAYS),
    (For::Kernel(PTRACE_OBEYS_SECCOMP), "process_vm_readv process_vm_writev ptrace"),
    (
        For::Native(&[Arch::Arm, Arch::Aarch64]),
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (For::Native(&[Arch::X86_64, Arch::X32]), "arch_prctl"),
    (For::Native(&[Arch::X86_64, Arch::X32, Arch::X86]), "modify_ldt"),
    (For::Native(&[Arch::Riscv64]), "riscv_flush_icache"),
    (For::Granted(Capability::DacReadSearch), "open_by_handle_at"),
    (
        For::Granted(Capability::SysAdmin),
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (For::Granted(Capability::SysBoot), "reboot"),
    (For::Granted(Capability::SysChroot), "chroot"),
    (For::Granted(Capability::SysModule), "delete_module init_module finit_module"),
    (For::Granted(Capability::SysPacct), "acct"),
    (For::Granted(Capability::SysPtrace), "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (For::Granted(Capability::SysRawio), "iopl ioperm"),
    (For::Granted(Capability::SysTime), "settimeofday stime clock_settime clock_settime64"),
    (For::Granted(Capability::SysTtyConfig), "vhangup"),
    (For::Granted(Capability::SysNice), "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (For::Granted(Capability::Syslog), "syslog"),
    (For::Granted(Capability::Bpf), "bpf"),
    (For::Granted(Capability::Perfmon), "perf_event_open"),
];

const ALWAYS: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create \
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve \
    execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod \
    fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr \
    fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 \
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 \
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp \
    getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid \
    getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init \
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup \
    io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self \
    lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek \
    lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod \
    mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive \
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync \
    munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open \
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv \
    preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink \
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename \
    renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask \
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile \
    sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid \
    setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid \
    setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr \
    setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall \
    socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs \
    sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill \
    truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes \
    vfork vmsplice wait4 waitid waitpid write writev";

/// Address families that socket(2) is refused: they reach the kernel's cryptography and the host behind a virtual
/// machine, and neither is confined by namespaces.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// PER_LINUX, PER_LINUX32, and both with UNAME26; the last one asks for the present personality.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID and -NET.
const NAMESPACES: u64 = 0x7e02_0000;

/// Docker's default profile for a container whose bounding set has these capabilities, on this kernel.
pub fn default_profile(capabilities: &HashSet<Capability>, kernel: KernelVersion) -> LinuxSeccomp {
    let applies = |to: &For| match to {
        For::All => true,
        For::Kernel(least) => kernel >= *least,
        For::Native(arches) => arches.contains(&Arch::NATIVE),
        For::Granted(capability) => capabilities.contains(capability),
    };
    let groups = ALLOWED.iter().filter(|(to, _)| applies(to));
    let mut syscalls: Vec<LinuxSyscall> = groups.map(|(_, names)| entry(names, Action::ScmpActAllow, None)).collect();
    let mut allow_if = |name, operator, value| {
        let mut arg = LinuxSeccompArgBuilder::default().index(0_usize).value(value).op(operator);
        if operator == Operator::ScmpCmpMaskedEq {
            // What the bits of the mask are to be.
            arg = arg.value_two(0_u64);
        }
        // No field is missing; and were the condition lost, nothing must be allowed.
        if let Ok(arg) = arg.build() {
            syscalls.push(entry(name, Action::ScmpActAllow, Some(vec![arg])));
        }
    };
    allow_if("socket", Operator::ScmpCmpLt, AF_ALG);
    allow_if("socket", Operator::ScmpCmpEq, AF_ALG + 1);
    allow_if("socket", Operator::ScmpCmpGt, AF_VSOCK);
    for personality in PERSONALITIES {
        allow_if("personality", Operator::ScmpCmpEq, personality);
    }
    if !capabilities.contains(&Capability::SysAdmin) {
        allow_if("clone", Operator::ScmpCmpMaskedEq, NAMESPACES);
        const ENOSYS: u32 = 38;
        let mut clone3 = entry("clone3", Action::ScmpActErrno, None);
        clone3.set_errno_ret(Some(ENOSYS));
        syscalls.push(clone3);
    }
    let others: &[Arch] = match Arch::NATIVE {
        Arch::X86_64 => &[Arch::X86, Arch::X32],
        Arch::Aarch64 => &[Arch::Arm],
        _ => &[],
    };
    const EPERM: u32 = 1;
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(Action::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some([&[Arch::NATIVE], others].concat().into_iter().map(Arch::spec_name).collect()))
        .set_syscalls(Some(syscalls));
    profile
}

fn entry(names: &str, action: Action, args: Option<Vec<LinuxSeccompArg>>) -> LinuxSyscall {
    let mut entry = LinuxSyscall::default();
    entry.set_names(names.split_whitespace().map(Into::into).collect()).set_action(action).set_args(args);
    entry
}
