//! What has happened in this store: a journal that is only appended to.
//!
//! One line of JSON an event, in files of about [`FILE_SIZE`] bytes ([`Generations`]), of which the last [`FILES`] are kept.
//! Any number of processes append, each with one write(2) to a file opened with O_APPEND: the kernel lets no two of them mix.
//! Who does holds the file's flock(2) shared, and looks, with it, whether the name still leads there; who begins a new file
//! holds it alone. So a file that was renamed is never written to again, and readers who have come to its end are done with
//! it. Nobody waits for a lock: appending goes on without it after a while, and a file that is in use grows a little longer.
//!
//! A line begins with a line feed, as well as ending with one: what a power cut or a full disk has left of the line before
//! is then a line of its own, which is no JSON, and left out.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_sys::flock;
use serde::{Deserialize, Serialize};

use crate::{
    Store,
    error::{IoContext, Result},
    generations::{Generations, id_of},
    lines::Lines,
    locks::{Mode, names_this},
};

/// When the next file is begun, in bytes; Podman's default for its journal.
const FILE_SIZE: u64 = 1_000_000;
/// How many files there are at most.
const FILES: u32 = 4;
/// The longest line, in bytes; what makes it longer is left out.
const LONGEST: usize = 64 * 1024;

/// Something that happened to a container or an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When, in whole seconds since 1970.
    pub time: i64,
    /// When, in nanoseconds since 1970.
    pub time_nano: i64,
    /// To what kind of thing.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// What happened, in Docker's words.
    pub action: String,
    /// The container's or image's whole id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image that a container was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What else there is to say: `exitCode`, `signal`, and the container's labels by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A container.
    Container,
    /// An image.
    Image,
}

impl EventKind {
    /// Docker's and Podman's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
        }
    }
}

impl Event {
    /// Without attributes.
    pub fn new(
        at: Timestamp,
        kind: EventKind,
        action: impl Into<String>,
        id: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            time: at.as_second(),
            // Until the year 2262.
            time_nano: i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX),
            kind,
            action: action.into(),
            id: id.into(),
            name: name.into(),
            image: None,
            attributes: BTreeMap::new(),
        }
    }

    /// With one more attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.insert(name.to_owned(), value.to_string());
        self
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.time_nano.into()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The journal of a store.
#[derive(Debug, Clone)]
pub struct Events {
    files: Generations,
    file_size: u64,
}

/// Where to begin to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsFrom {
    /// With the oldest that is kept.
    Beginning,
    /// With what happens from now on.
    Now,
}

impl Store {
    /// What has happened here.
    pub fn events(&self) -> Events {
        Events { files: Generations::new(self.root(), NAME, FILES), file_size: FILE_SIZE }
    }
}

/// The newest file's name.
const NAME: &str = "events";

/// Whether a name in the store's root is one of the journal's.
pub(crate) fn is_journal(name: &str) -> bool {
    name.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Events {
    /// Writes down what has happened, in this order.
    pub fn append(&self, events: &[Event]) -> Result<()> {
        let lines = events.iter().map(line_of).collect::<io::Result<Vec<_>>>().at("write to", &self.files.newest())?;
        let lines = lines.concat();
        let began = Instant::now();
        loop {
            let file = self.open_newest()?;
            if self.append_to(&file, &lines, began.elapsed() < Duration::from_millis(250))? {
                return Ok(());
            }
        }
    }

    fn open_newest(&self) -> Result<File> {
        let path = self.files.newest();
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path).at("open", &path)
    }

    /// Whether the line was written: not, if this is not the newest file any more, or is about not to be.
    fn append_to(&self, mut file: &File, line: &[u8], patient: bool) -> Result<bool> {
        let path = self.files.newest();
        let locked = flock::try_lock(file, Mode::Shared).at("lock", &path)?;
        if !locked && patient {
            // Somebody begins a new file, or was stopped over it.
            thread::sleep(Duration::from_millis(1));
            return Ok(false);
        }
        if !names_this(&path, file)? && patient {
            return Ok(false);
        }
        // One call: what of it has no room stays a broken line.
        if file.write(line).at("write to", &path)? < line.len() {
            return Err(io::ErrorKind::StorageFull.into()).at("write to", &path);
        }
        if file.metadata().at("look at", &path)?.len() > self.file_size {
            self.begin_new(file).at("rename", &path)?;
        }
        Ok(true)
    }

    /// Makes room for a new file, unless this one is in use or another process was faster.
    fn begin_new(&self, file: &File) -> io::Result<()> {
        if flock::try_lock(file, Mode::Exclusive)? {
            let there = File::open(self.files.newest());
            if there.is_ok_and(|there| id_of(&there).ok() == id_of(file).ok()) {
                self.files.shift()?;
            }
        }
        Ok(())
    }

    /// Begins to read.
    pub fn read(&self, from: EventsFrom) -> Result<EventReader> {
        let path = self.files.newest();
        let mut lines = Lines::open(self.files.clone()).at("read", &path)?;
        if from == EventsFrom::Now {
            lines.seek_to_last(0, &mut |_| true).at("read", &path)?;
        }
        Ok(EventReader { files: self.files.clone(), lines })
    }
}

