//! A tracer that kills: it follows every process that a command makes, counts their system calls that change something,
//! and sends one process SIGKILL at the end of its n-th such call. So "after each step in turn" is a list, and no luck.
//!
//! How it goes, by ptrace(2):
//! - The command waits in a shell until it is seized; each process and thread made from there on is seized with its birth.
//! - Each stops at the beginning and at the end of each call. At a beginning the first return register holds -ENOSYS.
//! - `newuidmap` and `newgidmap` are let go before they begin: with an unprivileged tracer, set-user-id has no effect.
//! - The tracer is a thread of its own for each command. Its end lets go of whoever is still there, who run on as if they
//!   had never been followed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rbox_tests::command::shown;
use rbox_tests::patience::until;
use syscalls::Sysno;

/// The end of one call of one process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// Whose: `1` is the command, `1.2` the second process or thread that it made.
    pub(crate) process: String,
    /// How many calls that change something it had made with this one.
    pub(crate) call: usize,
}

/// A process that was followed. One that has the same number later is another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pid: u32,
    /// In clock ticks since boot (proc_pid_stat(5), field 22).
    started: String,
}

/// What came of following a command.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// Each call that changed something, and in words what it was.
    pub(crate) points: BTreeMap<Point, String>,
    /// The one at which a process was killed.
    pub(crate) killed: Option<String>,
    /// All processes, threads too.
    pub(crate) seen: BTreeSet<Seen>,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.process, self.call)
    }
}

impl Seen {
    fn new(pid: Pid) -> Self {
        let pid = pid.as_raw().unsigned_abs();
        Self { pid, started: started(pid).unwrap_or_default() }
    }

    /// Whether it still runs; one that only waits to be reaped does not.
    pub(crate) fn lives(&self) -> bool {
        started(self.pid).is_some_and(|started| started == self.started)
    }
}

fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (!["Z", "X"].contains(fields.first()?)).then(|| fields.get(19).map(|field| (*field).to_owned()))?
}

/// Follows `command` to its end, or until a process is killed at the point `kill_at`, and then waits for its end. A
/// process that is there already is followed with it, by the name of `0`.
pub(crate) fn follow(command: &Command, beside: Option<u32>, kill_at: Option<&Point>) -> Result<Followed> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "read go; exec \"$@\" < /dev/null", "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = shell.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    let followed = thread::scope(|scope| {
        let tracer = scope.spawn(|| Tracer::new(&mut child, beside, kill_at)?.run());
        tracer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    // Where the tracer has seen its end, it is no child any more.
    until(|| matches!(child.try_wait(), Ok(None)), |runs| !runs);
    followed
}

struct Tracer<'a> {
    root: Pid,
    kill_at: Option<&'a Point>,
    tracees: HashMap<Pid, Tracee>,
    /// Stopped already, and who made them has not said so yet.
    unknown: HashSet<Pid>,
    followed: Followed,
}

struct Tracee {
    name: String,
    /// The program, once it has executed one.
    program: String,
    children: usize,
    calls: usize,
    /// The call that it is in, if that changes something.
    changes: Option<Sysno>,
    /// Whether it is one of rbox's yet.
    counts: bool,
}

impl Tracee {
    fn new(name: String, program: String, counts: bool) -> Self {
        Self { name, program, children: 0, calls: 0, changes: None, counts }
    }
}

impl<'a> Tracer<'a> {
    fn new(child: &mut Child, beside: Option<u32>, kill_at: Option<&'a Point>) -> Result<Self> {
        let pid = |pid: u32| Pid::from_raw(pid.cast_signed());
        let root = pid(child.id());
        let mut tracer =
            Self { root, kill_at, tracees: HashMap::new(), unknown: HashSet::new(), followed: Followed::default() };
        tracer.seize(root, "1", false)?;
        if let Some(beside) = beside {
            tracer.seize(pid(beside), "0", true)?;
        }
        child.stdin.take().context("it was piped")?.write_all(b"\n")?;
        Ok(tracer)
    }

