//! Reading what grows: whole lines, from the oldest file of [`Generations`] to the newest, and on as more comes.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::{memchr, memrchr};

use crate::generations::{FileId, Generations};

/// What is read at once.
const BLOCK: usize = 64 * 1024;

/// The longest line there is. A longer one is damage, and passed over.
const LONGEST: usize = 1024 * 1024;

/// Whole lines, in the order in which they were written.
///
/// What follows the last line feed is never given: its writer may still be at it, or have died over it, and the next one
/// takes it back. So a file is read anew from the last line feed on, each time.
#[derive(Debug)]
pub struct Lines {
    files: Generations,
    /// The oldest first, which is being read.
    queue: VecDeque<Open>,
    /// Where in that one `buffer` begins.
    offset: u64,
    buffer: Vec<u8>,
    filled: usize,
    /// Where in the buffer the next line begins.
    at: usize,
    /// Whether that is the rest of a line that was too long.
    skipping: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
    /// Nobody writes to it any more: there was a newer one when it was last looked at.
    complete: bool,
}

impl Lines {
    /// From the very first line on.
    pub fn open(files: Generations) -> io::Result<Self> {
        let mut lines = Self {
            queue: VecDeque::new(),
            offset: 0,
            buffer: vec![0; BLOCK],
            filled: 0,
            at: 0,
            skipping: false,
            files,
        };
        let found = lines.files.open()?;
        lines.append(found);
        Ok(lines)
    }

    /// The next line, without its line feed. None: there is no more for now; once more is there, it is given.
    ///
    /// With `onward`, that goes on in files that were made since. Without, it ends with the one that was the newest when
    /// this was opened.
    pub fn next(&mut self, onward: bool) -> io::Result<Option<&[u8]>> {
        loop {
            if let Some(length) = memchr(b'\n', &self.buffer[self.at..self.filled]) {
                let line = self.at..self.at + length;
                self.at = line.end + 1;
                if !std::mem::take(&mut self.skipping) {
                    return Ok(Some(&self.buffer[line]));
                }
            } else if !self.fill(onward)? {
                return Ok(None);
            }
        }
    }

    /// Passes over all but the last `count` lines of those that count, and what stands between and after them. Begins from
    /// the end, and reads no more than that takes; `counts` sees the last line first.
    pub fn seek_to_last(&mut self, count: u64, counts: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
        let mut left = count;
        for index in (0..self.queue.len()).rev() {
            if let Some(offset) = behind_line(&self.queue[index].file, &mut left, counts)? {
                self.queue.drain(..index);
                (self.offset, self.at, self.filled, self.skipping) = (offset, 0, 0, false);
                break;
            }
        }
        Ok(())
    }

    /// Fills the buffer with something that has a line feed, from the next line on.
    fn fill(&mut self, onward: bool) -> io::Result<bool> {
        self.offset += self.at as u64;
        (self.at, self.filled) = (0, 0);
        loop {
            let Some(front) = self.queue.front() else {
                let found = if onward { self.files.open()? } else { Vec::new() };
                if found.is_empty() {
                    return Ok(false);
                }
                self.append(found);
                continue;
            };
            let read = front.file.read_at(&mut self.buffer, self.offset)?;
            if memchr(b'\n', &self.buffer[..read]).is_some() {
                self.filled = read;
                return Ok(true);
            }
            if read == self.buffer.len() && read < LONGEST {
                self.buffer.resize(read * 2, 0);
            } else if read == self.buffer.len() {
                self.offset += read as u64;
                self.skipping = true;
            } else if front.complete {
                self.queue.pop_front();
                (self.offset, self.skipping) = (0, false);
            } else {
                let newer = if onward { self.files.open_newer(front.id)? } else { Vec::new() };
                if newer.is_empty() {
                    return Ok(false);
                }
                // To its end once more: something may have been written before the newer one was made.
                self.append(newer);
            }
        }
    }

    /// Files newer than those in the queue, the newest first.
    fn append(&mut self, newer: Vec<(File, FileId)>) {
        for (file, id) in newer.into_iter().rev() {
            if let Some(last) = self.queue.back_mut() {
                last.complete = true;
            }
            self.queue.push_back(Open { file, id, complete: false });
        }
    }
}