/// Reads the journal, and what is added to it.
#[derive(Debug)]
pub struct EventReader {
    files: Generations,
    lines: Lines,
}

impl EventReader {
    /// The next event. None: there is no more for now; once more is there, it is given.
    pub fn read_next(&mut self) -> Result<Option<Event>> {
        while let Some(line) = self.lines.next(true).at("read", &self.files.newest())? {
            // Of a kind that a later rbox knows, or broken off.
            if let Ok(event) = serde_json::from_slice(line) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

fn line_of(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(512);
    line.push(b'\n');
    serde_json::to_writer(&mut line, event)?;
    if line.len() > LONGEST {
        let bare = Event { attributes: BTreeMap::new(), ..event.clone() };
        line.truncate(1);
        serde_json::to_writer(&mut line, &bare)?;
    }
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn journal(directory: &Path, file_size: u64) -> Events {
        Events { files: Generations::new(directory, NAME, 500), file_size }
    }

    fn event(number: usize) -> Event {
        let at = Timestamp::from_second(1_700_000_000 + number as i64).expect("in range");
        Event::new(at, EventKind::Container, "start", format!("{number:064}"), "name")
    }

    fn all(reader: &mut EventReader) -> Vec<Event> {
        std::iter::from_fn(|| reader.read_next().expect("read")).collect()
    }

    #[test]
    fn what_is_written_is_read_and_has_dockers_names() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let events = journal(directory.path(), FILE_SIZE);
        let mut from_start = events.read(EventsFrom::Beginning).expect("nothing is there");
        let mut image = event(1).with("exitCode", 3).with("a label", "a\nb\u{1b}");
        image.image = Some("docker.io/library/alpine:3".into());
        events.append(&[event(0)]).expect("append");
        let mut from_now = events.read(EventsFrom::Now).expect("read");
        events.append(std::slice::from_ref(&image)).expect("append");
        assert_eq!(all(&mut from_start), [event(0), image.clone()]);
        assert_eq!(all(&mut from_now), [image]);
        assert_eq!(all(&mut from_now), []);
        let text = fs::read_to_string(directory.path().join("events")).expect("read");
        let expected = format!(
            "{{\"time\":1700000001,\"timeNano\":1700000001000000000,\"type\":\"container\",\"action\":\"start\",\
             \"id\":\"{:064}\",\"name\":\"name\",\"image\":\"docker.io/library/alpine:3\",\
             \"attributes\":{{\"a label\":\"a\\nb\\u001b\",\"exitCode\":\"3\"}}}}",
            1
        );
        assert_eq!(text.lines().last(), Some(&*expected));
    }

    #[test]
    fn what_a_power_cut_left_spoils_no_other_line() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let events = journal(directory.path(), FILE_SIZE);
        let path = directory.path().join("events");
        events.append(&[event(0)]).expect("append");
        let whole = fs::read(&path).expect("read");
        for length in 1..whole.len() {
            for rest in [&b""[..], b"\0\0\0\0"] {
                let mut torn = whole.clone();
                torn.extend_from_slice(&whole[..length]);
                torn.extend_from_slice(rest);
                fs::write(&path, torn).expect("write");
                events.append(&[event(2)]).expect("append");
                let mut read = all(&mut events.read(EventsFrom::Beginning).expect("read"));
                // It was whole but for the line feed.
                read.dedup();
                assert_eq!(read, [event(0), event(2)], "{length}");
            }
        }
    }

    #[test]
    fn attributes_that_are_too_long_are_left_out() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let events = journal(directory.path(), FILE_SIZE);
        events.append(&[event(0).with("label", "x".repeat(LONGEST))]).expect("append");
        assert_eq!(all(&mut events.read(EventsFrom::Beginning).expect("read")), [event(0)]);
    }

