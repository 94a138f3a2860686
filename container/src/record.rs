//! What a container's directory tells: how it was made and started, how it ended.
//!
//! ```text
//! containers/<id>/
//! ├─ lock                 the store's
//! ├─ container.json       [`Made`]: written while it starts, anew at each start; locked while the workload runs
//! ├─ start.json           [`Startable`](crate::life::start::Startable): what its monitor needs, where it has one
//! ├─ stopped              it has been stopped, and is not to be restarted: empty where somebody did that, else "shutdown"
//! ├─ paused               the first process of the life in which it is paused
//! ├─ limits.json          [`Updated`](crate::life::limited::Updated): limits, once they have been changed
//! ├─ exit.json            [`Finished`]; missing while the workload runs
//! ├─ health.json          [`Health`](crate::life::health::Health), where there is a check; written anew after each one
//! ├─ waiters.json         made by those who wait for a container's end; [`Finished`], if the container goes away then
//! ├─ written              likewise: locked while the files of one that does not run are written to from outside
//! ├─ attach               the socket of its monitor
//! ├─ log log.1 …          what it printed ([`logs`](crate::logs))
//! ├─ work.files/          likewise, of one that was run in the foreground, for `cp`
//! └─ upper/ work/         the overlay's; upper holds what the workload wrote
//! ```
//!
//! Each file is written whole beside its place and renamed. The last one's room is taken before the start, so that a
//! disk which the workload has filled does not lose how it ended.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use jiff::Timestamp;
use oci_spec::runtime::LinuxSeccomp;
use rbox_runtime::cgroup::Hits;
use rbox_runtime::{ProcessId, home};
use rbox_store::read_small;
use rbox_sys::flock::{self, Mode};
use rbox_sys::signal::Signal;
use rbox_types::{Digest, Exit, Reference};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::life::restart::RestartPolicy;
use crate::logs::{Driver, LogOptions};
use crate::plan::RunPlan;
use crate::security::SecurityWords;
use crate::settings::{HealthAction, NetworkMode, PortMapping, Settings, Stop, StopSignal};
use crate::volume::placed::MountedVolume;

/// How it was made, and when it was started last: a foreground container does both at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// When.
    pub created: Timestamp,
    /// When it was started last; none before its first start, and in the records of an rbox that did both at once.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// The first process's id; means something only while the container's lock is held. 0 before the first start.
    pub pid: u32,
    /// Its monitor, while it has one.
    #[serde(default)]
    pub(crate) monitor: Option<ProcessId>,
    /// How often its monitor has started it again.
    #[serde(default)]
    pub restarts: u32,
    /// When its monitor does so.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// What whoever joins it must know; none in the records of an rbox that joined nothing.
    #[serde(default)]
    pub(crate) joining: Option<Joining>,
    /// The image as the user named it, completed.
    pub image: Reference,
    /// Its config's digest, which Docker calls the image's id.
    pub image_id: Digest,
    /// The words that are executed.
    pub args: Vec<String>,
    /// How many of them are the entrypoint.
    #[serde(default)]
    pub entrypoint: usize,
    /// The variables, without HOME where that comes from the image's passwd.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// `user[:group]` as asked for.
    pub user: String,
    /// The host name.
    pub hostname: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input can be given something.
    #[serde(default)]
    pub interactive: bool,
    /// Whether its root filesystem is not to be written to.
    #[serde(default)]
    pub read_only: bool,
    /// Whether it goes away at its end.
    pub rm: bool,
    /// Whether its first process is rbox's init.
    #[serde(default)]
    pub init: bool,
    /// Source, destination, read-only.
    pub binds: Vec<(String, String, bool)>,
    /// Volumes that are mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<MountedVolume>,
    /// What was said about security.
    #[serde(default)]
    pub security: SecurityWords,
    /// Where what it prints goes; none where that is the caller.
    #[serde(default)]
    pub log: Option<LogOptions>,
    /// Its cgroup, since it was started last; none where it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) home: Option<home::Record>,
    /// What else was said, with the image's labels and stop signal, and with ids for the names of containers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub settings: Settings,
}

