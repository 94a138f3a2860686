//! The health checks of a container: one after the other, beside all else that its monitor does.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use rbox_sys::poll::Interest;

use crate::life::beside::Container;
use crate::life::health::{Checked, Health, HealthStatus, Probe};
use crate::record::Record;
use crate::settings::HealthCheck;

/// Those of one life of the workload.
pub(super) struct Checks {
    check: HealthCheck,
    health: Health,
    started: Timestamp,
    /// The one that runs, or when there is to be one.
    now: Result<Probe, Instant>,
}

impl Checks {
    /// For a workload that was started then; none where nobody is to check by himself. What was known of its last life is
    /// forgotten.
    pub(super) fn begin(check: Option<&HealthCheck>, directory: &Path, started: Timestamp) -> Option<Self> {
        let check = check?.clone();
        let health = Health::default();
        // Who looks and finds nothing takes it for this.
        let _ = health.write(directory);
        if check.on_demand {
            return None;
        }
        let first = Instant::now() + check.interval(health.begins(&check, started, started));
        Some(Self { check, health, started, now: Err(first) })
    }

    /// What is to be waited for.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        self.now.as_ref().ok().into_iter().flat_map(Probe::interests)
    }

    /// When there is something to do, whatever happens.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.now {
            Ok(probe) => probe.due(),
            Err(next) => Some(*next),
        }
    }

    /// Goes on with the check that runs, or begins the next one. `has_ended` is the first of
    /// [`interests`](Self::interests). Gives the status where that is another one now.
    pub(super) fn go_on(
        &mut self,
        has_ended: bool,
        container: Container<'_>,
        pidfd: BorrowedFd<'_>,
        directory: &Path,
    ) -> Option<HealthStatus> {
        let checked = match &mut self.now {
            Err(next) if Instant::now() < *next => return None,
            Err(_) => match Probe::begin(&self.check, container, pidfd) {
                Ok(probe) => {
                    self.now = Ok(probe);
                    return None;
                }
                Err(error) => failed(&error),
            },
            Ok(probe) => match probe.go_on(has_ended) {
                Ok(checked) => checked?,
                Err(error) => failed(&error),
            },
        };
        let has_changed = self.health.take(&self.check, self.started, checked);
        // Nobody is there to hear what fails, and the next one writes all anew.
        let _ = self.health.write(directory);
        let begins = self.health.begins(&self.check, self.started, Timestamp::now());
        self.now = Err(Instant::now() + self.check.interval(begins));
        has_changed.then_some(self.health.status)
    }
}

/// One that could not be made.
fn failed(error: &std::io::Error) -> Checked {
    let now = Timestamp::now();
    Checked { start: now, end: now, exit_code: -1, output: error.to_string() }
}
