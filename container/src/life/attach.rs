//! Attached to a container: its monitor's clients, in a terminal or in a pipeline.

pub(crate) mod detach_keys;
pub(crate) mod frames;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rbox_store::ContainerEntry;
use rbox_sys::clone::signal_pidfd;
use rbox_sys::fd;
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::{Signal, SignalFd};
use rbox_sys::socket::Channel;
use rbox_sys::tty;

use crate::life::attach::detach_keys::{DetachKeys, Watch};
use crate::life::attach::frames::{Frame, LONGEST};
use crate::life::start::ATTACH;
use crate::life::supervise::Terminal;
use crate::record::{Made, Record};
use crate::{Engine, Error};

/// How one is attached.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Standard input reaches the workload.
    pub input: bool,
    /// What the workload prints is printed: standard output, and standard error. Without both one leaves when the input
    /// has ended.
    pub outputs: [bool; 2],
    /// Signals are handed on to the workload.
    pub signals: bool,
    /// What a person types to leave it.
    pub detach_keys: DetachKeys,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// The workload has ended, with this status as a shell shows it.
    Ended(u8),
    /// It goes on by itself.
    Left,
}

impl Engine {
    /// Attaches to a container that runs, to its end or until it is left.
    pub fn attach(&self, name_or_id: &str, attachment: &Attachment) -> Result<Attached, Error> {
        let entry = self.store.find_container(name_or_id)?;
        if !entry.running {
            return Err(Error::NotRunning(entry.name));
        }
        let made = self.refuse_paused(&entry)?.made;
        if made.as_ref().is_some_and(Made::has_callers_streams) {
            return Err(Error::PassedThrough(entry.name));
        }
        self.stay_attached(Client::connect(&entry)?, made, attachment)
    }

    /// `made` is the container's record.
    pub(crate) fn stay_attached(
        &self,
        client: Client,
        made: Option<Made>,
        attachment: &Attachment,
    ) -> Result<Attached, Error> {
        let entry = client.entry.clone();
        let attached = client.serve(attachment, made.as_ref().is_some_and(|made| made.tty))?;
        if matches!(attached, Attached::Ended(_)) && made.is_none_or(|made| !made.may_begin_again()) {
            // The next command finds the end written down, or the container gone.
            self.store.wait_for_owner(&entry)?;
        }
        Ok(attached)
    }
}

/// Somebody who is attached.
pub(crate) struct Client {
    channel: Channel,
    entry: ContainerEntry,
}

impl Client {
    pub(crate) fn connect(entry: &ContainerEntry) -> Result<Self, Error> {
        let failed = || Error::io("attach to", entry.name.as_str());
        let directory = File::open(&entry.path).map_err(failed())?;
        match Channel::connect(directory.as_fd(), ATTACH) {
            Ok(channel) => {
                fd::set_nonblocking(&channel).map_err(failed())?;
                Ok(Self { channel, entry: entry.clone() })
            }
            // What runs in the foreground has its caller for a supervisor.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::InForeground(entry.name.clone())),
            Err(error) => Err(failed()(error)),
        }
    }

    fn serve(self, attachment: &Attachment, tty: bool) -> Result<Attached, Error> {
        let failed = || Error::io("stay attached to", self.entry.name.as_str());
        let signals = SignalFd::of_forwarded().map_err(failed())?;
        let terminal = if tty { Some(Terminal::of_caller()?) } else { None };
        let heard = self.exchange(attachment, &signals, terminal.as_ref()).map_err(failed())?;
        Ok(match heard {
            Heard::Left => Attached::Left,
            Heard::Exit(status) => Attached::Ended(status),
            Heard::Nothing => return Err(Error::LetGo(self.entry.name)),
        })
    }

