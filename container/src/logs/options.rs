//! `--log-driver` and `--log-opt`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::format::Format;

/// Where what a container prints goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// Docker's lines of JSON. JSON is Unicode: what is not becomes U+FFFD.
    JsonFile,
    /// Podman's and the Kubernetes CRI's lines, which keep every byte.
    #[default]
    K8sFile,
    /// Nowhere.
    None,
    /// To the caller's own standard output and error, past everything.
    Passthrough,
}

/// Why words of `--log-driver` or `--log-opt` were not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLogOption {
    /// No such driver.
    #[error("unknown log driver {0:?}: expected json-file, k8s-file, none or passthrough")]
    Driver(String),
    /// No such option.
    #[error("unknown log option {0:?}: expected max-size=SIZE or max-file=COUNT")]
    Option(String),
    /// The option, for a driver that keeps no files.
    #[error("the log driver {driver} has no option {option}")]
    NotOfDriver {
        /// The option's name.
        option: String,
        /// The driver.
        driver: Driver,
    },
    /// No size.
    #[error("max-size: {0:?} is not a size: expected a positive number, with k, m or g for its thousandfold")]
    Size(String),
    /// No number of files.
    #[error("max-file: expected 1 to {most}, not {0:?}", most = LogOptions::MOST_FILES)]
    Files(String),
}

/// A driver with its options, as a container's record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// Where to.
    pub driver: Driver,
    /// Bytes that a file has at most, if it holds more than one line. None, as in Docker and Podman by default: any number.
    #[serde(default)]
    pub max_size: Option<u64>,
    /// How many files there are at most; the oldest goes when another is needed. One, as in Docker by default: when the
    /// file is full, a new one takes its place.
    #[serde(default = "one")]
    pub max_file: u32,
}

fn one() -> u32 {
    1
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { driver: Driver::default(), max_size: None, max_file: one() }
    }
}

impl LogOptions {
    /// As Docker's `inspect` shows it.
    pub(crate) fn document(&self) -> Value {
        let size = self.max_size.map(|size| ("max-size", size.to_string()));
        let files = (self.max_file > 1).then(|| ("max-file", self.max_file.to_string()));
        let config: BTreeMap<_, _> = size.into_iter().chain(files).collect();
        json!({ "Type": self.driver.name(), "Config": config })
    }

    /// A reader holds all files open at once, and 1024 descriptors are what a process has as a rule.
    pub const MOST_FILES: u32 = 500;

    /// Takes `NAME=VALUE`s. Sizes are in powers of a thousand, as Docker's and Podman's are; `kib` and the like in those
    /// of 1024.
    pub fn parse<'a>(driver: Driver, options: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidLogOption> {
        let mut parsed = Self { driver, ..Self::default() };
        for option in options {
            let Some((name @ ("max-size" | "max-file"), value)) = option.split_once('=') else {
                return Err(InvalidLogOption::Option(option.to_owned()));
            };
            if driver.format().is_none() {
                return Err(InvalidLogOption::NotOfDriver { option: name.to_owned(), driver });
            }
            if name == "max-size" {
                let size = size(value).ok_or_else(|| InvalidLogOption::Size(value.to_owned()))?;
                parsed.max_size = Some(size);
            } else {
                let files = value.parse().ok().filter(|files| (1..=Self::MOST_FILES).contains(files));
                parsed.max_file = files.ok_or_else(|| InvalidLogOption::Files(value.to_owned()))?;
            }
        }
        Ok(parsed)
    }
}

/// A number with a unit: nothing or `b`, else one of k, m, g and t, with `b` or `ib` after it, in letters of any case.
fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    let (letter, base) = match unit.strip_suffix("ib") {
        Some(letter) => (letter, 1024.0_f64),
        None => (unit.strip_suffix('b').unwrap_or(unit), 1000.0),
    };
    let power = match letter {
        "" if base == 1000.0 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let size = number.parse::<f64>().ok()? * base.powi(power);
    // Casts of what is too large saturate.
    (size >= 1.0).then_some(size as u64)
}

impl Driver {
    /// How it writes lines, if it writes any.
    pub(super) fn format(self) -> Option<Format> {
        match self {
            Self::JsonFile => Some(Format::Json),
            Self::K8sFile => Some(Format::K8s),
            Self::None | Self::Passthrough => None,
        }
    }

    /// The name that people give.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::K8sFile => "k8s-file",
            Self::None => "none",
            Self::Passthrough => "passthrough",
        }
    }
}

impl FromStr for Driver {
    type Err = InvalidLogOption;

    fn from_str(text: &str) -> Result<Self, InvalidLogOption> {
        [Self::JsonFile, Self::K8sFile, Self::None, Self::Passthrough]
            .into_iter()
            .find(|driver| driver.name() == text)
            .ok_or_else(|| InvalidLogOption::Driver(text.to_owned()))
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (text, bytes) in [
            ("1", 1),
            ("32b", 32),
            ("10k", 10_000),
            ("10kB", 10_000),
            ("1.5M", 1_500_000),
            ("2 g", 2_000_000_000),
            ("1KiB", 1024),
            ("1t", 1_000_000_000_000),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "0", "-1", "k", "1x", "1..2", "ib", "1ib", "nan", "0.2", "1kk"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn options_and_their_refusals() {
        let parse = |driver: &str, options: &[&str]| LogOptions::parse(driver.parse()?, options.iter().copied());
        assert_eq!(
            parse("json-file", &["max-size=10m", "max-file=3"]),
            Ok(LogOptions { driver: Driver::JsonFile, max_size: Some(10_000_000), max_file: 3 })
        );
        assert_eq!(parse("k8s-file", &[]), Ok(LogOptions::default()));
        for (driver, options, words) in [
            ("syslog", "", "unknown log driver \"syslog\""),
            ("json-file", "max-size", "unknown log option \"max-size\""),
            ("json-file", "tag=x", "unknown log option \"tag=x\""),
            ("none", "max-size=1m", "the log driver none has no option max-size"),
            ("json-file", "max-size=0", "\"0\" is not a size"),
            ("json-file", "max-file=0", "expected 1 to 500, not \"0\""),
        ] {
            let error = parse(driver, &[options]).expect_err("refused").to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_record_of_later_options_is_read_with_their_defaults() {
        let read: LogOptions = serde_json::from_str(r#"{"driver":"json-file"}"#).expect("read");
        assert_eq!(read, LogOptions { driver: Driver::JsonFile, ..LogOptions::default() });
    }
}
