//! A log that there is no room for: nothing blocks, nothing fails, and what is missing is told.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use rbox_container::Error;
use rbox_container::logs::{Driver, LogOptions, LogReader, LogSelection, LogWriter, Stream};

const DIRECTORY: &str = "RBOX_LOG_TEST_DIRECTORY";

/// Runs the test called `name` of this binary once more, in a shell after `script`, with `$RBOX_LOG_TEST_DIRECTORY`.
fn again(name: &str, script: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let status = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &format!("{script} && exec \"$@\""), "sh"])
        .arg(env::current_exe().expect("own path"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory.path())
        .status()
        .expect("unshare of util-linux");
    assert!(status.success(), "{status}");
}

/// In the one that was run so.
fn directory() -> Option<PathBuf> {
    env::var_os(DIRECTORY).map(PathBuf::from)
}

fn options(driver: Driver) -> LogOptions {
    LogOptions { driver, ..LogOptions::default() }
}

fn lines(directory: &Path, driver: Driver) -> Vec<(Stream, String)> {
    let mut lines = Vec::new();
    let mut reader = LogReader::open(directory.to_owned(), &options(driver), LogSelection::default()).expect("open");
    let mut add = |entry: Option<rbox_container::logs::Entry<'_>>| -> Result<(), Error> {
        lines.extend(entry.map(|entry| (entry.stream, String::from_utf8_lossy(&entry.text).into_owned())));
        Ok(())
    };
    reader.all(true, &mut add).expect("read");
    lines
}

/// The number in a note of lines that are missing.
fn missing(line: &str) -> Option<u64> {
    let (number, rest) = line.strip_prefix("[rbox: ")?.split_once(' ')?;
    assert!(rest.starts_with("lines are missing here: ") || rest.starts_with("line is missing here: "), "{line}");
    number.parse().ok()
}

#[test]
fn a_full_disk() {
    let Some(directory) = directory() else {
        return again("a_full_disk", &format!("mount -t tmpfs -o size=96k tmpfs \"${DIRECTORY}\""));
    };
    for driver in [Driver::JsonFile, Driver::K8sFile] {
        let filler = directory.join("filler");
        fs::write(&filler, vec![0; 40_000]).expect("there is room for it");
        let mut now = Timestamp::from_second(1_700_000_000).expect("in range");
        let mut writer = LogWriter::open(&directory, &options(driver), now).expect("open");
        let mut fed = 0;
        let mut feed = |writer: &mut LogWriter, count: u64, now: &mut Timestamp| {
            for _ in 0..count {
                let text = format!("line {fed} {}\n", "-".repeat(fed as usize % 250));
                writer.feed(Stream::Stdout, text.as_bytes(), *now);
                *now += SignedDuration::from_millis(7);
                fed += 1;
            }
            fed
        };
        feed(&mut writer, 1000, &mut now);
        assert!(writer.lost() > 500, "{driver}: {}", writer.lost());
        let text = fs::read(directory.join("log")).expect("read");
        assert_eq!(text.last(), Some(&b'\n'), "{driver}: what was cut short is taken back");
        // Where a line had no room, a note that is shorter may have had.
        let accounted = |writer: &LogWriter| {
            let lines = lines(&directory, driver);
            let noted: Vec<u64> = lines.iter().filter_map(|(_, line)| missing(line)).collect();
            (lines.len() - noted.len()) as u64 + noted.iter().sum::<u64>() + writer.lost()
        };
        assert_eq!(accounted(&writer), 1000, "{driver}");

        // There is room, once the writer looks again.
        fs::remove_file(&filler).expect("there");
        now += SignedDuration::from_secs(1);
        let lost = writer.lost();
        let fed = feed(&mut writer, 3, &mut now);
        assert_eq!((writer.lost(), accounted(&writer)), (0, fed), "{driver}");
        let lines = lines(&directory, driver);
        let (stream, note) = &lines[lines.len() - 4];
        assert_eq!((*stream, missing(note)), (Stream::Stderr, Some(lost)), "{note}");
        assert!(note.to_lowercase().contains("no space left on device"), "{note}");
        assert!(lines.last().expect("lines").1.starts_with("line 1002 "), "{driver}");
        fs::remove_file(directory.join("log")).expect("there");
    }
}

/// The beginning of a long line is there, its end is not: what comes later is no part of it.
#[test]
fn a_disk_that_is_full_in_the_middle_of_a_line() {
    let Some(directory) = directory() else {
        let script = format!("mount -t tmpfs -o size=64k tmpfs \"${DIRECTORY}\"");
        return again("a_disk_that_is_full_in_the_middle_of_a_line", &script);
    };
    for driver in [Driver::JsonFile, Driver::K8sFile] {
        let filler = directory.join("filler");
        fs::write(&filler, vec![0; 20_000]).expect("there is room for it");
        let mut now = Timestamp::from_second(1_700_000_000).expect("in range");
        let mut writer = LogWriter::open(&directory, &options(driver), now).expect("open");
        writer.feed(Stream::Stdout, &[b'x'; 300_000], now);
        assert!(writer.lost() > 0);
        fs::remove_file(&filler).expect("there");
        now += SignedDuration::from_secs(1);
        writer.feed(Stream::Stdout, b"\nnext\n", now);
        let lines = lines(&directory, driver);
        let note = lines.iter().position(|(_, line)| missing(line).is_some()).expect("a note");
        assert_eq!(lines[note - 1], (Stream::Stdout, String::new()), "{driver}: the line's end");
        assert_eq!(lines.last().expect("lines"), &(Stream::Stdout, "next".into()), "{driver}");
        fs::remove_file(directory.join("log")).expect("there");
    }
}

/// A file that may not grow any more is a full disk, and no signal. A new file is not full.
#[test]
fn a_file_that_is_as_large_as_files_may_be() {
    let Some(directory) = directory() else {
        return again("a_file_that_is_as_large_as_files_may_be", "ulimit -f 16");
    };
    let now = Timestamp::from_second(1_700_000_000).expect("in range");
    let mut writer = LogWriter::open(&directory, &options(Driver::K8sFile), now).expect("open");
    for number in 0..1000 {
        writer.feed(Stream::Stdout, format!("line {number} and some more\n").as_bytes(), now);
    }
    writer.finish(now);
    assert_eq!(lines(&directory, Driver::K8sFile).len() as u64 + writer.lost(), 1000);
    assert!(writer.lost() > 0);
    fs::remove_file(directory.join("log")).expect("there");
    let options = LogOptions { max_size: Some(2000), max_file: 30, ..options(Driver::K8sFile) };
    let mut writer = LogWriter::open(&directory, &options, now).expect("open");
    for number in 0..300 {
        writer.feed(Stream::Stdout, format!("line {number} and some more\n").as_bytes(), now);
    }
    assert_eq!(writer.lost(), 0);
}
