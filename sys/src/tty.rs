//! Terminals and pseudo-terminals: termios(3), pty(7), ioctl_tty(2).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, OutputModes, Termios};

pub use rustix::termios::Winsize;

/// The end of file character of a terminal (termios(3), VEOF).
pub const END_OF_FILE: u8 = 4;

/// Whether this is a terminal.
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(fd)
}

/// So many rows and columns.
pub fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Rows and columns of a terminal.
pub fn size(fd: BorrowedFd<'_>) -> io::Result<Winsize> {
    Ok(rustix::termios::tcgetwinsize(fd)?)
}

/// Sets rows and columns; the foreground process group gets SIGWINCH.
pub fn set_size(fd: BorrowedFd<'_>, size: Winsize) -> io::Result<()> {
    Ok(rustix::termios::tcsetwinsize(fd, size)?)
}

/// What a terminal leaves to a second one behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// All: every byte goes through as typed and as printed.
    Everything,
    /// What is printed: the second terminal has made "\r\n" of "\n" already. Keys still act as usual.
    Output,
}

/// A terminal that leaves its work to another one until this is dropped.
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Changes the terminal's mode.
    pub fn enter(terminal: BorrowedFd<'_>, leave: Leave) -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(terminal)?;
        let mut raw = before.clone();
        match leave {
            Leave::Everything => raw.make_raw(),
            Leave::Output => raw.output_modes.remove(OutputModes::OPOST),
        }
        let guard = Self { terminal: terminal.try_clone_to_owned()?, before };
        rustix::termios::tcsetattr(terminal, OptionalActions::Drain, &raw)?;
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has hung up cannot be restored, and nobody looks at it.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// The two ends of a new pseudo-terminal of the devpts instance that has its multiplexer at `ptmx`.
pub fn open_pty_at(dir: BorrowedFd<'_>, ptmx: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(dir, ptmx, flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    // TIOCGPTPEER (Linux 4.13) opens the other end without any path that somebody could have swapped.
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok((master, slave))
}

/// Begins a session of this process's own and makes `slave` its controlling terminal.
pub fn take_as_controlling(slave: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(slave)?)
}

/// Makes the caller's process group the one that the terminal's keys signal, and that may read from it. SIGTTOU must be
/// blocked, since until then the group is in the background (tcsetpgrp(3)).
pub fn become_foreground(terminal: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::termios::tcsetpgrp(terminal, rustix::process::getpgrp())?)
}

/// Puts /dev/null in the places of these standard streams, inherited over execve(2).
pub fn replace_stdio_by_null(places: Range<i32>) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    places.into_iter().try_for_each(|place| replace_stdio(null.as_fd(), place))
}

/// Puts `fd` in the place of standard input (0), output (1) or error (2), inherited over execve(2).
pub fn replace_stdio(fd: BorrowedFd<'_>, place: i32) -> io::Result<()> {
    // SAFETY: the three standard descriptors belong to nobody in this process; `into_raw_fd` gives the place up
    // again without closing it.
    let mut target = unsafe { OwnedFd::from_raw_fd(place) };
    let result = if fd.as_raw_fd() == place {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())
    } else {
        rustix::io::dup2(fd.as_fd(), &mut target)
    };
    let _ = target.into_raw_fd();
    Ok(result?)
}
