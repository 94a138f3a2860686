//! A container's limits, from what was asked for to a cgroup that has them, and what it has run into.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::{fmt, fs, io};

use oci_spec::runtime::LinuxResources;
use rbox_runtime::cgroup::{self, Hits, Watch};
use rbox_runtime::home::{self, Home, Joined, Maker, Wish};
use rbox_runtime::systemd::Address;
use rbox_sys::node;
use rbox_types::ContainerId;
use serde::{Deserialize, Serialize};

use crate::record::{Made, Record};
use crate::settings::{CgroupManager, CgroupWish, Resources, Settings};
use crate::{Error, Unfit};

/// Podman's limit of processes, which keeps a fork bomb from the host. It is set where that costs nothing.
const USUAL_PIDS: &str = r#"{"pids": {"limit": 2048}}"#;

/// A limit that cannot be had.
#[derive(Debug)]
pub struct LimitError {
    /// The flags that are to blame, and the controllers that they take.
    flags: Vec<String>,
    controllers: Vec<String>,
    why: Box<home::Error>,
}

impl LimitError {
    fn new(resources: &Resources, why: home::Error) -> Self {
        let needed = match why.field() {
            Some(field) => vec![(field.to_owned(), None)],
            // Nothing at all can be limited.
            None => spec(resources).ok().and_then(|spec| home::needs(&spec).ok()).unwrap_or_default(),
        };
        let (mut flags, mut controllers) = (Vec::new(), Vec::new());
        for (field, controller) in needed {
            flags.push(resources.flag_of(&field));
            controllers.extend(controller);
        }
        flags.dedup();
        controllers.dedup();
        Self { flags, controllers, why: Box::new(why) }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let mend = self.why.hint()?;
        match self.flags.is_empty() {
            false => Some(format!("{mend}; --best-effort-limits does without")),
            true => Some(mend),
        }
    }
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flags.is_empty() {
            return f.write_str("cannot have a cgroup for the container");
        }
        write!(f, "cannot enforce {}", self.flags.join(", "))?;
        match (&*self.why, &*self.controllers) {
            (home::Error::Cgroup(error), []) => write!(f, ": {}", error.why()),
            (_, []) => Ok(()),
            (_, [one]) => write!(f, " (the cgroup controller '{one}')"),
            (_, several) => write!(f, " (the cgroup controllers {})", several.join(", ")),
        }
    }
}

impl std::error::Error for LimitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.why {
            // That it is about this flag has been said.
            home::Error::Cgroup(error) if self.why.field().is_some() => error.source(),
            why => Some(why),
        }
    }
}

/// What was said later, over what the container was made with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Updated(pub(crate) Resources);

impl Record for Updated {
    const FILE: &'static str = "limits.json";
}

/// The limits that hold for a container now.
pub(crate) fn current(directory: &Path, settings: &Settings) -> io::Result<Resources> {
    Ok(Updated::read(directory)?.map_or_else(|| settings.resources.clone(), |Updated(resources)| resources))
}

/// As the runtime spec has them: a device by its numbers, which may be others after each boot.
pub(crate) fn spec(resources: &Resources) -> Result<LinuxResources, Error> {
    let numbers = |device: &Path| -> Result<(u32, u32), Error> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let found = fs::metadata(device).map_err(Error::io("find the device", device.display()))?;
        match found.file_type().is_block_device() {
            true => Ok(node::numbers(found.rdev())),
            false => Err(Unfit::NoBlockDevice(device.to_owned()).into()),
        }
    };
    let spec = resources.spec(numbers)?;
    spec.map_err(io::Error::other).map_err(Error::io("put down", "the limits"))
}

/// A cgroup for a container that is to be made or started, before its first process is there.
pub(crate) struct Prepared {
    home: Option<Home>,
    resources: Resources,
    best_effort: bool,
    missed: Vec<String>,
}

