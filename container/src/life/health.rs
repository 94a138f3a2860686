//! How a container's workload is: what the checks of it have found, and what follows from that by Docker's rules.

mod probe;
mod run;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) use self::probe::Probe;
pub use self::run::check_health;
use crate::Error;
use crate::record::Record;
use crate::request::RunRequest;
use crate::settings::{HealthAction, HealthCheck};

/// So many of the last checks are kept.
const KEPT: usize = 5;

/// What is known, in the shape in which Docker's inspect shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// The word for it.
    pub status: HealthStatus,
    /// How many checks have failed in a row.
    pub failing_streak: u64,
    /// The last checks, the oldest first.
    pub log: Vec<Checked>,
}

/// What all checks together say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// None has succeeded yet, and not enough have failed.
    #[default]
    Starting,
    /// The last one that counts has succeeded.
    Healthy,
    /// Too many have failed in a row.
    Unhealthy,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Checked {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// 0 for well; -1 where the time was over.
    pub exit_code: i32,
    /// What it printed, of the beginning so much as is kept.
    pub output: String,
}

impl HealthStatus {
    /// Docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl Record for Health {
    const FILE: &'static str = "health.json";
}

impl Health {
    /// Takes in a check of a workload that was started at `started`; says whether its status is another one now.
    pub(crate) fn take(&mut self, check: &HealthCheck, started: Timestamp, checked: Checked) -> bool {
        let before = self.status;
        if checked.exit_code == 0 {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
        } else if before != HealthStatus::Starting || !begins(check, started, checked.start) {
            self.failing_streak += 1;
            if self.failing_streak >= check.retries() {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(checked);
        let over = self.log.len().saturating_sub(KEPT);
        self.log.drain(..over);
        self.status != before
    }

    /// Whether the next check may still be one of a workload that begins.
    pub(crate) fn begins(&self, check: &HealthCheck, started: Timestamp, now: Timestamp) -> bool {
        self.status == HealthStatus::Starting && begins(check, started, now)
    }
}

fn begins(check: &HealthCheck, started: Timestamp, now: Timestamp) -> bool {
    let period = SignedDuration::try_from(check.start_period()).unwrap_or(SignedDuration::MAX);
    now.duration_since(started) < period
}

/// The check of a container that is asked for, of an image with this check.
pub(crate) fn wanted(request: &RunRequest, image: Option<&serde_json::Value>) -> Result<Option<HealthCheck>, Error> {
    let (asked, action) = (&request.settings.health, request.settings.on_unhealthy);
    let nothing_fails = || Error::NothingFails(action.word());
    if asked.is_none() && image.is_none() {
        return if action == HealthAction::None { Ok(None) } else { Err(nothing_fails()) };
    }
    if asked.as_ref().is_some_and(|asked| asked.test.is_empty()) && image.is_none() {
        return Err(Error::NothingToCheck);
    }
    let asked = asked.clone().unwrap_or_default();
    let image = image.map(HealthCheck::deserialize).transpose();
    let wanted = match image {
        // Nothing of it is wanted.
        Err(_) if !asked.test.is_empty() => asked.over(HealthCheck::default()),
        image => asked.over(image.map_err(|error| Error::ImageHealth(error.to_string()))?.unwrap_or_default()),
    };
    match action {
        HealthAction::None => Ok(wanted),
        _ => wanted.map(Some).ok_or_else(nothing_fails),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    /// One that began at this second after the start and ended at once.
    fn checked(at: i64, exit_code: i32) -> Checked {
        Checked { start: second(at), end: second(at), exit_code, output: String::new() }
    }

    fn after(check: &HealthCheck, checks: &[(i64, i32)]) -> (Health, Vec<&'static str>) {
        let (mut health, mut changes) = (Health::default(), Vec::new());
        for (at, exit_code) in checks {
            if health.take(check, second(0), checked(*at, *exit_code)) {
                changes.push(health.status.word());
            }
        }
        (health, changes)
    }

    #[test]
    fn three_failures_in_a_row_are_too_many() {
        let check = HealthCheck::default();
        let (health, changes) = after(&check, &[(1, 1), (2, 1)]);
        assert_eq!((health.status, health.failing_streak, changes), (HealthStatus::Starting, 2, vec![]));
        let (health, changes) = after(&check, &[(1, 1), (2, 0), (3, 1), (4, 1), (5, -1), (6, 1)]);
        assert_eq!((health.failing_streak, changes), (4, vec!["healthy", "unhealthy"]));
        assert_eq!(health.log.iter().map(|checked| checked.start).collect::<Vec<_>>(), [2, 3, 4, 5, 6].map(second));
        let (health, changes) = after(&HealthCheck { retries: 1, ..check }, &[(1, 1), (2, 0)]);
        assert_eq!((health.failing_streak, changes), (0, vec!["unhealthy", "healthy"]));
    }

    #[test]
    fn a_workload_that_begins_may_fail() {
        let check = HealthCheck { start_period: 10_000_000_000, retries: 2, ..HealthCheck::default() };
        let (health, changes) = after(&check, &[(1, 1), (5, 1), (9, 1)]);
        assert_eq!((health.failing_streak, changes), (0, vec![]));
        assert!(health.begins(&check, second(0), second(9)) && !health.begins(&check, second(0), second(10)));
        // From the end of that time on it counts.
        assert_eq!(after(&check, &[(9, 1), (10, 1), (11, 1)]).1, ["unhealthy"]);
        // And from its first success on.
        let (health, changes) = after(&check, &[(1, 0), (2, 1), (3, 1)]);
        assert_eq!((health.failing_streak, changes), (2, vec!["healthy", "unhealthy"]));
    }
}