    fn exchange(&self, attachment: &Attachment, signals: &SignalFd, terminal: Option<&Terminal>) -> io::Result<Heard> {
        let stdin = io::stdin();
        let at_terminal = terminal.is_some() && tty::is_terminal(stdin.as_fd());
        let _raw = terminal.map(|terminal| terminal.enter_raw(attachment.input)).transpose()?;
        let mut unsent = Unsent::default();
        unsent.tell_size(terminal);
        // What comes from a file or a pipe, nobody types.
        let typed_keys = if terminal.is_some() { &attachment.detach_keys } else { &DetachKeys::NONE };
        let mut watch = Watch::for_keys(typed_keys);
        let mut input = attachment.input;
        loop {
            unsent.send(&self.channel);
            if !input && attachment.outputs == [false; 2] && unsent.is_empty() {
                return Ok(Heard::Left);
            }
            // One buffer at a time: a workload that does not read keeps us from reading, not our memory growing.
            let reading = if input && unsent.is_empty() { Interest::Read } else { Interest::None };
            let sending = if unsent.is_empty() { Interest::None } else { Interest::Write };
            let waited = [
                (self.channel.as_fd(), Interest::Read),
                (self.channel.as_fd(), sending),
                (signals.as_fd(), Interest::Read),
                (stdin.as_fd(), reading),
            ];
            let [said, _, signalled, typed] = poll::wait(waited, None)?;
            if said && let Some(heard) = self.print(attachment)? {
                return Ok(heard);
            }
            if signalled && self.hand_on_signals(attachment, signals, terminal, &mut unsent)? {
                return Ok(Heard::Left);
            }
            if typed {
                let mut bytes = vec![0; LONGEST];
                let length = match stdin.lock().read(&mut bytes) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    // A terminal that has hung up.
                    Err(_) => 0,
                };
                bytes.truncate(length);
                if length == 0 {
                    // In raw mode no key makes an end: the terminal is gone, and that is not for the workload to know.
                    if at_terminal {
                        return Ok(Heard::Left);
                    }
                    input = false;
                    unsent.type_in(&watch.take_held());
                    unsent.tell(Frame::EndOfInput);
                } else {
                    let leaves = watch.pass(&mut bytes);
                    unsent.type_in(&bytes);
                    if leaves {
                        unsent.send(&self.channel);
                        return Ok(Heard::Left);
                    }
                }
            }
        }
    }

    /// Prints what the monitor has sent; gives the end, where it was that.
    fn print(&self, attachment: &Attachment) -> io::Result<Option<Heard>> {
        let mut buffer = [0; 1 + LONGEST];
        let length = match self.channel.receive(&mut buffer) {
            Ok((0, _)) => return Ok(Some(Heard::Nothing)),
            Ok((length, _)) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        match Frame::decode(&buffer[..length])? {
            Frame::Output(bytes) if attachment.outputs[0] => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()?;
            }
            Frame::Error(bytes) if attachment.outputs[1] => io::stderr().write_all(bytes)?,
            Frame::Exit(status) => return Ok(Some(Heard::Exit(status))),
            _ => {}
        }
        Ok(None)
    }

    /// Whether one is to leave: the terminal is gone.
    fn hand_on_signals(
        &self,
        attachment: &Attachment,
        signals: &SignalFd,
        terminal: Option<&Terminal>,
        unsent: &mut Unsent,
    ) -> io::Result<bool> {
        while let Some(signal) = signals.read()? {
            match signal {
                Signal::WINCH => unsent.tell_size(terminal),
                Signal::HUP => return Ok(true),
                // As Docker and Podman do it: of a terminal, the workload has its own, which makes signals by itself.
                _ if attachment.signals && terminal.is_none() => self.signal(signal)?,
                // Nobody else takes it: as if it had not been caught.
                Signal::INT | Signal::TERM | Signal::QUIT => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let first = Made::read(&self.entry.path)?.map(|made| made.open_first_process()).transpose()?.flatten();
        first.map_or(Ok(()), |first| signal_pidfd(&first, signal))
    }
}

/// What the monitor has not taken yet. It is never waited for: it may itself be waiting for this client to take what the
/// workload prints.
#[derive(Default)]
struct Unsent(VecDeque<Vec<u8>>);

impl Unsent {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends as much as there is room for. A monitor that does not hear any more is found out by what it says.
    fn send(&mut self, channel: &Channel) {
        while let Some(message) = self.0.front() {
            match channel.send(message, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(()) | Err(_) => drop(self.0.pop_front()),
            }
        }
    }

    fn tell_size(&mut self, terminal: Option<&Terminal>) {
        if let Some((rows @ 1.., columns)) = terminal.map(Terminal::size) {
            self.tell(Frame::Size(rows, columns));
        }
    }

    fn type_in(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.tell(Frame::Input(bytes));
        }
    }

    fn tell(&mut self, frame: Frame<'_>) {
        self.0.push_back(frame.encode());
    }
}

/// How an exchange came to its end.
enum Heard {
    Exit(u8),
    /// The monitor hung up without a word.
    Nothing,
    Left,
}