/// Makes what needs no process. `bus` is where systemd is asked, of a process that has not its caller's variables.
pub(crate) fn prepare(
    id: &ContainerId,
    resources: &Resources,
    settings: &Settings,
    bus: Option<&Address>,
) -> Result<Prepared, Error> {
    let wish = &settings.cgroup;
    let mut prepared =
        Prepared { home: None, resources: resources.clone(), best_effort: wish.best_effort, missed: Vec::new() };
    let is_asked = !resources.is_empty() || *wish != CgroupWish::default();
    if wish.disabled || (!is_asked && !home::may_be_free()) {
        return Ok(prepared);
    }
    let spec = spec(resources)?;
    let usual = serde_json::from_str(USUAL_PIDS).unwrap_or_default();
    let wish = Wish {
        id: id.as_str(),
        parent: wish.parent.as_deref(),
        maker: wish.manager.map(|manager| match manager {
            CgroupManager::Systemd => Maker::Systemd,
            CgroupManager::Cgroupfs => Maker::Directly,
        }),
        resources: &spec,
        swap_is_implied: resources.memory_swap.is_none(),
        usual: &usual,
        bus,
        best_effort: wish.best_effort,
    };
    prepared.home = prepared.or_miss(Home::prepare(&wish))?.flatten();
    Ok(prepared)
}

impl Prepared {
    /// Where the first process can be made in.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.home.as_ref().and_then(Home::as_fd)
    }

    /// Says which that is, by its number on the host.
    pub(crate) fn ask(&mut self, pid: u32) -> Result<(), Error> {
        let Some(mut home) = self.home.take() else { return Ok(()) };
        let asked = home.ask(pid);
        if self.or_miss(asked)?.is_some() {
            self.home = Some(home);
        }
        Ok(())
    }

    /// Waits until that process is limited. Gives what is to be said of limits that are not to be had.
    pub(crate) fn join(mut self, pid: u32) -> Result<(Option<Limited>, Vec<String>), Error> {
        let Some(home) = self.home.take() else { return Ok((None, self.missed)) };
        let joined = home.join(pid);
        let Some(Joined { cgroup, record, missed }) = self.or_miss(joined)? else { return Ok((None, self.missed)) };
        let missed: Vec<String> = missed.into_iter().map(|error| self.say(error)).collect();
        self.missed.extend(missed);
        Ok((Some(Limited { record, watch: cgroup.watch() }), self.missed))
    }

    /// What fails, is said, and no failure, where that is wanted.
    fn or_miss<T>(&mut self, result: Result<T, home::Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.best_effort => {
                let text = self.say(error);
                self.missed.push(text);
                Ok(None)
            }
            Err(error) => Err(LimitError::new(&self.resources, error).into()),
        }
    }

    fn say(&self, error: home::Error) -> String {
        crate::with_causes(&LimitError::new(&self.resources, error))
    }
}

/// The cgroup of a container that runs. Dropped, it is removed, with whatever is in it.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) record: home::Record,
    watch: Watch,
}

impl Limited {
    /// What tells of a limit that is met.
    pub(crate) fn as_fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.watch.as_fds()
    }

    /// Whether processes were killed for want of memory since this was asked last.
    pub(crate) fn has_killed(&mut self) -> bool {
        self.watch.look() > 0
    }

    /// All of it, at the end.
    pub(crate) fn hits(&mut self) -> Hits {
        self.watch.look();
        self.watch.hits()
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // gc finds what is left.
        let _ = self.record.remove();
    }
}

/// What a limit has come to, for people.
pub(crate) fn said(hits: &Hits) -> String {
    let Hits { oom_kills, memory_limit, memory_peak, .. } = hits;
    let processes = if *oom_kills == 1 { "process" } else { "processes" };
    let limit = match memory_limit {
        0 => "the memory that it may use".to_owned(),
        limit => format!("its memory limit of {}", in_binary(*limit)),
    };
    let peak = if *memory_peak > 0 { format!(" (it has used {})", in_binary(*memory_peak)) } else { String::new() };
    format!(
        "the container wanted more than {limit}{peak}, and the kernel has killed {oom_kills} {processes} in it (OOM)"
    )
}

