//! A connection to a bus: D-Bus Specification, "Authentication Protocol" and "Message Bus".

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Address;
use super::wire::{self, Call, FIXED, Kind, Message, Value};

/// The error's name for a unit that is not there.
pub(super) const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// The errors' names for a service that is not there, and cannot be started.
pub(super) const NOBODY: [&str; 2] =
    ["org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner"];

/// The bus itself.
const BUS: Object<'_> =
    Object { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// Who is called.
#[derive(Debug)]
pub(super) struct Object<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
}

/// What is listened for.
#[derive(Debug)]
pub(super) struct Signal<'a> {
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    /// The answer is an error.
    Refused {
        name: String,
        message: String,
    },
}

impl Failure {
    /// Something that the other side may not say.
    pub(super) fn strange(what: &str) -> Self {
        Self::Io(strange(what))
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Signals that came while an answer was waited for.
    signals: VecDeque<Message>,
}

impl Bus {
    /// Connects and says hello. Neither this nor anything later waits for longer than `limit` for a message.
    pub(super) fn connect(address: &Address, limit: Duration) -> io::Result<Self> {
        let mut stream = address.connect()?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        authenticate(&mut stream)?;
        let mut bus = Self { stream, serial: 0, signals: VecDeque::new() };
        match bus.call(&BUS, "Hello", &[]) {
            Ok(_) => Ok(bus),
            Err(Failure::Io(error)) => Err(error),
            Err(Failure::Refused { message, .. }) => Err(io::Error::other(message)),
        }
    }

    /// Calls a method; gives the answer.
    pub(super) fn call(&mut self, of: &Object<'_>, member: &str, body: &[Value]) -> Result<Message, Failure> {
        let serial = self.ask(of, member, body)?;
        self.answer(serial)
    }

    /// Calls a method, and leaves its [answer](Self::answer) for later. Gives the call's number.
    pub(super) fn ask(&mut self, of: &Object<'_>, member: &str, body: &[Value]) -> Result<u32, Failure> {
        self.serial += 1;
        let call = Call { destination: of.destination, path: of.path, interface: of.interface, member, body };
        self.stream.write_all(&call.bytes(self.serial)).map_err(Failure::Io)?;
        Ok(self.serial)
    }

    /// The answer to the call with this number. Those to calls before it, if nobody has waited for them, are lost.
    pub(super) fn answer(&mut self, serial: u32) -> Result<Message, Failure> {
        loop {
            let message = self.receive().map_err(Failure::Io)?;
            match message.kind {
                Kind::Return if message.answers == Some(serial) => return Ok(message),
                Kind::Error if message.answers == Some(serial) => {
                    let text = message.text().unwrap_or(&message.error).to_owned();
                    return Err(Failure::Refused { name: message.error, message: text });
                }
                Kind::Signal => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// Has the bus hand on a signal of `sender`'s. Gives the call's number, as [`ask`](Self::ask).
    pub(super) fn ask_to_listen(&mut self, signal: &Signal<'_>, sender: &str) -> Result<u32, Failure> {
        let Signal { interface, member } = signal;
        let rule = format!("type='signal',sender='{sender}',interface='{interface}',member='{member}'");
        self.ask(&BUS, "AddMatch", &[Value::Text(rule)])
    }

    /// Waits for a signal.
    pub(super) fn next_signal(&mut self, signal: &Signal<'_>) -> Result<Message, Failure> {
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.receive().map_err(Failure::Io)?,
            };
            let is_it = message.interface == signal.interface && message.member == signal.member;
            if message.kind == Kind::Signal && is_it {
                return Ok(message);
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut fixed = [0; FIXED];
        self.stream.read_exact(&mut fixed).map_err(in_time)?;
        let length = wire::length(&fixed).ok_or_else(|| strange("what is no message"))?;
        let mut bytes = fixed.to_vec();
        bytes.resize(length, 0);
        self.stream.read_exact(&mut bytes[FIXED..]).map_err(in_time)?;
        Message::parse(&bytes).ok_or_else(|| strange("what is no message"))
    }
}

/// As whom the socket's credentials say (SO_PEERCRED), without a user's number: in a user namespace the caller has another
/// one than the bus sees.
fn authenticate(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
    // First "DATA", which asks for the number, then "OK" and the server's id. After that it waits for a call.
    for expected in ["DATA", "OK "] {
        let line = read_line(stream)?;
        if !line.starts_with(expected) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the bus says {line:?}")));
        }
    }
    Ok(())
}

/// Byte by byte: what is behind the line is not text.
fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    const LONGEST: usize = 1024;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(in_time)?;
        line.push(byte[0]);
        if line.len() > LONGEST {
            return Err(strange("a line without end"));
        }
    }
    Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
}

/// A time limit's end is told as EAGAIN (socket(7), SO_RCVTIMEO).
fn in_time(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer came in time"),
        _ => error,
    }
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bus that says these bytes, whatever it hears.
    fn saying(bytes: &[u8]) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(bytes).expect("a socket has space");
        // Closed behind the bytes, but still there to be written to.
        theirs.shutdown(std::net::Shutdown::Write).expect("it is open");
        std::mem::forget(theirs);
        ours
    }

    #[test]
    fn authentication() {
        authenticate(&mut saying(b"DATA\r\nOK 0123\r\n")).expect("it is accepted");
        let refused = authenticate(&mut saying(b"REJECTED EXTERNAL\r\n")).expect_err("it is not");
        assert_eq!(refused.to_string(), "the bus says \"REJECTED EXTERNAL\"");
        assert!(authenticate(&mut saying(b"DATA\r\n")).is_err());
        assert!(authenticate(&mut saying(&[b'x'; 5000])).is_err());
    }

    #[test]
    fn what_is_no_message_is_told() {
        let mut bus = Bus { stream: saying(&[0; 100]), serial: 0, signals: VecDeque::new() };
        let Err(Failure::Io(error)) = bus.call(&BUS, "Hello", &[]) else { panic!("there is no answer") };
        assert_eq!(error.to_string(), "it sent what is no message");
    }
}