    fn seize(&mut self, pid: Pid, name: &str, counts: bool) -> Result<()> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(pid, options).with_context(|| format!("cannot follow the process {pid}"))?;
        // From its first stop on it stops at each call.
        ptrace::interrupt(pid)?;
        self.tracees.insert(pid, Tracee::new(name.into(), program(pid), counts));
        self.followed.seen.insert(Seen::new(pid));
        Ok(())
    }

    fn run(mut self) -> Result<Followed> {
        loop {
            // Those of this thread alone: other tests have children too.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            match waitpid(None, Some(flags)) {
                Err(Errno::EINTR) => {}
                Err(error) => bail!("cannot wait for who is followed: {error}"),
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => {
                    self.tracees.remove(&pid);
                    if pid == self.root {
                        return Ok(self.followed);
                    }
                }
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => self.event(pid, event)?,
                Ok(WaitStatus::PtraceSyscall(pid)) => {
                    if self.call(pid)? {
                        return Ok(self.followed);
                    }
                }
                Ok(WaitStatus::Stopped(pid, signal)) => resume(pid, Some(signal))?,
                Ok(_) => {}
            }
        }
    }

    fn event(&mut self, pid: Pid, event: i32) -> Result<()> {
        use ptrace::Event;
        let is = |one: Event| event == one as i32;
        if is(Event::PTRACE_EVENT_FORK) || is(Event::PTRACE_EVENT_VFORK) || is(Event::PTRACE_EVENT_CLONE) {
            let made = Pid::from_raw(i32::try_from(ptrace::getevent(pid)?)?);
            if let Some(maker) = self.tracees.get_mut(&pid) {
                maker.children += 1;
                let name = format!("{}.{}", maker.name, maker.children);
                let tracee = Tracee::new(name, maker.program.clone(), maker.counts);
                self.tracees.insert(made, tracee);
                self.followed.seen.insert(Seen::new(made));
            }
            if self.unknown.remove(&made) {
                resume(made, None)?;
            }
        } else if is(Event::PTRACE_EVENT_EXEC) {
            if let Some(tracee) = self.tracees.get_mut(&pid) {
                tracee.program = program(pid);
                // The workload is no process of ours.
                tracee.counts = tracee.program.starts_with("__") || tracee.program.starts_with("rbox");
            }
        } else if !self.tracees.contains_key(&pid) {
            self.unknown.insert(pid);
            return Ok(());
        }
        resume(pid, None)
    }

    /// The beginning or the end of a call; gives whether that was the point.
    fn call(&mut self, pid: Pid) -> Result<bool> {
        let Some(tracee) = self.tracees.get_mut(&pid) else { return resume(pid, None).map(|()| false) };
        let registers = match ptrace::getregs(pid) {
            // It was killed meanwhile.
            Err(Errno::ESRCH) => return Ok(false),
            registers => registers?,
        };
        let returned = registers.rax.cast_signed();
        if returned == -i64::from(Errno::ENOSYS as i32) {
            let call = usize::try_from(registers.orig_rax).ok().and_then(Sysno::new);
            if call == Some(Sysno::execve) && is_setuid_helper(pid, registers.rdi) {
                self.tracees.remove(&pid);
                ptrace::detach(pid, None)?;
                return Ok(false);
            }
            tracee.changes = call.filter(|call| changes(pid, *call, registers.rsi, registers.rdx));
        } else if let Some(call) = tracee.changes.take()
            && returned >= 0
            && tracee.counts
        {
            tracee.calls += 1;
            let point = Point { process: tracee.name.clone(), call: tracee.calls };
            let what = format!("{}, after {call}", tracee.program);
            if self.kill_at == Some(&point) {
                kill(pid, Signal::SIGKILL)?;
                self.followed.killed = Some(what);
                return Ok(true);
            }
            self.followed.points.insert(point, what);
        }
        resume(pid, None).map(|()| false)
    }
}

fn resume(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        // It was killed meanwhile.
        Err(Errno::ESRCH) => Ok(()),
        result => Ok(result?),
    }
}

/// `rbox`, or its hidden verb.
fn program(pid: Pid) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&str> = line.split('\0').collect();
    let verb = words.iter().find(|word| word.starts_with("__"));
    verb.map_or_else(|| words[0].rsplit('/').next().unwrap_or_default().to_owned(), |verb| (*verb).to_owned())
}

fn is_setuid_helper(pid: Pid, path: u64) -> bool {
    let mut text = [0; 256];
    let length = memory(pid, path, &mut text);
    let path = text[..length].split(|byte| *byte == 0).next().unwrap_or_default();
    [&b"/newuidmap"[..], b"/newgidmap"].iter().any(|name| path.ends_with(name))
}

/// Reads at most as much as `buffer` takes.
fn memory(pid: Pid, address: u64, buffer: &mut [u8]) -> usize {
    File::open(format!("/proc/{pid}/mem")).and_then(|file| file.read_at(buffer, address)).unwrap_or(0)
}

