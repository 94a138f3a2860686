//! `--stop-signal`, `--stop-timeout`, `--timeout`.

use std::num::NonZeroU32;
use std::str::FromStr;

use rbox_sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How a container is asked to end, and how long it may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stop {
    /// Instead of the image's; SIGTERM where neither says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<StopSignal>,
    /// Seconds until it is killed; negative for no end. 10 otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
    /// Seconds after its start when it is killed, whatever it does (Podman); none for no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<NonZeroU32>,
}

impl Stop {
    /// Seconds that a container has of which nothing is said.
    pub const TIMEOUT: i32 = 10;
}

/// A signal as it is shown: `SIGTERM`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StopSignal(String);

impl StopSignal {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The signal.
    pub fn signal(&self) -> Signal {
        // It was one when this was made.
        Signal::parse(&self.0).unwrap_or(Signal::TERM)
    }
}

/// By name or number, with or without `SIG`.
impl FromStr for StopSignal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let signal = Signal::parse(text).ok_or_else(|| format!("there is no signal {text:?} (signal(7))"))?;
        Ok(Self(signal.name()))
    }
}

impl TryFrom<String> for StopSignal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<StopSignal> for String {
    fn from(signal: StopSignal) -> Self {
        signal.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, name) in [("15", "SIGTERM"), ("int", "SIGINT"), ("SIGUSR1", "SIGUSR1"), ("RTMIN+3", "SIGRTMIN+3")] {
            let parsed: StopSignal = text.parse().expect(text);
            assert_eq!((parsed.as_str(), Some(parsed.signal())), (name, Signal::parse(text)));
        }
        for wrong in ["", "0", "TERMINATE", "-1", "99"] {
            wrong.parse::<StopSignal>().expect_err(wrong);
        }
    }
}
