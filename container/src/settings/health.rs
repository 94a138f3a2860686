//! `--health-…`: how it is found out whether a container's workload is well.

use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::moment;

/// A health check under Docker's names, as in an image's config and in `inspect`. What is zero or empty is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheck {
    /// `CMD` and words, `CMD-SHELL` and a line for a shell, or `NONE`.
    #[serde(deserialize_with = "or_default")]
    pub test: Vec<String>,
    /// From the end of one check to the next; of this and all other times, nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long one may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// How long the workload may begin, and what fails does not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Instead of the interval meanwhile.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many have to fail in a row.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Nobody checks by himself (`--health-interval=disable`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
}

/// What the monitor does with a workload that has become unhealthy (`--health-on-failure`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthAction {
    /// Nothing.
    #[default]
    None,
    /// It is killed. What then becomes of it is for its restart policy.
    Kill,
    /// It is stopped and started again, whatever its restart policy.
    Restart,
    /// It is stopped, as by `rbox stop`.
    Stop,
}

impl HealthAction {
    /// Podman's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

impl FromStr for HealthAction {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::None, Self::Kill, Self::Restart, Self::Stop];
        all.into_iter().find(|action| action.word() == text).ok_or("expected none, kill, restart or stop")
    }
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes null for a list that is none.
fn or_default<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl HealthCheck {
    const NONE: &'static str = "NONE";

    /// No check, whatever the image says.
    pub fn none() -> Self {
        Self { test: vec![Self::NONE.into()], ..Self::default() }
    }

    /// What there is to check when this was asked for, over what the image says: each field that is not said is the
    /// image's (Docker's rule). None where there is nothing.
    pub(crate) fn over(self, image: Self) -> Option<Self> {
        let number = |own, images| if own > 0 { own } else { i64::max(images, 0) };
        let merged = Self {
            test: if self.test.is_empty() { image.test } else { self.test },
            interval: number(self.interval, image.interval),
            timeout: number(self.timeout, image.timeout),
            start_period: number(self.start_period, image.start_period),
            start_interval: number(self.start_interval, image.start_interval),
            retries: number(self.retries, image.retries),
            on_demand: self.on_demand,
        };
        merged.command().is_some().then_some(merged)
    }

    /// The words that are executed.
    pub(crate) fn command(&self) -> Option<Vec<String>> {
        match self.test.split_first() {
            Some((kind, words)) if kind == "CMD" && !words.is_empty() => Some(words.to_vec()),
            Some((kind, [line, ..])) if kind == "CMD-SHELL" => {
                Some(["/bin/sh", "-c", line].map(str::to_owned).to_vec())
            }
            _ => None,
        }
    }

    /// From one check to the next.
    pub(crate) fn interval(&self, starting: bool) -> Duration {
        let usual = or(self.interval, 30);
        match starting && self.start_period > 0 {
            true if self.start_interval > 0 => or(self.start_interval, 0),
            // Docker's, and never less often than afterwards.
            true => usual.min(Duration::from_secs(5)),
            false => usual,
        }
    }

    /// How long a check may take.
    pub(crate) fn timeout(&self) -> Duration {
        or(self.timeout, 30)
    }

    /// How long the workload may begin.
    pub(crate) fn start_period(&self) -> Duration {
        or(self.start_period, 0)
    }

    /// How many have to fail in a row.
    pub(crate) fn retries(&self) -> u64 {
        if self.retries > 0 { self.retries.unsigned_abs() } else { 3 }
    }
}

/// A time in nanoseconds, or where that is not said so many seconds.
fn or(nanoseconds: i64, seconds: u64) -> Duration {
    if nanoseconds > 0 { Duration::from_nanos(nanoseconds.unsigned_abs()) } else { Duration::from_secs(seconds) }
}

/// `--health-cmd`: a line for a shell, a JSON list of words, or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCommand(pub Vec<String>);

impl HealthCommand {
    /// No check.
    pub fn none() -> Self {
        Self(HealthCheck::none().test)
    }
}

