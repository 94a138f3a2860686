//! What a start spends its time on: `run --explain`.
//!
//! Steps are marked as they end, on a clock that all processes of a boot share, so that the marks of the launcher,
//! the entry and init make one line of time.

use std::time::Duration;

use rbox_sys::clock;
use serde::{Deserialize, Serialize};

/// One step that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The process that made it: `rbox`, `entry`, `init`.
    pub process: String,
    /// What was done.
    pub name: String,
    /// When it began, since boot.
    pub began: Duration,
    /// When it ended, since boot.
    pub ended: Duration,
}

/// The marks of one process; none are kept unless asked for.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    process: String,
    last: Option<Duration>,
    steps: Vec<Step>,
}

impl Trace {
    /// A trace that keeps nothing, for the price of a comparison.
    pub fn off() -> Self {
        Self::default()
    }

    /// A trace of this process, from now on.
    pub fn on(process: &str) -> Self {
        Self { process: process.into(), last: Some(clock::monotonic()), steps: Vec::new() }
    }

    /// Whether marks are kept.
    pub fn is_on(&self) -> bool {
        self.last.is_some()
    }

    /// The step `name` ends here; it began at the mark before.
    pub fn mark(&mut self, name: &str) {
        if let Some(began) = self.last {
            let ended = clock::monotonic();
            self.steps.push(Step { process: self.process.clone(), name: name.into(), began, ended });
            self.last = Some(ended);
        }
    }

    /// The steps so far, in the order in which they began.
    pub fn into_steps(mut self) -> Vec<Step> {
        self.steps.sort_by_key(|step| step.began);
        self.steps
    }

    /// Takes in the steps of another process, and as one more step of `(process, name)` the time until its first.
    pub(crate) fn take_in(&mut self, (process, name): (&str, &str), began: Duration, steps: Vec<Step>) {
        if let Some(first) = steps.first() {
            self.steps.push(Step { process: process.into(), name: name.into(), began, ended: first.began });
        }
        self.steps.extend(steps);
    }
}
