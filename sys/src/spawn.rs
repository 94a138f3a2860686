//! Starting another program beside this one: clone(2) as vfork(2) uses it, and execve(2).
//!
//! posix_spawn(3), and with it `std::process`, asks for the disposition of every signal first, which are more than a
//! hundred system calls for each program. This is for a few small programs on the way to a container, which need none of
//! what it prepares.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::clone::Child;
use crate::exec::pointers;

/// Enough for two system calls.
const STACK: usize = 16 << 10;

/// What the child is told, and what it says if it fails.
struct Words {
    path: *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    stderr: c_int,
    errno: c_int,
}

/// Starts the program at `path`, with an empty environment and `stderr` as its standard error; all else it has of this
/// process. The caller must have installed no signal handlers, which would run in the child on the caller's memory.
pub fn spawn(path: &CStr, argv: &[CString], stderr: BorrowedFd<'_>) -> io::Result<Child> {
    let (argv, env) = (pointers(argv), pointers(&[]));
    let mut words =
        Words { path: path.as_ptr(), argv: argv.as_ptr(), env: env.as_ptr(), stderr: stderr.as_raw_fd(), errno: 0 };
    let mut stack = Box::<[u8]>::new_uninit_slice(STACK);
    let top = stack.as_mut_ptr_range().end.map_addr(|address| address & !15);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd = MaybeUninit::<c_int>::uninit();
    // SAFETY: with CLONE_VFORK this thread waits until the child has executed or ended. Until then the child, on a stack
    // of its own, is alone with `words`, and what they point to lives. The kernel writes `pidfd` (clone(2), CLONE_PIDFD).
    let pid = unsafe { libc::clone(become_program, top.cast(), flags, (&raw mut words).cast(), pidfd.as_mut_ptr()) };
    if pid == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: clone succeeded with CLONE_PIDFD, so this is a descriptor that nobody else owns.
    let child = Child::adopted(pid.unsigned_abs(), unsafe { OwnedFd::from_raw_fd(pidfd.assume_init()) });
    match words.errno {
        0 => Ok(child),
        errno => {
            child.wait()?;
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// The child; what it returns is its exit status.
extern "C" fn become_program(words: *mut c_void) -> c_int {
    // SAFETY: `spawn` hands in its `words`, and waits. What is called here neither allocates nor locks. The disposition of
    // a signal is the child's own: memory is shared, not CLONE_SIGHAND's table.
    unsafe {
        let words = &mut *words.cast::<Words>();
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        if libc::dup2(words.stderr, libc::STDERR_FILENO) != -1 {
            libc::execve(words.path, words.argv, words.env);
        }
        words.errno = *libc::__errno_location();
    }
    127
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;
    use crate::clone::Ended;

    #[test]
    fn it_runs_with_these_words_and_this_stderr() -> io::Result<()> {
        let (mut said, stderr) = io::pipe()?;
        let argv = ["sh", "-c", "echo \"$1 $(env | grep -c HOME=)\" >&2; exit 3", "sh", "word"];
        let argv = argv.map(|word| CString::new(word).expect("no zero in it"));
        let child = spawn(c"/bin/sh", &argv, stderr.as_fd())?;
        drop(stderr);
        let mut text = String::new();
        said.read_to_string(&mut text)?;
        assert_eq!((text.as_str(), child.wait()?), ("word 0\n", Ended::Exited(3)));
        Ok(())
    }

    #[test]
    fn what_cannot_be_executed_is_an_error_here() {
        let error = spawn(c"/nowhere/program", &[], io::stderr().as_fd()).expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
