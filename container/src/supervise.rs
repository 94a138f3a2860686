//! From the workload's start to its end: signals go in, the terminal's bytes go both ways.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rbox_runtime::Running;
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::{Signal, SignalFd};
use rbox_sys::tty::{self, Leave, RawMode, Winsize};
use rbox_types::Exit;

use crate::Error;

/// How long a workload may go on when the terminal that it was started from is gone.
const GRACE_AFTER_HANGUP: Duration = Duration::from_secs(10);

/// This many interrupts, and the workload is killed: pid 1 of a container ignores those that it has no handler for,
/// and a person who presses Ctrl-C again and again means it.
const INTERRUPTS_TO_KILL: u32 = 3;

/// The end of file character of a terminal (termios(3), VEOF).
const END_OF_FILE: u8 = 4;

/// The caller's terminal, for a workload that has one of its own.
#[derive(Debug)]
pub struct Terminal {
    /// Whichever standard stream is one; none when rbox runs in a pipeline or a job.
    caller: Option<OwnedFd>,
}

impl Terminal {
    /// That of the standard streams, if any is one.
    pub fn of_caller() -> Result<Self, Error> {
        let caller = [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()]
            .into_iter()
            .find(|stream| tty::is_terminal(*stream))
            .map(|stream| stream.try_clone_to_owned())
            .transpose()
            .map_err(Error::io("open", "the terminal"))?;
        Ok(Self { caller })
    }

    /// Rows and columns; zeros where there is no terminal to ask.
    pub fn size(&self) -> (u16, u16) {
        self.winsize().map_or((0, 0), |size| (size.ws_row, size.ws_col))
    }

    fn winsize(&self) -> Option<Winsize> {
        tty::size(self.caller.as_ref()?.as_fd()).ok()
    }
}

/// Supervises a workload to its end. With a terminal, what is typed reaches it only if `interactive`.
pub fn supervise(
    mut running: Running,
    signals: &SignalFd,
    terminal: Option<Terminal>,
    interactive: bool,
) -> Result<Exit, Error> {
    let console = running.take_console().zip(terminal);
    let mut supervisor = Supervisor { running, signals, interrupts: 0, deadline: None };
    if let Some((master, terminal)) = console {
        supervisor.with_terminal(master, &terminal, interactive).map_err(Error::io("serve", "the terminal"))?;
    }
    supervisor.without_terminal().map_err(Error::io("supervise", "the workload"))?;
    supervisor.running.wait().map_err(Error::io("wait for", "the workload"))
}

struct Supervisor<'a> {
    running: Running,
    signals: &'a SignalFd,
    interrupts: u32,
    /// When the workload is killed.
    deadline: Option<Instant>,
}

impl Supervisor<'_> {
    fn without_terminal(&mut self) -> io::Result<()> {
        loop {
            let waited = [(self.running.as_fd(), Interest::Read), (self.signals.as_fd(), Interest::Read)];
            let [ended, signalled] = poll::wait(waited, self.remaining())?;
            if ended {
                return Ok(());
            }
            if signalled {
                self.hand_on_signals(true, || {})?;
            }
            self.keep_deadline()?;
        }
    }

    /// Until the workload has ended, or the caller's terminal is gone: then the workload's is closed too, which hangs it
    /// up.
    fn with_terminal(&mut self, master: OwnedFd, terminal: &Terminal, interactive: bool) -> io::Result<()> {
        let stdin = io::stdin();
        let stdout = io::stdout();
        let _raw = if interactive && tty::is_terminal(stdin.as_fd()) {
            Some(RawMode::enter(stdin.as_fd(), Leave::Everything)?)
        } else if tty::is_terminal(stdout.as_fd()) {
            Some(RawMode::enter(stdout.as_fd(), Leave::Output)?)
        } else {
            None
        };
        let mut master = File::from(master);
        let mut input = Input { buffer: Vec::new(), open: interactive };
        let mut output_open = true;
        loop {
            let interest = |wanted, interest| if wanted { interest } else { Interest::None };
            let waited = [
                (self.running.as_fd(), Interest::Read),
                (self.signals.as_fd(), Interest::Read),
                (master.as_fd(), interest(output_open, Interest::Read)),
                (master.as_fd(), interest(!input.buffer.is_empty(), Interest::Write)),
                // One buffer at a time: a workload that does not read keeps us from reading, not our memory growing.
                (stdin.as_fd(), interest(input.open && input.buffer.is_empty(), Interest::Read)),
            ];
            let [ended, signalled, printed, takes_input, typed] = poll::wait(waited, None)?;
            if signalled {
                self.hand_on_signals(false, || {
                    if let Some(size) = terminal.winsize() {
                        // A master whose other end is closed has no size to set.
                        let _ = tty::set_size(master.as_fd(), size);
                    }
                })?;
                if self.deadline.is_some() {
                    return Ok(());
                }
            }
            if printed {
                output_open = print(&mut master)?;
            }
            if takes_input {
                input.write(&mut master);
            }
            if typed {
                input.read()?;
            }
            if ended {
                // What it printed last is still in the terminal.
                while output_open {
                    output_open = print(&mut master)?;
                }
                return Ok(());
            }
        }
    }

    fn hand_on_signals(&mut self, interrupts_count: bool, resize: impl Fn()) -> io::Result<()> {
        while let Some(signal) = self.signals.read()? {
            if signal == Signal::WINCH {
                resize();
                continue;
            }
            if interrupts_count && matches!(signal, Signal::INT | Signal::TERM) {
                self.interrupts += 1;
                if self.interrupts == INTERRUPTS_TO_KILL {
                    self.running.signal(Signal::KILL)?;
                }
            }
            if signal == Signal::HUP {
                self.deadline.get_or_insert_with(|| Instant::now() + GRACE_AFTER_HANGUP);
            }
            self.running.signal(signal)?;
        }
        Ok(())
    }

    fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn keep_deadline(&mut self) -> io::Result<()> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.deadline = None;
            self.running.signal(Signal::KILL)?;
        }
        Ok(())
    }
}

/// What was typed and not yet taken by the workload.
struct Input {
    buffer: Vec<u8>,
    open: bool,
}

impl Input {
    fn read(&mut self) -> io::Result<()> {
        self.buffer.resize(4096, 0);
        let length = match io::stdin().lock().read(&mut self.buffer) {
            Ok(length) => length,
            // The terminal has hung up.
            Err(error) if error.raw_os_error() == Some(rbox_sys::Errno::IO.raw_os_error()) => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.buffer.clear();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.buffer.truncate(length);
        if length == 0 {
            self.open = false;
            // A pipe that ends says so to the workload as a person would.
            self.buffer.push(END_OF_FILE);
        }
        Ok(())
    }

    fn write(&mut self, master: &mut File) {
        match master.write(&self.buffer) {
            Ok(length) => drop(self.buffer.drain(..length)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody has the terminal open any more.
            Err(_) => {
                self.buffer.clear();
                self.open = false;
            }
        }
    }
}

/// Copies what is there to standard output; false when there will be no more.
fn print(master: &mut File) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    let length = match master.read(&mut buffer) {
        // EIO: the last process that had the terminal open is gone.
        Ok(0) | Err(_) => return Ok(false),
        Ok(length) => length,
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&buffer[..length])?;
    stdout.flush()?;
    Ok(true)
}
