//! `rbox healthcheck run`: one check, now, by whoever asks.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rbox_sys::clone::signal_pidfd;
use rbox_sys::poll;
use rbox_sys::signal::Signal;

use super::{Checked, Health, HealthStatus, Probe};
use crate::engine::open_store;
use crate::life::begun::Begun;
use crate::life::stop::Stopping;
use crate::record::{Made, Record};
use crate::settings::{HealthAction, HealthCheck};
use crate::{Engine, Error, events};

/// Runs the health check of a container of the store at `root`, or of this user's own, once; says whether it succeeded.
///
/// Where nobody else checks, what it finds is written down, and counts as it would then. Else that is for the container's
/// monitor alone. What is to be done with one that has become unhealthy is then done here too, by `engine`.
pub fn check_health(
    root: Option<PathBuf>,
    name_or_id: &str,
    engine: impl FnOnce() -> Result<Engine, Error>,
) -> Result<bool, Error> {
    let store = open_store(root)?;
    let begun = Begun::find(&store, name_or_id)?;
    let Begun { entry, made, pidfd, .. } = &begun;
    let Some(check) = &made.settings.health else { return Err(Error::NoHealthCheck(entry.name.clone())) };
    let failed = |operation| Error::io(operation, format!("the health check of {}", entry.name.as_str()));
    let mut probe = Probe::begin(check, begun.container(), pidfd.as_fd()).map_err(failed("begin"))?;
    let checked = loop {
        let waited: Vec<_> = probe.interests().collect();
        let left = probe.due().map(|due| due.saturating_duration_since(Instant::now()));
        let ready = poll::wait_all(&waited, left).map_err(failed("wait for"))?;
        drop(waited);
        if let Some(checked) = probe.go_on(ready[0]).map_err(failed("wait for"))? {
            break checked;
        }
    };
    let is_well = checked.exit_code == 0;
    if check.on_demand
        && let Some(changed) = write_down(&entry.path, check, made, checked).map_err(failed("write down"))?
    {
        let action = format!("health_status: {}", changed.status.word());
        events::note(&store, &[events::of_container(&action, &entry.id, &entry.name, Some(made.known()))]);
        if changed.status == HealthStatus::Unhealthy {
            give_up(&begun, engine)?;
        }
    }
    Ok(is_well)
}

fn give_up(begun: &Begun, engine: impl FnOnce() -> Result<Engine, Error>) -> Result<(), Error> {
    let id = begun.entry.id.as_str();
    match begun.made.settings.on_unhealthy {
        HealthAction::None => Ok(()),
        // Not as by `rbox kill`, after which no policy starts it again.
        HealthAction::Kill => {
            signal_pidfd(&begun.pidfd, Signal::KILL).map_err(Error::io("kill", begun.entry.name.as_str()))
        }
        HealthAction::Restart => engine()?.restart(id, Stopping::default()).map(drop),
        HealthAction::Stop => engine()?.stop(id, Stopping::default()).map(drop),
    }
}

/// Gives what is known now, where its status has changed.
fn write_down(directory: &Path, check: &HealthCheck, made: &Made, checked: Checked) -> io::Result<Option<Health>> {
    let mut health = Health::read(directory)?.unwrap_or_default();
    let has_changed = health.take(check, made.since(), checked);
    health.write(directory)?;
    Ok(has_changed.then_some(health))
}
