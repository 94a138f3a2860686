//! The side that reads.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use rbox_store::{Generations, Lines, Waiter};
use rbox_types::{ContainerId, ContainerName};

use super::NAME;
use super::format::{Entry, Format};
use super::options::LogOptions;
use crate::record::{Made, Record};
use crate::{Engine, Error};

/// Which part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogSelection {
    /// Its last lines, so many of them; all if none. What the other two leave out of those is not made up for.
    pub tail: Option<u64>,
    /// What was printed at that time or later.
    pub since: Option<Timestamp>,
    /// What was printed at that time or before.
    pub until: Option<Timestamp>,
}

/// A container's log as others see it.
#[derive(Debug, Clone)]
pub struct ContainerLog {
    /// Whose.
    pub id: ContainerId,
    /// Likewise.
    pub name: ContainerName,
    directory: PathBuf,
    options: LogOptions,
}

impl Engine {
    /// The log of a container, by its name or the beginning of its id.
    pub fn log(&self, name_or_id: &str) -> Result<ContainerLog, Error> {
        let entry = self.store.find_container(name_or_id)?;
        let made = Made::read(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
        let Some(options) = made.and_then(|made| made.log) else { return Err(Error::NoLog(entry.name)) };
        if options.driver.format().is_none() {
            return Err(Error::UnreadableLog { container: entry.name, driver: options.driver });
        }
        Ok(ContainerLog { id: entry.id, name: entry.name, directory: entry.path, options })
    }

    /// Whether nothing more will be written to this log: nobody holds the container's lock, or it is gone.
    pub fn has_ended(&self, log: &ContainerLog) -> bool {
        !self.store.find_container(log.id.as_str()).is_ok_and(|entry| entry.running)
    }
}

impl ContainerLog {
    /// Begins to read.
    pub fn read(&self, selection: LogSelection) -> Result<LogReader, Error> {
        let failed = || Error::io("read the log in", self.directory.display());
        LogReader::open(self.directory.clone(), &self.options, selection).map_err(failed())
    }
}

/// Reads a log, and what is added to it.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    format: Format,
    lines: Lines,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl LogReader {
    /// Of the log in this directory. A driver that keeps none is refused (`Unsupported`).
    pub fn open(directory: PathBuf, options: &LogOptions, selection: LogSelection) -> io::Result<Self> {
        let format = options.driver.format().ok_or(io::ErrorKind::Unsupported)?;
        let mut lines = Lines::open(Generations::new(&directory, NAME, options.max_file))?;
        if let Some(tail) = selection.tail {
            // Backwards, a piece that does not end its line begins one if it is its stream's last.
            let mut seen = [false; 2];
            lines.seek_to_last(tail, &mut |line| match format.decode(line) {
                Some(entry) => !std::mem::replace(&mut seen[entry.stream.index()], true) || entry.ends,
                None => false,
            })?;
        }
        Ok(Self { directory, format, lines, since: selection.since, until: selection.until })
    }

    /// Gives all that is there now, and then none; with `onward`, in files too that were begun since this was opened.
    pub fn all<E: From<Error>>(
        &mut self,
        onward: bool,
        give: &mut dyn FnMut(Option<Entry<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error| Error::io("read the log in", self.directory.display())(error);
        while let Some(line) = self.lines.next(onward).map_err(failed)? {
            let Some(entry) = self.format.decode(line) else { continue };
            let bounded = self.since.is_some() || self.until.is_some();
            let time = if bounded { entry.time() } else { None };
            // What has no time that can be read is in no range.
            let too_early = self.since.is_some_and(|since| time.is_none_or(|time| time < since));
            let too_late = self.until.is_some_and(|until| time.is_none_or(|time| time > until));
            if !too_early && !too_late {
                give(Some(entry))?;
            }
        }
        give(None)
    }

    /// Gives what is there and what comes, until `ended` says that there will be nothing more, and all that was written
    /// until then has been given; or until the time is past which nothing was asked for. None is given where there is
    /// nothing more for now.
    pub fn follow<E: From<Error>>(
        &mut self,
        ended: &mut dyn FnMut() -> bool,
        give: &mut dyn FnMut(Option<Entry<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut waiter = Waiter::of_directory(&self.directory);
        loop {
            // In this order: what is written before the end is seen after it.
            let over = ended() || self.until.is_some_and(|until| Timestamp::now() > until);
            self.all(true, give)?;
            if over {
                return Ok(());
            }
            waiter.wait().map_err(Error::io("watch", self.directory.display()))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Driver, LONGEST_PIECE, LogWriter, Stream};
    use jiff::SignedDuration;
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    const DRIVERS: [Driver; 2] = [Driver::JsonFile, Driver::K8sFile];

    fn options(driver: Driver, max_size: u64, max_file: u32) -> LogOptions {
        LogOptions { driver, max_size: Some(max_size), max_file }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    /// What both streams printed.
    fn text(directory: &Path, options: &LogOptions, selection: LogSelection) -> [String; 2] {
        let mut text = [Vec::new(), Vec::new()];
        let mut reader = LogReader::open(directory.to_owned(), options, selection).expect("open");
        reader.all(false, &mut |entry| add(&mut text, entry)).expect("read");
        text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn add(text: &mut [Vec<u8>; 2], entry: Option<Entry<'_>>) -> Result<(), Error> {
        let Some(entry) = entry else { return Ok(()) };
        let to = &mut text[entry.stream.index()];
        to.extend_from_slice(&entry.text);
        to.extend_from_slice(if entry.ends { b"\n" } else { b"" });
        Ok(())
    }

    fn last(directory: &Path, options: &LogOptions, tail: u64) -> [String; 2] {
        text(directory, options, LogSelection { tail: Some(tail), ..LogSelection::default() })
    }

    #[test]
    fn streams_apart_and_long_lines_whole() {
        for driver in DRIVERS {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let options = LogOptions { driver, ..LogOptions::default() };
            let mut writer = LogWriter::open(directory.path(), &options, at(0)).expect("open");
            let long = "é".repeat(3 * LONGEST_PIECE);
            writer.feed(Stream::Stdout, format!("out\n{long}").as_bytes(), at(1));
            writer.feed(Stream::Stderr, b"err\nunfinished", at(2));
            writer.feed(Stream::Stdout, b"!\n\n", at(3));
            writer.finish(at(4));
            let all = text(directory.path(), &options, LogSelection::default());
            assert!(all == [format!("out\n{long}!\n\n"), "err\nunfinished".into()], "{driver}");
            // From the end: stderr's rest, then stdout's.
            assert_eq!(last(directory.path(), &options, 1), ["".into(), "unfinished".to_owned()]);
            assert_eq!(last(directory.path(), &options, 2), ["\n".into(), "unfinished".to_owned()]);
            assert_eq!(last(directory.path(), &options, 0), ["", ""]);
            assert!(last(directory.path(), &options, 99) == all);
        }
    }

    #[test]
    fn since_and_until_are_in_the_range() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = LogOptions::default();
        let mut writer = LogWriter::open(directory.path(), &options, at(0)).expect("open");
        for second in 1..6 {
            writer.feed(Stream::Stdout, format!("{second}\n").as_bytes(), at(second));
        }
        let select = |tail, since: Option<i64>, until: Option<i64>| {
            let selection = LogSelection { tail, since: since.map(at), until: until.map(at) };
            text(directory.path(), &options, selection)[0].replace('\n', "")
        };
        assert_eq!(select(None, Some(3), None), "345");
        assert_eq!(select(None, None, Some(3)), "123");
        assert_eq!(select(None, Some(2), Some(4)), "234");
        assert_eq!(select(Some(2), Some(2), Some(4)), "4", "of the last two");
        assert_eq!(select(None, Some(9), None), "");
    }

    #[test]
    fn a_full_file_is_followed_by_another() {
        for driver in DRIVERS {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let options = options(driver, 1000, 3);
            let mut writer = LogWriter::open(directory.path(), &options, at(0)).expect("open");
            for number in 0..200 {
                writer.feed(Stream::Stdout, format!("line {number}\nand {number}\n").as_bytes(), at(number));
            }
            let mut names: Vec<_> = fs::read_dir(directory.path())
                .expect("list")
                .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
                .collect();
            names.sort();
            assert_eq!(names, ["log", "log.1", "log.2"], "{driver}");
            for name in &names {
                let size = fs::metadata(directory.path().join(name)).expect("there").len();
                assert!((1..=1000).contains(&size), "{name}: {size}");
            }
            let [all, _] = text(directory.path(), &options, LogSelection::default());
            let expected: String = (0..200).map(|number| format!("line {number}\nand {number}\n")).collect();
            assert!(expected.ends_with(&all) && all.len() > 200, "the end of it: {all}");
            let two_files = all.lines().count() as u64 - 3;
            let [tail, _] = last(directory.path(), &options, two_files);
            assert!(all.ends_with(&tail) && tail.lines().count() as u64 == two_files);
            // One that alone is larger than a file may be is kept all the same.
            let long = "x".repeat(3000);
            writer.feed(Stream::Stdout, format!("{long}\n").as_bytes(), at(0));
            assert_eq!(last(directory.path(), &options, 1)[0].trim_end(), long);
        }
    }

    #[test]
    fn a_writer_that_was_killed_leaves_no_trace_in_the_next_ones_lines() {
        for driver in DRIVERS {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let options = LogOptions { driver, ..LogOptions::default() };
            let mut writer = LogWriter::open(directory.path(), &options, at(0)).expect("open");
            writer.feed(Stream::Stdout, b"one\ntwo\n", at(1));
            writer.feed(Stream::Stderr, b"prompt> ", at(1));
            writer.finish(at(1));
            drop(writer);
            let path = directory.path().join("log");
            let whole = fs::read(&path).expect("read");
            let one = whole.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
            for length in (0..=whole.len()).rev() {
                fs::write(&path, &whole[..length]).expect("write");
                let before = text(directory.path(), &options, LogSelection::default());
                assert!("one\ntwo\n".starts_with(&before[0]) && "prompt> ".starts_with(&before[1]), "{before:?}");
                let mut next = LogWriter::open(directory.path(), &options, at(2)).expect("open");
                next.feed(Stream::Stdout, b"next\n", at(3));
                next.feed(Stream::Stderr, b"error\n", at(3));
                let after = text(directory.path(), &options, LogSelection::default());
                assert_eq!(after[0], format!("{}next\n", before[0]), "{length}");
                let prompt = if before[1].is_empty() { "" } else { "prompt> \n" };
                assert_eq!(after[1], format!("{prompt}error\n"), "{length}");
                if length < one {
                    assert_eq!(before, ["", ""]);
                }
            }
        }
    }

    /// A writer whose files are full all the time, and two that follow it: both see every byte, and end when it has.
    #[test]
    fn two_follow_a_log_that_is_continued_in_new_files_all_the_time() {
        for driver in DRIVERS {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let options = options(driver, 4000, LogOptions::MOST_FILES);
            let written = AtomicBool::new(false);
            thread::scope(|scope| {
                let readers: Vec<_> = (0..2)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut text = [Vec::new(), Vec::new()];
                            let mut reader =
                                LogReader::open(directory.path().into(), &options, LogSelection::default())
                                    .expect("open");
                            let mut ended = || written.load(Ordering::Acquire);
                            reader.follow(&mut ended, &mut |entry| add(&mut text, entry)).expect("follow");
                            text
                        })
                    })
                    .collect();
                let mut writer = LogWriter::open(directory.path(), &options, at(0)).expect("open");
                let mut expected = [Vec::new(), Vec::new()];
                let mut random = rbox_fuzz::Random::new(3);
                for number in 0..3000 {
                    let stream = Stream::BOTH[random.below(2)];
                    let end = if random.one_in(3) { "" } else { "\n" };
                    let printed = format!("{number}{}{end}", "-".repeat(random.below(200)));
                    expected[stream.index()].extend_from_slice(printed.as_bytes());
                    writer.feed(stream, printed.as_bytes(), at(number));
                }
                writer.finish(at(3000));
                written.store(true, Ordering::Release);
                assert!(directory.path().join("log.20").exists());
                for reader in readers {
                    assert!(reader.join().expect("no panic") == expected);
                }
            });
        }
    }

    #[test]
    fn following_ends_at_the_time_that_was_asked_for() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = LogOptions::default();
        let mut writer = LogWriter::open(directory.path(), &options, at(0)).expect("open");
        writer.feed(Stream::Stdout, b"a\n", at(1));
        let until = Some(Timestamp::now() - SignedDuration::from_secs(1));
        let selection = LogSelection { until, ..LogSelection::default() };
        let mut text = [Vec::new(), Vec::new()];
        let mut reader = LogReader::open(directory.path().into(), &options, selection).expect("open");
        reader.follow(&mut || false, &mut |entry| add(&mut text, entry)).expect("follow");
        assert_eq!(text[0], b"a\n");
    }

    #[test]
    fn drivers_that_keep_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for driver in [Driver::None, Driver::Passthrough] {
            let options = LogOptions { driver, ..LogOptions::default() };
            let mut writer = LogWriter::open(directory.path(), &options, at(0)).expect("open");
            writer.feed(Stream::Stdout, b"a\n", at(1));
            writer.finish(at(1));
            let error = LogReader::open(directory.path().into(), &options, LogSelection::default());
            assert_eq!(error.expect_err("refused").kind(), io::ErrorKind::Unsupported);
        }
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0);
    }
}
