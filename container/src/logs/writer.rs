//! The side that writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use memchr::{memchr_iter, memrchr};
use rbox_store::Generations;
use rbox_sys::signal;

use super::format::{Format, Stream};
use super::options::LogOptions;
use super::split::{LONGEST_PIECE, Splitter};
use super::{NAME, NEW};

/// Bytes that are written at once at most, but for the last line of them.
const BATCH: usize = 64 * 1024;

/// After a failure, nothing is tried for so long: on a full disk each attempt may make the filesystem search.
const PAUSE: SignedDuration = SignedDuration::from_millis(100);

/// Writes a container's log, for a process that waits for its output in a poll loop.
///
/// After [`open`](Self::open) nothing fails: what there is no room for (ENOSPC, EDQUOT, EFBIG) or what cannot be written for
/// whatever other reason is dropped and counted, and once there is room again, a line among those of standard error says how
/// many lines are missing. A line longer than [`LONGEST_PIECE`] counts piece by piece.
///
/// Memory: one buffer of 170 KB, of which only as much is ever touched as is written at once, and 16 KiB for each stream
/// that has printed something without a line feed.
#[derive(Debug)]
pub struct LogWriter(Option<Log>);

#[derive(Debug)]
struct Log {
    format: Format,
    files: Generations,
    new: PathBuf,
    max_size: u64,
    file: File,
    size: u64,
    /// Whether the file ends in what could not be taken back.
    torn: bool,
    /// Of each stream: what is held back; whether the last piece that was encoded leaves its line open; whether the last
    /// one in the file does.
    splitters: [Splitter; 2],
    open: [bool; 2],
    open_in_file: [bool; 2],
    /// Whole lines, not yet written.
    out: Vec<u8>,
    /// The time as the format has it.
    time: Vec<u8>,
    lost: u64,
    why: Option<io::Error>,
    again_at: Timestamp,
    rotate_at: Timestamp,
}

impl LogWriter {
    /// Goes on with the log in this directory, or begins it.
    ///
    /// What a writer that was killed left half-written is taken back, and a line that it left open is ended, so that what
    /// comes begins a line. SIGXFSZ is ignored by this process from here on: a file that grows too large is an error to be
    /// dealt with like a full disk.
    pub fn open(directory: &Path, options: &LogOptions, now: Timestamp) -> io::Result<Self> {
        let Some(format) = options.driver.format() else { return Ok(Self(None)) };
        signal::ignore_file_size_limit();
        let files = Generations::new(directory, NAME, options.max_file);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(files.newest())?;
        let size = end_of_lines(&file)?;
        if size < file.metadata()?.len() {
            file.set_len(size)?;
        }
        let mut log = Log {
            format,
            new: directory.join(NEW),
            files,
            max_size: options.max_size.unwrap_or(u64::MAX),
            size,
            torn: false,
            splitters: Default::default(),
            open: [false; 2],
            open_in_file: left_open(&file, size, format)?,
            file,
            out: Vec::with_capacity(BATCH + Format::longest(LONGEST_PIECE)),
            time: Vec::with_capacity(48),
            lost: 0,
            why: None,
            again_at: Timestamp::MIN,
            rotate_at: Timestamp::MIN,
        };
        log.set_time(now);
        log.open = log.open_in_file;
        for stream in Stream::BOTH {
            if log.open_in_file[stream.index()] {
                log.encode(stream, b"", true, now);
            }
        }
        log.write_out(log.out.len(), now);
        Ok(Self(Some(log)))
    }

    /// Takes what was read from a stream: whole lines are in the file after this, what follows the last of them is held
    /// back until its end comes.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        self.act(stream, now, |splitter, mut give| splitter.feed(bytes, &mut give));
    }

    /// Both streams have ended: writes what is held back, and how much was lost.
    pub fn finish(&mut self, now: Timestamp) {
        if let Some(log) = &mut self.0 {
            log.again_at = Timestamp::MIN;
        }
        for stream in Stream::BOTH {
            self.act(stream, now, |splitter, mut give| splitter.finish(&mut give));
        }
        if let Some(log) = &mut self.0
            && log.lost > 0
        {
            log.note_loss(now);
        }
    }

    /// How many lines were lost since it was last written down that lines were.
    pub fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |log| log.lost)
    }

    fn act(&mut self, stream: Stream, now: Timestamp, split: impl FnOnce(&mut Splitter, &mut dyn FnMut(&[u8], bool))) {
        let Some(log) = &mut self.0 else { return };
        log.set_time(now);
        // Moved out for the moment, which costs three words and lets the pieces be encoded where they lie.
        let mut splitter = std::mem::take(&mut log.splitters[stream.index()]);
        split(&mut splitter, &mut |text, ends| log.encode(stream, text, ends, now));
        log.splitters[stream.index()] = splitter;
        log.write_out(log.out.len(), now);
    }
}

impl Log {
    fn set_time(&mut self, now: Timestamp) {
        self.time.clear();
        self.format.write_time(now, &mut self.time);
    }