impl FromStr for HealthCommand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shell = || vec!["CMD-SHELL".to_owned(), text.to_owned()];
        let test = match text {
            "" => return Err("there is no command; none is for no check".into()),
            "none" => vec![HealthCheck::NONE.to_owned()],
            // Podman's rule: what is no list is a line for a shell, where [ is a command.
            _ if text.starts_with('[') => match serde_json::from_str::<Vec<String>>(text) {
                Ok(words) if words.is_empty() => return Err("the list is empty".into()),
                Ok(words) if matches!(words[0].as_str(), "CMD" | "CMD-SHELL") && words.len() < 2 => {
                    return Err(format!("nothing follows {}", words[0]));
                }
                Ok(words) if matches!(words[0].as_str(), "CMD" | "CMD-SHELL" | HealthCheck::NONE) => words,
                Ok(words) => [vec!["CMD".to_owned()], words].concat(),
                Err(_) => shell(),
            },
            _ => shell(),
        };
        Ok(Self(test))
    }
}

/// A time of a flag, at least a millisecond (Docker's least).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthTime(pub i64);

impl FromStr for HealthTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = moment::duration(text).ok_or("expected a duration such as 500ms, 30s or 1m30s")?;
        if time < SignedDuration::from_millis(1) && !time.is_zero() {
            return Err("less than a millisecond".into());
        }
        i64::try_from(time.as_nanos()).map(Self).map_err(|_| "more than 292 years".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: &[&str]) -> HealthCheck {
        HealthCheck { test: test.iter().map(|&word| word.into()).collect(), ..HealthCheck::default() }
    }

    #[test]
    fn commands() {
        let parsed = |text: &str| text.parse::<HealthCommand>().expect(text).0;
        assert_eq!(parsed("curl -f localhost || exit 1"), ["CMD-SHELL", "curl -f localhost || exit 1"]);
        assert_eq!(parsed(r#"["CMD", "true"]"#), ["CMD", "true"]);
        assert_eq!(parsed(r#"["CMD-SHELL", "a | b"]"#), ["CMD-SHELL", "a | b"]);
        assert_eq!(parsed(r#"["true", "x"]"#), ["CMD", "true", "x"]);
        assert_eq!(parsed("[ -e /well ]"), ["CMD-SHELL", "[ -e /well ]"]);
        assert_eq!(parsed("none"), ["NONE"]);
        for wrong in ["", "[]", r#"["CMD"]"#] {
            wrong.parse::<HealthCommand>().expect_err(wrong);
        }
        assert_eq!("1m30s".parse(), Ok(HealthTime(90_000_000_000)));
        for wrong in ["30", "-1s", "1us", "soon", "9999999h"] {
            wrong.parse::<HealthTime>().expect_err(wrong);
        }
    }

    #[test]
    fn what_is_not_said_is_the_images() {
        let image = HealthCheck { interval: 5, retries: -2, ..check(&["CMD", "true"]) };
        let merged = HealthCheck { timeout: 7, ..HealthCheck::default() }.over(image.clone()).expect("a check");
        assert_eq!(
            (merged.interval, merged.timeout, merged.retries(), merged.command()),
            (5, 7, 3, Some(vec!["true".into()]))
        );
        assert_eq!(HealthCheck::none().over(image), None);
        for nothing in [check(&[]), check(&["NONE"]), check(&["CMD"]), check(&["CMD-SHELL"]), check(&["what", "x"])] {
            assert_eq!(HealthCheck::default().over(nothing), None);
        }
    }

    #[test]
    fn a_config_as_docker_writes_it() {
        let text = r#"{"Test":["CMD-SHELL","x"],"Interval":1000000000,"StartInterval":2,"Retries":4}"#;
        let check: HealthCheck = serde_json::from_str(text).expect("read");
        assert_eq!(
            (check.interval(false), check.retries(), check.timeout()),
            (Duration::from_secs(1), 4, Duration::from_secs(30))
        );
        assert_eq!(serde_json::to_string(&check).expect("written"), text);
        assert_eq!(serde_json::from_str::<HealthCheck>(r#"{"Test":null}"#).expect("read"), HealthCheck::default());
    }

    #[test]
    fn more_often_while_it_begins() {
        let second = |seconds: i64| seconds * 1_000_000_000;
        let slow = HealthCheck { start_period: second(60), ..check(&["CMD", "true"]) };
        assert_eq!((slow.interval(true), slow.interval(false)), (Duration::from_secs(5), Duration::from_secs(30)));
        let fast = HealthCheck { interval: second(1), ..slow.clone() };
        assert_eq!(fast.interval(true), Duration::from_secs(1));
        let said = HealthCheck { start_interval: second(9), ..slow };
        assert_eq!(said.interval(true), Duration::from_secs(9));
    }
}
