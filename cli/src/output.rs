//! Tables for people, JSON for programs, and how times and sizes are said.

use std::io::{self, Write};

use clap::ValueEnum;
use jiff::Timestamp;
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
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value)?;
    stdout.write_all(b"\n").map_err(serde_json::Error::io)
}

/// Prints a line.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints rows under a heading.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    columns(heading, rows).iter().try_for_each(|line| writeln!(stdout, "{line}"))
}

/// Lines of rows under a heading, each column as wide as its widest cell.
pub(crate) fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("   ").trim_end().to_owned()
    };
    [heading.map(str::to_owned)].iter().chain(rows).map(line).collect()
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
