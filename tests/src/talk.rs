//! Conversations over connections of which both ends know beforehand what is said and how they end: whatever comes
//! otherwise is a fault of who is between them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rbox_sys::tcp;

use crate::netns::Namespace;
use crate::traffic::{Pattern, patient, read_pattern, tells_reset, write_pattern};

/// One of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who connects.
    Asking,
    /// Who is connected to.
    Answering,
}

/// How a conversation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Short words and answers, one after the other; this end hangs up: who answers does so after the first.
    Words(End),
    /// Both speak at once, and each ends its half.
    AtOnce,
    /// This one speaks and ends its half, and then the other one does.
    First(End),
    /// Both speak at once until this one, in the middle, resets the connection.
    Resets(End),
}

const MANNERS: [Manner; 7] = [
    Manner::Words(End::Asking),
    Manner::Words(End::Answering),
    Manner::AtOnce,
    Manner::First(End::Asking),
    Manner::First(End::Answering),
    Manner::Resets(End::Asking),
    Manner::Resets(End::Answering),
];

/// A conversation.
#[derive(Debug, Clone, Copy)]
pub struct Talk {
    /// How it goes.
    pub manner: Manner,
    /// What is said.
    pub seed: u64,
    /// How much who asks says, and who answers; one byte at least.
    pub lengths: [u32; 2],
}

/// As it is sent before anything else.
const HEADER: usize = 17;
/// It was understood. Until that is heard there might be a reset, and then nobody would know what it was about.
const UNDERSTOOD: u8 = b'!';

impl Talk {
    /// One of all manners, by a number.
    pub fn manner(number: usize) -> Manner {
        MANNERS[number % MANNERS.len()]
    }

    /// Who asks says what this will be.
    pub fn begin(&self, mut stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let number = MANNERS.iter().position(|manner| *manner == self.manner).context("a manner")?;
        let [up, down] = self.lengths.map(u32::to_le_bytes);
        stream.write_all(&[&[number as u8], &self.seed.to_le_bytes()[..], &up, &down].concat())?;
        let mut understood = [0];
        stream.read_exact(&mut understood)?;
        ensure!(understood == [UNDERSTOOD]);
        Ok(())
    }

    fn heard(mut stream: &TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let mut header = [0; HEADER];
        stream.read_exact(&mut header)?;
        stream.write_all(&[UNDERSTOOD])?;
        let number = |at: usize| header[at..at + 4].try_into().map(u32::from_le_bytes);
        Ok(Self {
            manner: Self::manner(header[0].into()),
            seed: header[1..9].try_into().map(u64::from_le_bytes)?,
            lengths: [number(9)?, number(13)?],
        })
    }

    fn says(&self, end: End) -> (u64, usize) {
        (self.seed.wrapping_add(end as u64), self.lengths[end as usize] as usize)
    }

    /// A word and its answer, the `number`th of this conversation.
    pub fn word(&self, mut stream: &TcpStream, number: u64) -> Result<()> {
        let [word, answer] = self.words(number);
        stream.write_all(&word)?;
        let mut heard = vec![0; answer.len()];
        stream.read_exact(&mut heard)?;
        ensure!(heard == answer, "another answer than the one that was given");
        Ok(())
    }

    fn words(&self, number: u64) -> [Vec<u8>; 2] {
        [End::Asking, End::Answering].map(|end| {
            let (seed, length) = self.says(end);
            Pattern::bytes(seed.rotate_left(7).wrapping_add(number), length)
        })
    }

    /// All of it, by who has begun it. Of words there are so many, with so much time between them.
    pub fn ask(&self, mut stream: TcpStream, words: u64, pause: Duration) -> Result<()> {
        match self.manner {
            Manner::Words(End::Asking) => (0..words).try_for_each(|number| {
                thread::sleep(pause);
                self.word(&stream, number)
            }),
            Manner::Words(End::Answering) => {
                self.word(&stream, 0)?;
                hear_end(&mut stream)
            }
            _ => self.speak(End::Asking, &stream),
        }
    }

