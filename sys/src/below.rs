//! A child in a new user namespace below another one than the caller's own.
//!
//! Only a process in the parent namespace can write the child's maps without newuidmap(1) (user_namespaces(7), "User and
//! group ID mappings"), and who has gone there by setns(2) cannot come back. So a go-between does it: made by clone(2) as
//! vfork(2) uses it, it goes there, makes the child as the caller's, writes the maps, and ends.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::clone::{Child, Namespaces};
use crate::signal::Signal;

/// The child goes on with the program on it, so it is as large as that of any thread.
const STACK: usize = 2 << 20;
/// Below it, so that who overflows it does not write over something else.
const GUARD: usize = 64 << 10;

/// What the go-between is told, and what it says.
struct Words<'a, F> {
    parent: RawFd,
    new: Namespaces,
    uid_map: &'a [u8],
    gid_map: &'a [u8],
    go_on: Option<F>,
    pid: c_int,
    pidfd: RawFd,
    errno: c_int,
}

/// Makes a child of this process in new namespaces, a user namespace below `parent` among them, with these maps, whose
/// outside is `parent`. The child does `go_on`, and what that returns is its exit status.
///
/// `parent` must belong to this user. As [`fork_into`](crate::clone::fork_into), this needs a process of one thread.
pub fn fork_below<F: FnOnce() -> u8>(
    parent: BorrowedFd<'_>,
    new: Namespaces,
    uid_map: &[u8],
    gid_map: &[u8],
    go_on: F,
) -> io::Result<Child> {
    crate::clone::Alone::check()?;
    let stack = Stack::new()?;
    let mut words = Words {
        parent: parent.as_raw_fd(),
        new: new.and(Namespaces::USER),
        uid_map,
        gid_map,
        go_on: Some(go_on),
        pid: -1,
        pidfd: -1,
        errno: 0,
    };
    // CLONE_FILES: the pidfd that the go-between gets is one of this process.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd = MaybeUninit::<c_int>::uninit();
    // SAFETY: with CLONE_VFORK this thread, the only one, waits until the go-between has ended. Until then that one, on a
    // stack of its own, is alone with `words` and what they point to. The kernel writes `pidfd` (clone(2), CLONE_PIDFD).
    let cloned =
        unsafe { libc::clone(go_between::<F>, stack.top(), flags, (&raw mut words).cast(), pidfd.as_mut_ptr()) };
    if cloned == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: clone succeeded with CLONE_PIDFD, so this is a descriptor that nobody else owns.
    Child::adopted(cloned.unsigned_abs(), unsafe { OwnedFd::from_raw_fd(pidfd.assume_init()) }).wait()?;
    // Killed before it said anything, it has left no errno and perhaps no child.
    let child = (words.pid > 0).then(|| {
        // SAFETY: clone3 succeeded with CLONE_PIDFD in a process that shares our descriptors, so `pidfd` is one of ours that
        // nobody else owns.
        Child::adopted(words.pid.unsigned_abs(), unsafe { OwnedFd::from_raw_fd(words.pidfd) })
    });
    match (child, words.errno) {
        (Some(child), 0) => Ok(child),
        (child, errno) => {
            if let Some(child) = child {
                child.signal(Signal::KILL)?;
                child.wait()?;
            }
            Err(if errno == 0 { io::ErrorKind::UnexpectedEof.into() } else { io::Error::from_raw_os_error(errno) })
        }
    }
}

/// The go-between; it ends with what this returns. It neither allocates nor locks.
extern "C" fn go_between<F: FnOnce() -> u8>(words: *mut c_void) -> c_int {
    // SAFETY: `fork_below` hands in its `words`, and waits.
    let words = unsafe { &mut *words.cast::<Words<'_, F>>() };
    // Until the maps are all there.
    words.errno = libc::EPROTO;
    if let Err(error) = make_child(words) {
        words.errno = error.raw_os_error().unwrap_or(libc::EPROTO);
        return 1;
    }
    words.errno = 0;
    0
}

fn make_child<F: FnOnce() -> u8>(words: &mut Words<'_, F>) -> io::Result<()> {
    // SAFETY: a user namespace has neither descriptors nor memory in it.
    if unsafe { libc::setns(words.parent, libc::CLONE_NEWUSER) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a clone_args of zeros is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(words.new.bits()) | libc::CLONE_PIDFD as u64 | libc::CLONE_PARENT as u64;
    args.pidfd = &raw mut words.pidfd as u64;
    // SAFETY: without CLONE_VM the child has its own copy of memory, this stack in it. The caller has one thread, so no
    // lock is held. The kernel writes `pidfd` before it returns.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            let status = words.go_on.take().map_or(1, |go_on| go_on());
            crate::process::exit_at_once(status)
        }
        pid => words.pid = pid as c_int,
    }
    for (file, map) in [("gid_map", words.gid_map), ("uid_map", words.uid_map)] {
        let mut path = [0; 40];
        write!(&mut path[..], "/proc/{}/{file}\0", words.pid)?;
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| io::ErrorKind::InvalidInput)?;
        write_map(path, map)?;
    }
    Ok(())
}

/// In one write(2), as the kernel wants it.
fn write_map(path: &CStr, map: &[u8]) -> io::Result<()> {
    let file = rustix::fs::open(path, rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC, 0.into())?;
    rustix::io::write(file.as_fd(), map)?;
    Ok(())
}

/// Memory for a stack that grows downwards.
struct Stack(*mut c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        let (reading, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, where the kernel finds room.
        let start = unsafe { libc::mmap(ptr::null_mut(), GUARD + STACK, reading, flags | libc::MAP_NORESERVE, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(start);
        // SAFETY: the lower end of what was just mapped, which nobody uses.
        crate::errno::check(unsafe { libc::mprotect(stack.0, GUARD, libc::PROT_NONE) })?;
        Ok(stack)
    }

    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and whoever was on it has ended: the go-between is waited for, and the child has a copy.
        unsafe { libc::munmap(self.0, GUARD + STACK) };
    }
}