/// In the units that limits are given in.
fn in_binary(bytes: u64) -> String {
    match [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) if bytes.trailing_zeros() >= shift => format!("{} {unit}", bytes >> shift),
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

impl Made {
    /// Its cgroup, if it has one of its own that is still there.
    pub(crate) fn cgroup(&self) -> Option<cgroup::Cgroup> {
        self.home.as_ref()?.open().ok().flatten()
    }
}

/// Moves a process that comes into a container to where that is limited: `own` is its number for this process, `host` for
/// the host.
pub(crate) fn take_in(made: &Made, (own, host): (u32, u32), first: u32) -> Result<(), Error> {
    match &made.home {
        Some(record) => {
            record.attach((own, host), first).map_err(|error| LimitError::new(&made.settings.resources, error).into())
        }
        None => {
            cgroup::follow(own, first);
            Ok(())
        }
    }
}

/// Changes limits of a container that runs.
pub(crate) fn set(record: &home::Record, all: &Resources, changes: &Resources) -> Result<(), Error> {
    // What depends on two words is said with both of them.
    let mut changes = changes.clone();
    if changes.memory.is_some() || changes.memory_swap.is_some() {
        (changes.memory, changes.memory_swap) = (all.memory, all.memory_swap);
    }
    if changes.cpu_period.is_some() || changes.cpu_quota.is_some() {
        (changes.cpu_period, changes.cpu_quota) = (all.cpu_period, all.cpu_quota);
    }
    let updated = record.update(&spec(&changes)?, changes.memory_swap.is_none());
    updated.map_err(|error| LimitError::new(all, error).into())
}

#[cfg(test)]
mod tests {
    use rbox_runtime::cgroup::{Error as CgroupError, Missing};
    use rbox_runtime::systemd;

    use super::*;
    use crate::settings::{Amount, Cpus};

    fn resources() -> Resources {
        Resources { memory: Some(Amount(100 << 20)), cpus: Some(Cpus(50_000)), ..Resources::default() }
    }

    #[test]
    fn what_is_missing_is_said_by_the_flag_that_wants_it() {
        let why = Missing::NotDelegated("/user.slice".into());
        let missing =
            CgroupError::NoController { field: "linux.resources.cpu.quota".into(), controller: "cpu".into(), why };
        let error = LimitError::new(&resources(), missing.into());
        let expected = "cannot enforce --cpus: the cgroup controller 'cpu' is missing: the cgroup /user.slice does not \
                        pass it on, and this user may not change that";
        assert_eq!(crate::with_causes(&error), expected);
        let hint = error.hint().expect("a hint");
        assert!(hint.contains("user@.service.d/delegate.conf") && hint.ends_with("--best-effort-limits does without"));

        let nobody = || home::Error::from(systemd::Error::NoBus("nothing is set".into()));
        let error = LimitError::new(&resources(), nobody());
        let expected = "cannot enforce --memory, --cpus (the cgroup controllers memory, cpu): cannot reach systemd: \
                        nothing is set";
        assert_eq!(crate::with_causes(&error), expected);
        assert!(error.hint().expect("a hint").contains("loginctl enable-linger"));
        let error = LimitError::new(&Resources::default(), nobody());
        let expected = "cannot have a cgroup for the container: cannot reach systemd: nothing is set";
        assert_eq!(crate::with_causes(&error), expected);
    }

    #[test]
    fn what_was_killed_is_said_in_the_units_of_limits() {
        let hits = Hits { oom_kills: 1, memory_limit: 100 << 20, memory_peak: 3 << 29, ..Hits::default() };
        let expected = "the container wanted more than its memory limit of 100 MiB (it has used 1.5 GiB), and the \
                        kernel has killed 1 process in it (OOM)";
        assert_eq!(said(&hits), expected);
        let several = said(&Hits { oom_kills: 2, ..Hits::default() });
        assert!(several.contains("more than the memory that it may use, and") && several.contains("2 processes"));
        assert_eq!(in_binary(1000), "1000 bytes");
    }
}