/// Whether a call changes anything that outlives it: files, mounts, namespaces, processes, what others are told.
fn changes(pid: Pid, call: Sysno, second: u64, third: u64) -> bool {
    const CREATE: u64 = 0o100;
    const TEMPORARY: u64 = 0o20_000_000;
    let creates = |flags: u64| flags & (CREATE | TEMPORARY) != 0;
    match call {
        Sysno::open => creates(second),
        Sysno::openat => creates(third),
        Sysno::openat2 => {
            let mut flags = [0; 8];
            memory(pid, third, &mut flags) == 8 && creates(u64::from_ne_bytes(flags))
        }
        _ => CHANGES.contains(&call),
    }
}

#[rustfmt::skip]
const CHANGES: &[Sysno] = &[
    // Files.
    Sysno::creat, Sysno::mkdir, Sysno::mkdirat, Sysno::mknod, Sysno::mknodat, Sysno::link, Sysno::linkat,
    Sysno::symlink, Sysno::symlinkat, Sysno::rename, Sysno::renameat, Sysno::renameat2, Sysno::unlink, Sysno::unlinkat,
    Sysno::rmdir, Sysno::chmod, Sysno::fchmod, Sysno::fchmodat, Sysno::chown, Sysno::lchown, Sysno::fchown,
    Sysno::fchownat, Sysno::utimensat, Sysno::setxattr, Sysno::lsetxattr, Sysno::fsetxattr, Sysno::truncate,
    Sysno::ftruncate, Sysno::fallocate, Sysno::flock, Sysno::fsync, Sysno::fdatasync, Sysno::syncfs,
    // What is in them, and what others are told.
    Sysno::write, Sysno::writev, Sysno::pwrite64, Sysno::pwritev, Sysno::sendfile, Sysno::splice,
    Sysno::copy_file_range, Sysno::sendto, Sysno::sendmsg, Sysno::sendmmsg, Sysno::bind, Sysno::listen, Sysno::connect,
    Sysno::accept, Sysno::accept4,
    // Mounts and namespaces.
    Sysno::mount, Sysno::umount2, Sysno::pivot_root, Sysno::chroot, Sysno::open_tree, Sysno::move_mount, Sysno::fsopen,
    Sysno::fsconfig, Sysno::fsmount, Sysno::mount_setattr, Sysno::unshare, Sysno::setns, Sysno::sethostname,
    Sysno::setdomainname, Sysno::memfd_create,
    // Processes.
    Sysno::clone, Sysno::clone3, Sysno::fork, Sysno::vfork, Sysno::execve, Sysno::execveat, Sysno::kill,
    Sysno::pidfd_send_signal, Sysno::setsid, Sysno::setresuid, Sysno::setresgid, Sysno::setgroups, Sysno::capset,
    Sysno::seccomp, Sysno::keyctl, Sysno::bpf,
];

/// Of so many points the ordinary tests try one.
pub(crate) const HERE_AND_THERE: usize = 10;

/// Not each process makes each time the same number of calls: a read may give less. So often a point is looked for.
const TRIES: usize = 3;

/// Kills at one of `step` points after the other. `accident` follows the command to the point, or to its end where there
/// is none; `recover` mends what is left and gives what should be there then, which is the same after each. No process
/// that was followed lives on, and no mount is left.
pub(crate) fn each_point(
    name: &str,
    step: usize,
    mut accident: impl FnMut(Option<&Point>) -> Result<Followed>,
    mut recover: impl FnMut() -> Result<String>,
) -> Result<()> {
    // Once before: what is made only once is there then.
    accident(None)?;
    recover()?;
    let points = accident(None)?.points;
    let after = recover()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(points.len() >= 5, "{name} makes {} calls that change something", points.len());
    let (mut killed, mut by_program) = (0, BTreeMap::<&str, usize>::new());
    // Of few, more than one.
    let step = step.min(points.len() / 5);
    for (point, what) in points.iter().step_by(step) {
        let mut followed = accident(Some(point))?;
        for _ in 1..TRIES {
            if followed.killed.is_some() {
                break;
            }
            recover()?;
            followed = accident(Some(point))?;
        }
        let Some(victim) = &followed.killed else {
            recover()?;
            continue;
        };
        eprintln!("{name}: killed {victim} ({point})");
        assert_eq!(recover()?, after, "{name}: killed {victim} ({point})");
        until(|| followed.seen.iter().filter(|seen| seen.lives()).collect::<Vec<_>>(), Vec::is_empty);
        assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, mounts, "{name}: killed {victim} ({point})");
        killed += 1;
        *by_program.entry(what.split(',').next().unwrap_or_default()).or_default() += 1;
    }
    println!("{name}: killed at {killed} of {} points: {by_program:?}", points.len());
    ensure!(killed * 10 >= points.len().div_ceil(step) * 8, "{name}: too few of the points were reached");
    Ok(())
}
