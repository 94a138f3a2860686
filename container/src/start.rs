//! Containers that are made now and started later, or again: by a monitor of their own.

use rbox_runtime::Init;
use rbox_store::{ContainerDir, ContainerEntry};
use rbox_types::ContainerId;
use serde::{Deserialize, Serialize};

use crate::attach::{Attached, Attachment};
use crate::draft::Draft;
use crate::monitor::Starting;
use crate::plan::RunPlan;
use crate::pull::PullOutput;
use crate::record::{Made, Record};
use crate::request::RunRequest;
use crate::root::OverlayRoot;
use crate::settings::{Ipc, Settings, Sharing, Whose};
use crate::supervise::Terminal;
use crate::{Engine, Error, Unfit, events, worker};

/// The monitor's socket in a container's directory.
pub(crate) const ATTACH: &str = "attach";
/// The mark that somebody has stopped the container.
pub(crate) const STOPPED: &str = "stopped";

/// What a monitor needs to start the container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Startable {
    pub(crate) planned: RunPlan,
    pub(crate) root: OverlayRoot,
    /// The workload has a standard input.
    pub(crate) interactive: bool,
    /// Init stays as the first process.
    pub(crate) reaper: bool,
    /// The container goes away at its end.
    pub(crate) rm: bool,
}

impl Record for Startable {
    const FILE: &'static str = "start.json";
}

impl Startable {
    /// Whether a container can be started at all.
    pub(crate) fn is_there(entry: &ContainerEntry) -> bool {
        entry.path.join(Self::FILE).exists()
    }

    /// An init that stays must be one that others can join.
    pub(crate) fn init(&self) -> Init {
        Init { always_executed: self.reaper, ..worker::INIT }
    }
}

impl Engine {
    /// Makes a container that can be started. Gives its id.
    pub fn create(&self, request: &RunRequest, output: &dyn PullOutput) -> Result<ContainerId, Error> {
        Ok(self.make(request, output)?.id().clone())
    }

    /// Runs a container by a monitor of its own; gives its id when the workload runs.
    pub fn run_detached(&self, request: &RunRequest, output: &dyn PullOutput) -> Result<ContainerId, Error> {
        let directory = self.make(request, output)?;
        let id = directory.id().clone();
        self.begin(directory, false)?.started()?;
        Ok(id)
    }

    /// Runs a container by a monitor of its own, and stays attached to its end, or until it is left.
    pub fn run_attached(
        &self,
        request: &RunRequest,
        attachment: &Attachment,
        output: &dyn PullOutput,
    ) -> Result<(ContainerId, Attached), Error> {
        let directory = self.make(request, output)?;
        let entry = self.store.find_container(directory.name().as_str())?;
        let attached = self.begin_attached(&entry, directory, attachment)?;
        Ok((entry.id, attached))
    }

    /// The ids of those that a monitor runs, or could run.
    pub fn startable_containers(&self, running: bool) -> Result<Vec<String>, Error> {
        let mut containers = self.store.containers()?;
        containers.retain(|entry| entry.running == running && Startable::is_there(entry));
        Ok(containers.into_iter().map(|entry| entry.id.to_string()).collect())
    }

    /// Starts a container that does not run; gives its id when it does.
    pub fn start(&self, name_or_id: &str) -> Result<ContainerId, Error> {
        let (entry, directory) = self.startable(name_or_id)?;
        if let Some(directory) = directory {
            self.begin(directory, false)?.started()?;
        }
        Ok(entry.id)
    }

    /// Starts a container that does not run, and stays attached to it to its end, or until it is left.
    pub fn start_attached(&self, name_or_id: &str, attachment: &Attachment) -> Result<Attached, Error> {
        let (entry, directory) = self.startable(name_or_id)?;
        let Some(directory) = directory else { return self.attach(name_or_id, attachment) };
        self.begin_attached(&entry, directory, attachment)
    }

    fn begin_attached(
        &self,
        entry: &ContainerEntry,
        directory: ContainerDir,
        attachment: &Attachment,
    ) -> Result<Attached, Error> {
        let starting = self.begin(directory, true)?;
        starting.listening()?;
        let client = crate::attach::Client::connect(entry)?;
        starting.started()?;
        self.stay_attached(client, attachment)
    }

    /// The container, and its directory if it does not run.
    fn startable(&self, name_or_id: &str) -> Result<(ContainerEntry, Option<ContainerDir>), Error> {
        let entry = self.store.find_container(name_or_id)?;
        if entry.running {
            self.refuse_paused(&entry)?;
            return Ok((entry, None));
        }
        let directory = self.store.claim_container(&entry)?;
        if !Startable::is_there(&entry) {
            return Err(Error::NotStartable(entry.name));
        }
        Ok((entry, Some(directory)))
    }

    fn begin(&self, directory: ContainerDir, attached: bool) -> Result<Starting, Error> {
        let path = directory.path();
        let read = || Made::read(path).map_err(Error::io("read the records in", path.display()));
        let has_tty = attached && read()?.is_some_and(|made| made.tty);
        let size = if has_tty { Some(Terminal::of_caller()?.size()) } else { None };
        let starting = Starting::begin(self, directory, attached, size)?;
        if !attached {
            starting.listening()?;
        }
        Ok(starting)
    }

    fn make(&self, request: &RunRequest, output: &dyn PullOutput) -> Result<ContainerDir, Error> {
        can_be_monitored(&request.settings)?;
        let shared = self.shared(&request.settings.sharing)?;
        let image = self.image_for(request, output)?;
        let draft = Draft::new(self, request, image, request.tty.then_some((0, 0)), &shared)?;
        self.make_room(request)?;
        let directory = draft.make(self, request)?;
        let filled = self.fill(request, &draft, &directory);
        if let Err(error) = filled {
            // The first failure is the one to tell; gc removes what this leaves.
            let _ = directory.remove(&|path| self.remove_tree(path));
            return Err(error);
        }
        events::note(&self.store, &[draft.happened("create", request)]);
        Ok(directory)
    }

    fn fill(&self, request: &RunRequest, draft: &Draft, directory: &ContainerDir) -> Result<(), Error> {
        let failed = || Error::io("write the records in", directory.path().display());
        let startable = Startable {
            planned: draft.planned.clone(),
            root: draft.root(self, request, directory)?,
            interactive: request.interactive,
            reaper: request.init,
            rm: request.rm,
        };
        startable.write(directory.path()).map_err(failed())?;
        let record = Made { log: Some(request.log.clone()), ..draft.record(request) };
        record.write(directory.path()).map_err(failed())?;
        Ok(())
    }
}

impl RunRequest {
    /// Whether a monitor can have what is asked for.
    pub fn can_be_monitored(&self) -> bool {
        can_be_monitored(&self.settings).is_ok()
    }
}

/// A monitor is in namespaces of its own, from which others' cannot be joined, and has nothing that its starter has.
pub(crate) fn can_be_monitored(settings: &Settings) -> Result<(), Unfit> {
    let Sharing { ipc, pid, uts } = &settings.sharing;
    let joins = matches!(ipc, Ipc::Container(_)) || [pid, uts].iter().any(|whose| matches!(whose, Whose::Container(_)));
    match () {
        () if joins => Err(Unfit::Monitored("namespaces of another container")),
        () if *pid == Whose::Host => Err(Unfit::Monitored("the host's process ids")),
        () if settings.preserve_fds > 0 => Err(Unfit::Monitored("descriptors of whoever starts it")),
        () => Ok(()),
    }
}
