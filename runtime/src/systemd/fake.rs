//! A bus with a systemd on it, as far as tests need them: it answers what it is told to, and keeps what it was asked.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::Address;
use super::wire::{self, FIXED, Message};

/// What it does for a call of a method.
pub(super) enum Answer {
    /// Nothing is in it.
    Empty,
    /// The path of a job, and then what has become of that, after another one's end.
    Job(&'static str),
    /// An error of this name, with these words.
    Refusal(&'static str, &'static str),
    /// None at all: the connection is closed.
    Silence,
}

/// It. Its thread goes on until its client does not.
pub(super) struct FakeBus {
    directory: tempfile::TempDir,
    asked: Receiver<(String, Vec<u8>)>,
}

impl FakeBus {
    /// Answers each method by its name.
    pub(super) fn start(answer: fn(&str) -> Answer) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(directory.path().join("bus")).expect("bound");
        let (tell, asked) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that hangs up is done.
                let _ = serve(&mut stream.expect("a client"), answer, &tell);
            }
        });
        Self { directory, asked }
    }

    pub(super) fn address(&self) -> Address {
        Address::Path(self.directory.path().join("bus").display().to_string())
    }

    /// The methods that have been called since this was last asked, each with its message.
    pub(super) fn asked(&self) -> Vec<(String, Vec<u8>)> {
        self.asked.try_iter().collect()
    }
}

fn serve(stream: &mut UnixStream, answer: fn(&str) -> Answer, tell: &Sender<(String, Vec<u8>)>) -> std::io::Result<()> {
    let mut greeting = [0; b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".len()];
    stream.read_exact(&mut greeting)?;
    stream.write_all(b"DATA\r\nOK 0123456789abcdef\r\n")?;
    loop {
        let mut fixed = [0; FIXED];
        stream.read_exact(&mut fixed)?;
        let mut bytes = fixed.to_vec();
        bytes.resize(wire::length(&fixed).expect("a message"), 0);
        stream.read_exact(&mut bytes[FIXED..])?;
        let serial = &fixed[8..12];
        let member = Message::parse(&bytes).expect("a message").member;
        let answers = [&[5, 1, b'u', 0], serial].concat();
        let answered = answer(&member);
        let _ = tell.send((member, bytes));
        match answered {
            Answer::Empty => stream.write_all(&made(2, &[answers], &[]))?,
            Answer::Job(result) => {
                stream.write_all(&made(2, &[answers, field(8, b'g', b"o")], &text("/job/7")))?;
                for (path, result) in [("/job/6", "failed"), ("/job/7", result)] {
                    let body = [&7_u32.to_le_bytes()[..], &padded(path), &padded("a.scope"), &text(result)];
                    let signal = [
                        field(1, b'o', b"/"),
                        field(2, b's', b"org.freedesktop.systemd1.Manager"),
                        field(3, b's', b"JobRemoved"),
                        field(8, b'g', b"uoss"),
                    ];
                    stream.write_all(&made(4, &signal, &body.concat()))?;
                }
            }
            Answer::Refusal(name, why) => {
                let fields = [answers, field(4, b's', name.as_bytes()), field(8, b'g', b"s")];
                stream.write_all(&made(3, &fields, &text(why)))?;
            }
            Answer::Silence => return Ok(()),
        }
    }
}

/// A message of this kind with these header fields.
fn made(kind: u8, fields: &[Vec<u8>], body: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    for field in fields {
        header.resize(header.len().next_multiple_of(8), 0);
        header.extend(field);
    }
    let mut all = vec![b'l', kind, 1, 1];
    for number in [body.len(), 1, header.len()] {
        all.extend((number as u32).to_le_bytes());
    }
    all.extend(header);
    all.resize(all.len().next_multiple_of(8), 0);
    all.extend(body);
    all
}

fn field(code: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let length = match kind {
        b'g' => vec![value.len() as u8],
        _ => (value.len() as u32).to_le_bytes().to_vec(),
    };
    [&[code, 1, kind, 0][..], &length, value, &[0]].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

/// A text with another one behind it.
fn padded(words: &str) -> Vec<u8> {
    let mut bytes = text(words);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