/// Looks at a file's lines from the last one on, until one counts and `left` is 0; gives where the line after it begins.
fn behind_line(file: &File, left: &mut u64, counts: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<Option<u64>> {
    let mut start = file.metadata()?.len();
    // From `start` on, up to a line feed once there was one.
    let mut window = Vec::new();
    let mut whole = false;
    loop {
        let line = match memrchr(b'\n', &window) {
            Some(at) => at + 1,
            None if start == 0 => 0,
            None => {
                let from = start.saturating_sub(BLOCK as u64);
                let mut block = vec![0; (start - from) as usize];
                file.read_exact_at(&mut block, from)?;
                block.append(&mut window);
                (window, start) = (block, from);
                continue;
            }
        };
        if whole && counts(&window[line..]) {
            if *left == 0 {
                return Ok(Some(start + window.len() as u64 + 1));
            }
            *left -= 1;
        }
        if line == 0 {
            return Ok(None);
        }
        window.truncate(line - 1);
        whole = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    fn all(lines: &mut Lines, onward: bool) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(line) = lines.next(onward).expect("read") {
            found.push(String::from_utf8_lossy(line).into_owned());
        }
        found
    }

    fn append(files: &Generations, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(files.newest()).expect("open");
        file.write_all(text.as_bytes()).expect("write");
    }

    #[test]
    fn whole_lines_only_and_on_in_newer_files() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Generations::new(directory.path(), "log", 9);
        let mut lines = Lines::open(files.clone()).expect("open");
        assert_eq!(all(&mut lines, true), [""; 0]);
        append(&files, "a\n\nto");
        assert_eq!(all(&mut lines, true), ["a", ""]);
        append(&files, "rn\nlast");
        files.shift().expect("shift");
        append(&files, "b\n");
        let mut ends_here = Lines::open(files.clone()).expect("open");
        files.shift().expect("shift");
        append(&files, "c\n");
        // What was cut short in an older file has been taken back, or never will be whole.
        assert_eq!(all(&mut lines, true), ["torn", "b", "c"]);
        assert_eq!(all(&mut ends_here, false), ["a", "", "torn", "b"]);
        assert_eq!(all(&mut ends_here, true), ["c"]);
    }

    #[test]
    fn a_line_that_was_taken_back_is_not_mixed_with_the_next() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Generations::new(directory.path(), "log", 2);
        append(&files, "whole\nbroken off");
        let mut lines = Lines::open(files.clone()).expect("open");
        assert_eq!(all(&mut lines, true), ["whole"]);
        OpenOptions::new().write(true).open(files.newest()).expect("open").set_len(6).expect("truncate");
        append(&files, "next\n");
        assert_eq!(all(&mut lines, true), ["next"]);
    }

    #[test]
    fn lines_of_any_length() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Generations::new(directory.path(), "log", 2);
        let expected = [BLOCK - 1, BLOCK, BLOCK + 1, LONGEST - 1, 0, 3].map(|length| "x".repeat(length));
        append(&files, &expected.join("\n"));
        append(&files, &format!("\n{}\nafter\n", "y".repeat(LONGEST * 2 + 7)));
        let mut lines = Lines::open(files).expect("open");
        let found = all(&mut lines, false);
        assert_eq!(found.len(), 7);
        assert!(found[..6] == expected, "up to a megabyte");
        assert_eq!(found[6], "after");
    }

    #[test]
    fn the_last_ones_are_found_from_the_end() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Generations::new(directory.path(), "log", 9);
        for text in ["1\n2\n-\n", "", "3\n-\n4\n-\n", "5\ntorn"] {
            append(&files, text);
            if !text.ends_with("torn") {
                files.shift().expect("shift");
            }
        }
        let last = |count, seen: &mut Vec<String>| {
            let mut lines = Lines::open(files.clone()).expect("open");
            let mut counts = |line: &[u8]| {
                seen.push(String::from_utf8_lossy(line).into_owned());
                line != b"-"
            };
            lines.seek_to_last(count, &mut counts).expect("seek");
            all(&mut lines, true).join(" ")
        };
        for (count, expected) in
            [(0, ""), (1, "- 5"), (2, "- 4 - 5"), (3, "- 3 - 4 - 5"), (5, "1 2 - 3 - 4 - 5"), (99, "1 2 - 3 - 4 - 5")]
        {
            assert_eq!(last(count, &mut Vec::new()), expected, "{count}");
        }
        let mut seen = Vec::new();
        last(1, &mut seen);
        assert_eq!(seen, ["5", "-", "4"], "no more than that takes");
    }

    #[test]
    fn the_last_ones_of_many_blocks() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Generations::new(directory.path(), "log", 2);
        let text: Vec<String> = (0..9000).map(|number| format!("{number} {}", "z".repeat(number % 97))).collect();
        append(&files, &(text.join("\n") + "\n"));
        for count in [1, 100, 5000, 8999, 9000] {
            let mut lines = Lines::open(files.clone()).expect("open");
            lines.seek_to_last(count as u64, &mut |_| true).expect("seek");
            assert!(all(&mut lines, false) == text[9000 - count..], "{count}");
        }
    }

    /// Two readers, a writer, and new files all the time: each reads every line once, in order.
    #[test]
    fn nothing_is_lost_between_files() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Generations::new(directory.path(), "log", 400);
        let written = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut lines = Lines::open(files.clone()).expect("open");
                        let mut found = Vec::new();
                        loop {
                            let last = written.load(Ordering::Acquire);
                            found.extend(all(&mut lines, true));
                            if last {
                                return found;
                            }
                        }
                    })
                })
                .collect();
            for number in 0..4000 {
                if number % 30 == 29 {
                    files.shift().expect("shift");
                }
                append(&files, &format!("{number}\n"));
            }
            written.store(true, Ordering::Release);
            let expected: Vec<String> = (0..4000).map(|number| number.to_string()).collect();
            for reader in readers {
                assert!(reader.join().expect("no panic") == expected);
            }
        });
    }
}
