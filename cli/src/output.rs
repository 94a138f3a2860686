//! Tables for people, JSON for programs, and how times and sizes are said.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::fd::AsFd;

use clap::ValueEnum;
use jiff::Timestamp;
use rbox_sys::tty;
use serde::Serialize;

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Columns
    #[default]
    Table,
    /// One JSON document
    Json,
}

/// Prints a value as a JSON document.
pub(crate) fn json(value: &impl Serialize) -> Result<(), serde_json::Error> {
    // Not straight into standard output, which would be written to at each line.
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    io::stdout().lock().write_all(&text).map_err(serde_json::Error::io)
}

/// Prints a line.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints a line each, and all at once.
pub(crate) fn lines(lines: impl Iterator<Item = impl AsRef<str>>) -> io::Result<()> {
    let mut all = String::new();
    for line in lines {
        all.push_str(line.as_ref());
        all.push('\n');
    }
    text(&all)
}

/// Prints a text that may have lines of its own, and any characters that a workload or an image chose.
pub(crate) fn text(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let text = if tty::is_terminal(stdout.as_fd()) { harmless(text) } else { Cow::Borrowed(text) };
    stdout.write_all(text.as_bytes())
}

/// Tells a terminal what to do.
pub(crate) fn control(sequence: &str) -> io::Result<()> {
    io::stdout().lock().write_all(sequence.as_bytes())
}

/// What a terminal shows and does not act on: other programs get the characters as they are.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if acts(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Prints lines of cells, each column as wide as its widest cell.
pub(crate) fn aligned(lines: &[Vec<String>]) -> io::Result<()> {
    self::lines(in_columns(lines).iter())
}

/// Prints rows under a heading.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    columns(heading, rows).iter().try_for_each(|line| writeln!(stdout, "{line}"))
}

/// Lines of rows under a heading, each column as wide as its widest cell.
pub(crate) fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let lines: Vec<Vec<String>> = [heading.map(str::to_owned)].iter().chain(rows).map(|line| line.to_vec()).collect();
    in_columns(&lines)
}

fn in_columns(lines: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let shown = |line: &Vec<String>| {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("   ").trim_end().to_owned()
    };
    lines.iter().map(shown).collect()
}

/// `3 minutes ago`, as Docker says it.
pub(crate) fn ago(then: Timestamp) -> String {
    format!("{} ago", duration(Timestamp::now().as_second() - then.as_second()))
}

/// A length of time in its largest unit.
pub(crate) fn duration(seconds: i64) -> String {
    let units = [
        (31_536_000, "year"),
        (2_592_000, "month"),
        (604_800, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    let seconds = seconds.max(0);
    for (length, unit) in units {
        // Two of the next smaller unit say more than one of this: 90 minutes, not 1 hour.
        if seconds >= length * 2 {
            return format!("{} {unit}s", seconds / length);
        }
    }
    match seconds {
        0 => "less than a second".into(),
        1 => "1 second".into(),
        60.. => "about a minute".into(),
        _ => format!("{seconds} seconds"),
    }
}

/// `2026-01-31 12:00:00 +0000 UTC`, as Go prints a time, and so Docker and Podman.
pub(crate) fn at(time: Timestamp) -> String {
    let text = time.to_string();
    let seconds = text.split(['.', 'Z']).next().unwrap_or_default();
    format!("{} +0000 UTC", seconds.replacen('T', " ", 1))
}

/// `7.8 MB`, in powers of a thousand, as Docker says it.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.*} {}", usize::from(value < 99.95), units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, said) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (7_812_345, "7.8 MB"),
            (999_950, "1.0 MB"),
            (436_000_000, "436 MB"),
        ] {
            assert_eq!(size(bytes), said);
        }
    }

    #[test]
    fn columns_of_different_lengths() {
        let lines = [vec!["a".to_owned(), "b".into()], vec!["long".into()], vec!["c".into(), "d".into(), "e".into()]];
        assert_eq!(in_columns(&lines), ["a      b", "long", "c      d   e"]);
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(harmless("a\tb\n"), "a\tb\n");
        assert_eq!(harmless("\u{1b}[2J\u{9b}2Jä\r"), "\\u{1b}[2J\\u{9b}2Jä\\r");
    }

    #[test]
    fn times() {
        let time = |text: &str| at(text.parse().expect("a time"));
        assert_eq!(time("2026-01-31T12:00:01.5Z"), "2026-01-31 12:00:01 +0000 UTC");
        assert_eq!(time("2026-01-31T12:00:01Z"), "2026-01-31 12:00:01 +0000 UTC");
    }

    #[test]
    fn durations() {
        for (seconds, said) in [
            (0, "less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "about a minute"),
            (150, "2 minutes"),
            (5400, "90 minutes"),
            (7200, "2 hours"),
            (172_800, "2 days"),
        ] {
            assert_eq!(duration(seconds), said);
        }
    }
}
