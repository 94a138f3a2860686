//! From the workload's start to its end: signals go in, the terminal's bytes go both ways.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rbox_runtime::Running;
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::{Signal, SignalFd};
use rbox_sys::tty::{self, Leave, RawMode, Winsize};
use rbox_sys::{fd, text};
use rbox_types::Exit;

use crate::Error;
use crate::life::attach::detach_keys::{DetachKeys, Watch};
use crate::life::siblings::SETTLED_AFTER;
use crate::servers::Servers;

/// How long a workload may go on when the terminal that it was started from is gone.
const GRACE_AFTER_HANGUP: Duration = Duration::from_secs(10);

/// This many interrupts, and the workload is killed: pid 1 of a container ignores those that it has no handler for,
/// and a person who presses Ctrl-C again and again means it.
const INTERRUPTS_TO_KILL: u32 = 3;

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

    /// Puts the caller's side in raw mode until what this gives is dropped: all of it where what is typed reaches the
    /// workload, else what is printed alone; none where there is nothing to put.
    pub(crate) fn enter_raw(&self, input: bool) -> io::Result<Option<RawMode>> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        if input && tty::is_terminal(stdin.as_fd()) {
            RawMode::enter(stdin.as_fd(), Leave::Everything).map(Some)
        } else if tty::is_terminal(stdout.as_fd()) {
            RawMode::enter(stdout.as_fd(), Leave::Output).map(Some)
        } else {
            Ok(None)
        }
    }

    fn winsize(&self) -> Option<Winsize> {
        tty::size(self.caller.as_ref()?.as_fd()).ok()
    }
}

/// How a supervision went.
pub(crate) enum Supervised {
    /// To the workload's end.
    Ended(Exit),
    /// The workload goes on without this process; the master is its terminal's, where it has one.
    Left(Option<File>, Running),
}

/// Supervises a workload to its end. With a terminal, what is typed reaches it only if `interactive`. `settled` is called
/// when it has lived for a while.
pub fn supervise(
    running: Running,
    signals: &SignalFd,
    terminal: Option<Terminal>,
    interactive: bool,
    settled: &mut dyn FnMut(),
) -> Result<Exit, Error> {
    supervise_with(running, signals, terminal, interactive, &mut Servers::default(), settled)
}

/// As [`supervise`], with the processes that serve the container. Where one ends first, it is said, and taken.
pub(crate) fn supervise_with(
    running: Running,
    signals: &SignalFd,
    terminal: Option<Terminal>,
    interactive: bool,
    servers: &mut Servers,
    settled: &mut dyn FnMut(),
) -> Result<Exit, Error> {
    match supervise_until(running, signals, terminal, interactive, &DetachKeys::NONE, servers, settled)? {
        Supervised::Ended(exit) => Ok(exit),
        Supervised::Left(..) => unreachable!("there are no keys to leave it by"),
    }
}

/// As [`supervise`], but where what is typed reaches the workload, `keys` leave it to itself.
pub(crate) fn supervise_until<'a>(
    mut running: Running,
    signals: &'a SignalFd,
    terminal: Option<Terminal>,
    interactive: bool,
    keys: &DetachKeys,
    servers: &'a mut Servers,
    settled: &'a mut dyn FnMut(),
) -> Result<Supervised, Error> {
    let console = running.take_console().zip(terminal);
    let settled = Some((Instant::now() + SETTLED_AFTER, settled));
    let mut supervisor = Supervisor { running, signals, servers, interrupts: 0, deadline: None, settled };
    if let Some((master, terminal)) = console {
        let input = Input { buffer: Vec::new(), open: interactive, left: false, watch: Watch::for_keys(keys) };
        let left = supervisor.with_terminal(master, &terminal, input).map_err(Error::io("serve", "the terminal"))?;
        if left.is_some() {
            return Ok(Supervised::Left(left, supervisor.running));
        }
    }
    supervisor.without_terminal().map_err(Error::io("supervise", "the workload"))?;
    supervisor.running.wait().map_err(Error::io("wait for", "the workload")).map(Supervised::Ended)
}

struct Supervisor<'a> {
    running: Running,
    signals: &'a SignalFd,
    servers: &'a mut Servers,
    interrupts: u32,
    /// When the workload is killed.
    deadline: Option<Instant>,
    /// What is to be done once, and when.
    settled: Option<(Instant, &'a mut dyn FnMut())>,
}