    #[test]
    fn old_ones_go() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let events = Events { files: Generations::new(directory.path(), NAME, 3), file_size: 1000 };
        for number in 0..100 {
            events.append(&[event(number)]).expect("append");
        }
        let read = all(&mut events.read(EventsFrom::Beginning).expect("read"));
        assert!(read.len() < 40 && read.last() == Some(&event(99)), "{}", read.len());
        assert!(fs::read_dir(directory.path()).expect("list").count() <= 3);
    }

    #[test]
    fn a_file_that_was_renamed_is_not_written_to() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let events = journal(directory.path(), FILE_SIZE);
        let line = line_of(&event(1)).expect("JSON");
        let slow = events.open_newest().expect("open");
        let other = events.open_newest().expect("open");
        // Nobody begins a new file while somebody writes to this one.
        assert!(flock::try_lock(&slow, Mode::Shared).expect("lock"));
        events.begin_new(&other).expect("begin");
        assert!(!directory.path().join("events.1").exists());
        drop(slow);
        let slow = events.open_newest().expect("open");
        events.begin_new(&other).expect("begin");
        assert!(directory.path().join("events.1").exists());
        assert!(!events.append_to(&slow, &line, true).expect("append"), "its lock is held");
        drop(other);
        assert!(!events.append_to(&slow, &line, true).expect("append"), "it was renamed");
        assert_eq!(slow.metadata().expect("there").len(), 0);
        // And neither of two that saw it full renames the other's new file.
        events.append(&[event(1)]).expect("append");
        events.begin_new(&slow).expect("begin");
        assert!(directory.path().join("events").exists());
        assert!(events.append_to(&slow, &line, false).expect("append"), "rather there than nowhere");
    }

    /// Writers race, each with new files all the time, and two follow: each event is read once, those of a writer in order.
    #[test]
    fn racing_writers_lose_nothing() {
        const WRITERS: usize = 4;
        const EACH: usize = 300;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let events = journal(directory.path(), 3000);
        let done = AtomicBool::new(false);
        let together = Barrier::new(WRITERS);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let mut reader = events.read(EventsFrom::Beginning).expect("read");
                    let done = &done;
                    scope.spawn(move || {
                        let mut read = Vec::new();
                        loop {
                            let last = done.load(Ordering::Acquire);
                            read.extend(all(&mut reader));
                            if last {
                                return read;
                            }
                        }
                    })
                })
                .collect();
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (events, together) = (&events, &together);
                    scope.spawn(move || {
                        for number in 0..EACH {
                            // Now and then one is alone with it, and surely finds the lock free.
                            let alone = number % 30 == 0;
                            let first = !alone || together.wait().is_leader();
                            if alone && !first {
                                together.wait();
                            }
                            events.append(&[event(number).with("writer", writer)]).expect("append");
                            if alone && first {
                                together.wait();
                            }
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.join().expect("no panic");
            }
            done.store(true, Ordering::Release);
            assert!(directory.path().join("events.8").exists(), "new files were begun");
            for reader in readers {
                let read = reader.join().expect("no panic");
                for writer in 0..WRITERS {
                    let mine = read.iter().filter(|event| event.attributes["writer"] == writer.to_string());
                    let numbers: Vec<i64> = mine.map(|event| event.time - 1_700_000_000).collect();
                    assert!(numbers == (0..EACH as i64).collect::<Vec<_>>(), "{writer}: {}", numbers.len());
                }
            }
        });
    }
}
