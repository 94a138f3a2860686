//! The other ends of the workload's standard streams: two pipes, and a third one for input; or the master of its terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::poll::Interest;
use rbox_sys::{fd, tty};

/// Ours; each is gone when the other end is closed.
pub(super) struct Streams {
    /// Output and error; of a terminal the first is the master, and there is no second.
    outputs: [Option<File>; 2],
    /// Of a terminal, the master once more.
    input: Option<File>,
    is_terminal: bool,
    /// What the workload has not taken yet.
    typed: Vec<u8>,
    /// The input ends when that has been taken.
    ends: bool,
}

/// The workload's: standard input, output and error.
pub(super) struct Theirs([OwnedFd; 3]);

impl Streams {
    /// For a workload without a terminal; without `interactive` it has nothing to read.
    pub(super) fn pipes(interactive: bool) -> io::Result<(Self, Theirs)> {
        let [(out, their_out), (error, their_error)] = [io::pipe()?, io::pipe()?];
        let (input, their_input) = if interactive {
            let (theirs, input) = io::pipe()?;
            (Some(File::from(OwnedFd::from(input))), OwnedFd::from(theirs))
        } else {
            (None, File::open("/dev/null")?.into())
        };
        let outputs = [out, error].map(|end| Some(File::from(OwnedFd::from(end))));
        for end in outputs.iter().flatten().chain(&input) {
            fd::set_nonblocking(end)?;
        }
        let ours = Self { outputs, input, is_terminal: false, typed: Vec::new(), ends: false };
        Ok((ours, Theirs([their_input, their_out.into(), their_error.into()])))
    }

    /// For a workload that has this process's own, past everything.
    pub(super) fn elsewhere() -> Self {
        Self { outputs: [None, None], input: None, is_terminal: false, typed: Vec::new(), ends: false }
    }

    /// For a workload whose terminal has this master.
    pub(super) fn terminal(master: OwnedFd, interactive: bool) -> io::Result<Self> {
        fd::set_nonblocking(&master)?;
        let master = File::from(master);
        let input = interactive.then(|| master.try_clone()).transpose()?;
        Ok(Self { outputs: [Some(master), None], input, is_terminal: true, typed: Vec::new(), ends: false })
    }

    /// What is to be waited for: both outputs, if they are wanted, and room for input.
    pub(super) fn interests(&self, wants_output: bool) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        let reading = if wants_output { Interest::Read } else { Interest::None };
        let writing = if self.typed.is_empty() { Interest::None } else { Interest::Write };
        let outputs = self.outputs.each_ref().map(|output| output.as_ref().map(|file| (file.as_fd(), reading)));
        let input = self.input.as_ref().map(|file| (file.as_fd(), writing));
        outputs.into_iter().flatten().chain(input)
    }

    /// Whether more input can be taken.
    pub(super) fn take_input(&self) -> bool {
        self.input.is_none() || self.typed.is_empty()
    }

    /// Reads what is there from output (0) or error (1); none when there will be no more, or is none now.
    pub(super) fn read<'a>(&mut self, which: usize, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let length = match self.outputs[which].as_mut()?.read(buffer) {
            Ok(length @ 1..) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return None;
            }
            // EIO: the last process that had the terminal open is gone.
            Ok(0) | Err(_) => {
                self.outputs[which] = None;
                return None;
            }
        };
        Some(&buffer[..length])
    }

    /// Takes input; what has no input to go to is dropped.
    pub(super) fn type_in(&mut self, bytes: &[u8]) {
        if self.input.is_some() && !self.ends {
            self.typed.extend_from_slice(bytes);
            self.write();
        }
    }

    /// There is no more input.
    pub(super) fn end_input(&mut self) {
        if self.is_terminal {
            self.type_in(&[tty::END_OF_FILE]);
        } else {
            self.ends = true;
            self.write();
        }
    }

    /// Hands on what was typed, as far as there is room.
    pub(super) fn write(&mut self) {
        while let Some(input) = self.input.as_mut().filter(|_| !self.typed.is_empty()) {
            match input.write(&self.typed) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.typed.clear();
                    self.input = None;
                }
            }
        }
        if self.ends {
            self.input = None;
        }
    }

    /// Sets the size of the terminal, where there is one.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        if let Some(master) = self.outputs[0].as_ref().filter(|_| self.is_terminal) {
            // A master whose other end is closed has no size to set.
            let _ = tty::set_size(master.as_fd(), tty::winsize(rows, columns));
        }
    }
}

impl Theirs {
    /// Makes them this process's own, for a child to have.
    pub(super) fn put_in_place(&self) -> io::Result<()> {
        (0..).zip(&self.0).try_for_each(|(place, stream)| tty::replace_stdio(stream.as_fd(), place))
    }
}