    /// Puts a piece behind what is to be written; writes that where it is enough, and begins a new file where this one is
    /// full.
    fn encode(&mut self, stream: Stream, text: &[u8], ends: bool, now: Timestamp) {
        let before = self.out.len();
        self.format.encode(&self.time, stream, text, ends, &mut self.out);
        if self.size + self.out.len() as u64 > self.max_size && self.size + before as u64 > 0 {
            let piece = self.out.len() - before;
            self.write_out(before, now);
            debug_assert_eq!(self.out.len(), piece);
            self.rotate(now);
        }
        self.open[stream.index()] = !ends;
        if self.out.len() >= BATCH {
            self.write_out(self.out.len(), now);
        }
    }

    /// Writes the first `end` bytes, which are whole lines, or counts them among what is lost.
    fn write_out(&mut self, end: usize, now: Timestamp) {
        if end == 0 {
            return;
        }
        let held_off = self.lost > 0
            && (now < self.again_at && self.again_at.duration_since(now) <= PAUSE || !self.note_loss(now));
        let out = std::mem::take(&mut self.out);
        let kept = if held_off { 0 } else { self.write(&out[..end], now) };
        if kept == end && end == out.len() {
            self.open_in_file = self.open;
        } else {
            self.look_what_is_open(&out[..kept]);
        }
        self.lost += memchr_iter(b'\n', &out[kept..end]).count() as u64;
        self.out = out;
        self.out.drain(..end);
    }

    /// Writes whole lines; gives the length of those that are in the file then.
    fn write(&mut self, lines: &[u8], now: Timestamp) -> usize {
        let mut written = 0;
        let error = loop {
            match (&self.file).write(&lines[written..]) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
            if written == lines.len() {
                self.size += written as u64;
                return written;
            }
        };
        let kept = memrchr(b'\n', &lines[..written]).map_or(0, |at| at + 1);
        self.size += kept as u64;
        if kept < written {
            // Readers pass over what no line feed follows; and whoever writes next takes it for damage at worst.
            self.torn = self.file.set_len(self.size).is_err();
        }
        self.why.get_or_insert(error);
        self.again_at = now.saturating_add(PAUSE).unwrap_or(Timestamp::MAX);
        kept
    }

    /// Ends what is open, and writes down that lines are missing. Whether that was possible.
    fn note_loss(&mut self, now: Timestamp) -> bool {
        let mut note = Vec::new();
        if self.torn {
            note.push(b'\n');
        }
        let open = Stream::BOTH.into_iter().filter(|stream| self.open_in_file[stream.index()]);
        open.for_each(|stream| self.format.encode(&self.time, stream, b"", true, &mut note));
        let why = self.why.as_ref().map_or_else(String::new, |error| format!(": {}", words(error)));
        let lines = if self.lost == 1 { "line is" } else { "lines are" };
        let text = format!("[rbox: {} {lines} missing here{why}]", self.lost);
        self.format.encode(&self.time, Stream::Stderr, text.as_bytes(), true, &mut note);
        if self.write(&note, now) < note.len() {
            return false;
        }
        (self.torn, self.lost, self.why, self.open_in_file) = (false, 0, None, [false; 2]);
        true
    }

    /// Which lines are open after these, which are in the file.
    fn look_what_is_open(&mut self, lines: &[u8]) {
        for line in lines.split(|byte| *byte == b'\n') {
            if let Some(entry) = self.format.decode(line) {
                self.open_in_file[entry.stream.index()] = !entry.ends;
            }
        }
    }

    /// Goes on in a new file; in this one where that cannot be made.
    fn rotate(&mut self, now: Timestamp) {
        if now < self.rotate_at && self.rotate_at.duration_since(now) <= PAUSE {
            return;
        }
        let make = || -> io::Result<File> {
            // Made first: on a full disk, all stays as it is.
            let open = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.new)?;
            open.set_len(0)?;
            self.files.shift()?;
            fs::rename(&self.new, self.files.newest())?;
            Ok(open)
        };
        match make() {
            Ok(file) => (self.file, self.size, self.torn) = (file, 0, false),
            Err(_) => self.rotate_at = now.saturating_add(PAUSE).unwrap_or(Timestamp::MAX),
        }
    }
}

/// The system's words, without Rust's number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Where the last line ends.
fn end_of_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.read_exact_at(block, start)?;
        if let Some(at) = memrchr(b'\n', block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Of each stream, whether its last line has no end. One that printed nothing for a long time has none open as far as a
/// reader cares, so no more than the end of the file is looked at.
fn left_open(file: &File, size: u64, format: Format) -> io::Result<[bool; 2]> {
    let start = size.saturating_sub(2 * Format::longest(LONGEST_PIECE) as u64);
    let mut end = vec![0; (size - start) as usize];
    file.read_exact_at(&mut end, start)?;
    let mut open = [false; 2];
    for entry in end.split(|byte| *byte == b'\n').filter_map(|line| format.decode(line)) {
        open[entry.stream.index()] = !entry.ends;
    }
    Ok(open)
}
