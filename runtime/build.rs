//! Writes the table of system call numbers: each name once, with its number on every architecture, to be found by a hash.
//!
//! The numbers are those of the crate `syscalls`, which takes them from the kernel's tables. It is a build dependency
//! alone: its enums would be several times the size of the table, and look names up one by one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs, io};

/// In the order of `seccomp::arch::Arch`.
const ARCHES: usize = 7;
const X86_64: usize = 0;
const X86: usize = 1;
const X32: usize = 2;
const AARCH64: usize = 3;
const ARM: usize = 4;
const RISCV64: usize = 5;
const LOONGARCH64: usize = 6;

include!("src/seccomp/hash.rs");

type Table = BTreeMap<String, [Option<i32>; ARCHES]>;

macro_rules! add {
    ($table:expr, $index:expr, $module:ident) => {
        // Not `Sysno::iter`, which leaves out the last one.
        for call in (0..=syscalls::$module::Sysno::last().id() as usize).filter_map(syscalls::$module::Sysno::new) {
            $table.entry(call.name().to_owned()).or_default()[$index] = Some(call.id());
        }
    };
}

fn main() -> io::Result<()> {
    let mut table = Table::new();
    add!(table, X86_64, x86_64);
    add!(table, X86, x86);
    add!(table, AARCH64, aarch64);
    add!(table, ARM, arm);
    add!(table, RISCV64, riscv64);
    add!(table, LOONGARCH64, loongarch64);
    mend(&mut table);
    derive_x32(&mut table);
    let mut text = format!("static CALLS: [Call; {}] = [\n", table.len());
    // Twice as many slots as names, so that a search is short.
    let mut slots = vec![table.len(); (2 * table.len()).next_power_of_two()];
    for (index, (name, numbers)) in table.iter().enumerate() {
        let numbers = numbers.map(|number| number.unwrap_or(-1));
        let multiplexed = multiplexed(name);
        let _ = writeln!(text, "    Call {{ name: {name:?}, numbers: {numbers:?}, multiplexed: {multiplexed:?} }},");
        let mut slot = hash(name) % slots.len();
        while slots[slot] != table.len() {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = index;
    }
    let _ = writeln!(text, "];\nstatic SLOTS: [u16; {}] = {slots:?};", slots.len());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/seccomp/hash.rs");
    let dir = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo gives no OUT_DIR"))?;
    let dir = PathBuf::from(dir);
    fs::write(dir.join("calls.rs"), text)?;
    fs::write(dir.join("errors.rs"), errors())
}

/// The names of errors, by which Podman's profiles give them. Numbers of <asm-generic/errno.h>, which all architectures
/// of the table have.
fn errors() -> String {
    let known: Vec<_> = (1..=133).filter_map(|number| Some((syscalls::Errno::new(number).name()?, number))).collect();
    format!("static ERRORS: [(&str, u32); {}] = {known:?};\n", known.len())
}

/// Where the crate's tables are not the kernel's.
fn mend(table: &mut Table) {
    // Calls of 32-bit architectures alone (asm-generic/unistd.h): 64-bit time has always been theirs.
    for numbers in table.values_mut() {
        for index in [X86_64, AARCH64, RISCV64, LOONGARCH64] {
            numbers[index] = numbers[index].filter(|number| !(403..=423).contains(number));
        }
    }
    table.remove("fstatat");
    for index in [AARCH64, LOONGARCH64] {
        table.entry("newfstatat".into()).or_default()[index] = Some(79);
    }
    // LoongArch came too late for these.
    for name in ["getrlimit", "setrlimit", "renameat", "memfd_secret"] {
        table.entry(name.into()).or_default()[LOONGARCH64] = None;
    }
    // Newer than the crate: Linux 6.19 and 7.0. One number everywhere.
    for (name, number) in [("listns", 470), ("rseq_slice_yield", 471)] {
        table.insert(name.into(), [Some(number); ARCHES]);
    }
    table.entry("break".into()).or_default()[X86] = Some(17);
    // Two names of one call, and those in the range of its own (arch/arm/include/uapi/asm/unistd.h).
    table.entry("sync_file_range2".into()).or_default()[ARM] = Some(341);
    for (offset, name) in
        [(1, "breakpoint"), (2, "cacheflush"), (3, "usr26"), (4, "usr32"), (5, "set_tls"), (6, "get_tls")]
    {
        table.entry(name.into()).or_default()[ARM] = Some(0xf_0000 + offset);
    }
}

/// x32 has the calls of x86-64, some of them under numbers of its own, and some not at all
/// (arch/x86/entry/syscalls/syscall_64.tbl). Bit 30, which tells it from x86-64, is not in the table.
fn derive_x32(table: &mut Table) {
    const FROM_512: [&str; 36] = [
        "rt_sigaction",
        "rt_sigreturn",
        "ioctl",
        "readv",
        "writev",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "execve",
        "ptrace",
        "rt_sigpending",
        "rt_sigtimedwait",
        "rt_sigqueueinfo",
        "sigaltstack",
        "timer_create",
        "mq_notify",
        "kexec_load",
        "waitid",
        "set_robust_list",
        "get_robust_list",
        "vmsplice",
        "move_pages",
        "preadv",
        "pwritev",
        "rt_tgsigqueueinfo",
        "recvmmsg",
        "sendmmsg",
        "process_vm_readv",
        "process_vm_writev",
        "setsockopt",
        "getsockopt",
        "io_setup",
        "io_submit",
        "execveat",
        "preadv2",
        "pwritev2",
    ];
    const NOT_THERE: [&str; 11] = [
        "_sysctl",
        "create_module",
        "epoll_ctl_old",
        "epoll_wait_old",
        "get_kernel_syms",
        "get_thread_area",
        "nfsservctl",
        "query_module",
        "set_thread_area",
        "uselib",
        "vserver",
    ];
    for (name, numbers) in table {
        let own = (512..).zip(FROM_512).find(|(_, own)| name == own).map(|(number, _)| number);
        numbers[X32] = own.or(numbers[X86_64]).filter(|_| !NOT_THERE.contains(&name.as_str()));
    }
}

/// The number of the call that multiplexes this one on x86, and its first argument there (<linux/net.h>,
/// <linux/ipc.h>).
fn multiplexed(name: &str) -> (u8, u8) {
    const SOCKETCALL: u8 = 102;
    const OF_SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: u8 = 117;
    const OF_IPC: [(u8, &str); 12] = [
        (1, "semop"),
        (2, "semget"),
        (3, "semctl"),
        (4, "semtimedop"),
        (11, "msgsnd"),
        (12, "msgrcv"),
        (13, "msgget"),
        (14, "msgctl"),
        (21, "shmat"),
        (22, "shmdt"),
        (23, "shmget"),
        (24, "shmctl"),
    ];
    let of_socketcall = (1..).zip(OF_SOCKETCALL).map(|(of, name)| (SOCKETCALL, of, name));
    let of_ipc = OF_IPC.map(|(of, name)| (IPC, of, name));
    let mut all = of_socketcall.chain(of_ipc);
    all.find(|(.., known)| *known == name).map_or((0, 0), |(number, of, _)| (number, of))
}