fn is_default(settings: &Settings) -> bool {
    *settings == Settings::default()
}

/// What one more process in a container shares with the first one, besides what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joining {
    /// When the first process began, as [`ProcessId`] has it.
    started: u64,
    /// Which system calls can be made.
    pub(crate) filter: Filter,
}

/// The filter on system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filter {
    /// There is none.
    None,
    /// The runtime's own.
    BuiltIn,
    /// That of a profile: as it was when the container was made, whatever has become of its file.
    Profile(Box<LinuxSeccomp>),
}

impl Filter {
    /// The one of a plan.
    pub(crate) fn of(plan: &RunPlan) -> Self {
        let profile = plan.spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
        match profile {
            _ if plan.built_in_filter => Self::BuiltIn,
            Some(profile) => Self::Profile(Box::new(profile)),
            None => Self::None,
        }
    }
}

impl Joining {
    /// For a container with this first process.
    pub(crate) fn new(first: ProcessId, filter: Filter) -> Self {
        Self { started: first.started, filter }
    }
}

impl Made {
    /// The ports that are published.
    pub fn ports(&self) -> &[PortMapping] {
        &self.settings.ports
    }

    /// The container's network.
    pub fn network(&self) -> &NetworkMode {
        &self.settings.sharing.network
    }

    /// What people and programs noted on it.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.settings.labels
    }

    /// What is told of it where something happens to it: its image and labels.
    pub(crate) fn known(&self) -> (&Reference, &BTreeMap<String, String>) {
        (&self.image, self.labels())
    }

    /// Its workload is about to run as the process `pid`, in that cgroup.
    pub(crate) fn start(&mut self, pid: u32, filter: Filter, home: Option<home::Record>) -> io::Result<()> {
        self.home = home;
        self.joining = Some(Joining::new(ProcessId::of_child(pid)?, filter));
        (self.pid, self.started) = (pid, Some(Timestamp::now()));
        Ok(())
    }

    /// What asks the workload to end.
    pub(crate) fn stop_signal(&self) -> Signal {
        self.settings.stop.signal.as_ref().map_or(Signal::TERM, StopSignal::signal)
    }

    /// How long it may take to; for ever is longer than anybody waits.
    pub(crate) fn stop_timeout(&self) -> Duration {
        let seconds = self.settings.stop.timeout.unwrap_or(Stop::TIMEOUT);
        u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs)
    }

    /// Whether it has the standard streams of whoever starts it.
    pub(crate) fn has_callers_streams(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.driver == Driver::Passthrough)
    }

    /// Whether its monitor may start it again.
    pub(crate) fn may_begin_again(&self) -> bool {
        self.restart != RestartPolicy::No || self.settings.on_unhealthy == HealthAction::Restart
    }

    /// Since when it runs, where it does.
    pub fn since(&self) -> Timestamp {
        self.started.unwrap_or(self.created)
    }

    /// The first process.
    pub(crate) fn first_process(&self) -> Option<ProcessId> {
        let joining = self.joining.as_ref()?;
        Some(ProcessId { pid: self.pid, started: joining.started })
    }

    /// A descriptor of the first process, if it lives.
    pub(crate) fn open_first_process(&self) -> io::Result<Option<OwnedFd>> {
        Ok(self.first_process().map(ProcessId::open).transpose()?.flatten())
    }

    /// The record, and whether the workload has begun. Before that there is no container to join, but the half-made
    /// mounts of its init, which has no mask and no filter yet: a supervisor locks the record when the workload runs.
    pub(crate) fn read_begun(directory: &Path) -> io::Result<Option<(Self, bool)>> {
        let mut file = match fs::File::open(directory.join(Self::FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let begun = !flock::try_lock(&file, Mode::Shared)?;
        let text = read_small(&mut file)?;
        Ok(serde_json::from_slice(&text).ok().map(|made| (made, begun)))
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finished {
    /// When.
    pub at: Timestamp,
    /// The workload's end, or rbox's own status where it never began.
    pub exit: Exit,
    /// The limits that it has run into.
    #[serde(default, skip_serializing_if = "is_none")]
    pub hits: Hits,
}

fn is_none(hits: &Hits) -> bool {
    *hits == Hits::default()
}

impl Finished {
    /// Where those who wait for the end of a container that goes away with it want to be told: they have it open.
    const FOR_WAITERS: &'static str = "waiters.json";

    /// Tells those who wait, if any do. Their file goes with the container.
    pub(crate) fn tell_waiters(&self, directory: &Path) -> io::Result<()> {
        match fs::OpenOptions::new().write(true).open(directory.join(Self::FOR_WAITERS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => file?.write_all(&serde_json::to_vec(self)?),
        }
    }

    /// The file in which the end of a container can be read even when the container is gone.
    pub(crate) fn wait_in(directory: &Path) -> io::Result<fs::File> {
        let path = directory.join(Self::FOR_WAITERS);
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
    }

    /// Removes that file of a container that has stayed, and whose end is where everybody looks for it.
    pub(crate) fn forget_waiters(directory: &Path) {
        // One that is left does no harm.
        let _ = fs::remove_file(directory.join(Self::FOR_WAITERS));
    }
}

/// Bytes, more than any exit record has.
const ROOM: usize = 384;

/// One of the two files.
pub(crate) trait Record: Serialize + DeserializeOwned {
    const FILE: &'static str;

    /// Gives the file, for whoever locks it.
    fn write(&self, directory: &Path) -> io::Result<fs::File> {
        let (target, new) = (directory.join(Self::FILE), directory.join(format!(".{}", Self::FILE)));
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(new, target)?;
        Ok(file)
    }

    /// Takes room for the record, which [`write_reserved`](Self::write_reserved) then needs no more of.
    fn reserve(directory: &Path) -> io::Result<()> {
        fs::write(directory.join(format!(".{}", Self::FILE)), [b' '; ROOM])
    }

    /// Writes the record into its reserved room.
    fn write_reserved(&self, directory: &Path) -> io::Result<()> {
        let (target, new) = (directory.join(Self::FILE), directory.join(format!(".{}", Self::FILE)));
        let mut text = serde_json::to_vec(self)?;
        // White space at the end is nothing to JSON.
        text.resize(text.len().max(ROOM), b' ');
        fs::OpenOptions::new().write(true).create(true).truncate(false).open(&new)?.write_all(&text)?;
        fs::rename(new, target)
    }

    /// None where it is missing, or was cut short when the power failed.
    fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::File::open(directory.join(Self::FILE)) {
            Ok(mut file) => Ok(serde_json::from_slice(&read_small(&mut file)?).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Record for Made {
    const FILE: &'static str = "container.json";
}

impl Record for Finished {
    const FILE: &'static str = "exit.json";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_record_reads_as_any_other() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Finished::reserve(directory.path()).expect("reserved");
        assert_eq!(Finished::read(directory.path()).expect("read"), None);
        let hits = Hits { oom_kills: u64::MAX, memory_limit: u64::MAX, ..Hits::default() };
        let hits = Hits { memory_peak: u64::MAX, pids_refused: u64::MAX, pids_limit: u64::MAX, ..hits };
        let finished = Finished { at: Timestamp::UNIX_EPOCH, exit: Exit::Signal(9), hits };
        assert!(serde_json::to_vec(&finished).expect("serialized").len() <= ROOM);
        finished.write_reserved(directory.path()).expect("written");
        assert_eq!(Finished::read(directory.path()).expect("read"), Some(finished));
    }
}
