//! `--log` and `--log-format`: where engines look for the reason of a failure.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::json;

use crate::failure::Failure;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json"),
        }
    }
}

/// A file that failures are added to.
pub(super) struct Log {
    path: Option<PathBuf>,
    format: Format,
}

impl Log {
    pub(super) fn new(path: Option<PathBuf>, format: Format) -> Self {
        Self { path, format }
    }

    /// A log that cannot be written keeps nothing from being told on standard error.
    pub(super) fn write(&self, failure: &Failure) {
        let Some(path) = &self.path else { return };
        let time = Timestamp::now().to_string();
        let line = match self.format {
            Format::Text => format!("time={time:?} level=error msg={:?}\n", failure.to_string()),
            Format::Json => format!("{}\n", json!({ "level": "error", "msg": failure.to_string(), "time": time })),
        };
        let file = OpenOptions::new().append(true).create(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("rbox: cannot write the log {}: {error}", path.display());
        }
    }
}