    fn answer(&self, mut stream: TcpStream) -> Result<()> {
        let Manner::Words(hangs_up) = self.manner else { return self.speak(End::Answering, &stream) };
        // Pauses are as long as who asks likes.
        stream.set_read_timeout(None)?;
        for number in 0.. {
            let [word, answer] = self.words(number);
            let mut heard = vec![0; word.len()];
            if hangs_up == End::Asking && stream.peek(&mut [0])? == 0 {
                break;
            }
            stream.read_exact(&mut heard)?;
            ensure!(heard == word, "another word than the one that was said");
            stream.write_all(&answer)?;
            if hangs_up == End::Answering {
                break;
            }
        }
        Ok(())
    }

    fn speak(&self, own: End, mut stream: &TcpStream) -> Result<()> {
        let other = if own == End::Asking { End::Answering } else { End::Asking };
        let (says, hears) = (self.says(own), self.says(other));
        let say = move || {
            write_pattern(stream, says.0, says.1)?;
            stream.shutdown(Shutdown::Write)
        };
        let hear = || {
            read_pattern(stream, hears.0, hears.1)?;
            hear_end(&mut { stream })
        };
        match self.manner {
            Manner::First(first) if first == own => {
                say()?;
                hear()
            }
            Manner::First(_) => {
                hear()?;
                Ok(say()?)
            }
            Manner::Resets(end) if end == own => {
                write_pattern(&mut stream, says.0, says.1 / 2)?;
                Ok(tcp::reset_when_closed(stream)?)
            }
            Manner::Resets(_) => thread::scope(|scope| {
                let said = scope.spawn(move || write_pattern(stream, says.0, says.1));
                let heard = read_pattern(stream, hears.0, hears.1);
                let heard = heard.err().context("all was said, in spite of a reset")?.downcast::<io::Error>()?;
                // An error is told once, to either of them.
                let said = said.join().expect("no panic");
                let is_reset = tells_reset(&heard) || said.as_ref().is_err_and(tells_reset);
                ensure!(is_reset, "no reset: {said:?}, {heard:?}");
                Ok(())
            }),
            Manner::AtOnce | Manner::Words(_) => thread::scope(|scope| {
                let said = scope.spawn(say);
                hear()?;
                Ok(said.join().expect("no panic")?)
            }),
        }
    }
}

fn hear_end(stream: &mut impl Read) -> Result<()> {
    ensure!(stream.read(&mut [0])? == 0, "more came than was said");
    Ok(())
}

/// All those who answer.
#[derive(Debug, Clone, Default)]
pub struct Answering(Arc<Answers>);

#[derive(Debug, Default)]
struct Answers {
    under_way: AtomicUsize,
    complaints: Mutex<Vec<String>>,
}

impl Answering {
    /// Has somebody answer here, until the process ends.
    pub fn at(&self, namespace: &Namespace, address: SocketAddr) -> Result<()> {
        let listener = namespace.run(|| TcpListener::bind(address))?;
        let answers = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                answers.0.under_way.fetch_add(1, Ordering::SeqCst);
                let answers = answers.clone();
                thread::spawn(move || {
                    answers.note(stream.map_err(Into::into).and_then(answer));
                    answers.0.under_way.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(())
    }

    /// How many conversations they are in.
    pub fn under_way(&self) -> usize {
        self.0.under_way.load(Ordering::SeqCst)
    }

    /// Has a failure be one of all.
    pub fn note(&self, result: Result<()>) {
        if let Err(error) = result {
            self.0.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
        }
    }

    /// Fails as they have.
    pub fn check(&self) -> Result<()> {
        let complaints = self.0.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if !complaints.is_empty() {
            bail!("{}", complaints.join("\n"));
        }
        Ok(())
    }
}

fn answer(stream: TcpStream) -> Result<()> {
    let stream = patient(stream)?;
    let talk = Talk::heard(&stream).context("who is asked hears no beginning")?;
    talk.answer(stream).with_context(|| format!("who is asked, {talk:?}"))
}