impl Supervisor<'_> {
    fn without_terminal(&mut self) -> io::Result<()> {
        loop {
            let [network, root, memory, pids] = self.servers.watched(self.running.as_fd());
            let waited = [
                (self.running.as_fd(), Interest::Read),
                (self.signals.as_fd(), Interest::Read),
                network,
                root,
                memory,
                pids,
            ];
            let [ended, signalled, network, root, memory, pids] = poll::wait(waited, self.remaining())?;
            if memory || pids {
                self.servers.has_killed();
            }
            if ended {
                self.say_lost_at_end("");
                return Ok(());
            }
            if signalled {
                self.hand_on_signals(true, || {})?;
            }
            self.say_lost([network, root], "");
            self.keep_time()?;
        }
    }

    /// Until the workload has ended, or the caller's terminal is gone: then the workload's is closed too, which hangs it
    /// up. Gives the master where the workload is left to itself.
    fn with_terminal(
        &mut self,
        master: OwnedFd,
        terminal: &Terminal,
        mut input: Input<'_>,
    ) -> io::Result<Option<File>> {
        let stdin = io::stdin();
        let _raw = terminal.enter_raw(input.open)?;
        // A workload that does not read what is typed is still listened to.
        fd::set_nonblocking(&master)?;
        let mut master = File::from(master);
        let mut output_open = true;
        loop {
            let interest = |wanted, interest| if wanted { interest } else { Interest::None };
            let [network, root, memory, pids] = self.servers.watched(self.running.as_fd());
            let waited = [
                (self.running.as_fd(), Interest::Read),
                (self.signals.as_fd(), Interest::Read),
                network,
                root,
                memory,
                pids,
                (master.as_fd(), interest(output_open, Interest::Read)),
                (master.as_fd(), interest(!input.buffer.is_empty(), Interest::Write)),
                // One buffer at a time: a workload that does not read keeps us from reading, not our memory growing.
                (stdin.as_fd(), interest(input.open && input.buffer.is_empty(), Interest::Read)),
            ];
            let [ended, signalled, network, root, memory, pids, printed, takes_input, typed] =
                poll::wait(waited, self.remaining())?;
            if memory || pids {
                self.servers.has_killed();
            }
            if signalled {
                self.hand_on_signals(false, || {
                    if let Some(size) = terminal.winsize() {
                        // A master whose other end is closed has no size to set.
                        let _ = tty::set_size(master.as_fd(), size);
                    }
                })?;
                if self.deadline.is_some() {
                    return Ok(None);
                }
            }
            // The terminal does nothing by itself.
            self.say_lost([network, root], "\r");
            if printed {
                output_open = !matches!(print(&mut master)?, Printed::Last);
            }
            if takes_input {
                input.write(&mut master);
            }
            if typed {
                input.read()?;
                if input.left {
                    return Ok(Some(master));
                }
            }
            if ended {
                // What it printed last is still in the terminal.
                while output_open && matches!(print(&mut master)?, Printed::Some) {}
                self.say_lost_at_end("\r");
                return Ok(None);
            }
            self.keep_time()?;
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

    fn say_lost(&mut self, ended: [bool; 2], end: &str) {
        for lost in self.servers.take_lost(ended) {
            eprintln!("rbox: {lost}{end}");
        }
    }

    fn say_lost_at_end(&mut self, end: &str) {
        for lost in self.servers.take_lost_at_end() {
            eprintln!("rbox: {lost}{end}");
        }
    }

    fn remaining(&self) -> Option<Duration> {
        let next = self.deadline.into_iter().chain(self.settled.as_ref().map(|(at, _)| *at)).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn keep_time(&mut self) -> io::Result<()> {
        if let Some((_, settled)) = self.settled.take_if(|(at, _)| Instant::now() >= *at) {
            settled();
            // What it began with is of no use any more.
            let _ = text::forget();
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.deadline = None;
            self.running.signal(Signal::KILL)?;
        }
        Ok(())
    }
}

/// What was typed and not yet taken by the workload.
struct Input<'a> {
    buffer: Vec<u8>,
    open: bool,
    /// The keys that leave the workload to itself have been typed.
    left: bool,
    watch: Watch<'a>,
}

impl Input<'_> {
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
            self.buffer = self.watch.take_held();
            // A pipe that ends says so to the workload as a person would.
            self.buffer.push(tty::END_OF_FILE);
        } else {
            self.left = self.watch.pass(&mut self.buffer);
        }
        Ok(())
    }

    fn write(&mut self, master: &mut File) {
        match master.write(&self.buffer) {
            Ok(length) => drop(self.buffer.drain(..length)),
            Err(error) if is_temporary(&error) => {}
            // Nobody has the terminal open any more.
            Err(_) => {
                self.buffer.clear();
                self.open = false;
            }
        }
    }
}

/// How much a workload has printed.
enum Printed {
    Some,
    /// Nothing now.
    None,
    /// There will be no more.
    Last,
}

/// Copies what is there to standard output.
fn print(master: &mut File) -> io::Result<Printed> {
    let mut buffer = [0; 16 * 1024];
    let length = match master.read(&mut buffer) {
        Ok(length @ 1..) => length,
        Err(error) if is_temporary(&error) => return Ok(Printed::None),
        // EIO: the last process that had the terminal open is gone.
        Ok(0) | Err(_) => return Ok(Printed::Last),
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&buffer[..length])?;
    stdout.flush()?;
    Ok(Printed::Some)
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
