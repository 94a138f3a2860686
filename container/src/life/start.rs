//! Containers that are made now and started later, or again: by a monitor of their own.

use std::path::PathBuf;
use std::{io, iter};

use rbox_runtime::Init;
use rbox_store::{ContainerDir, ContainerEntry};
use rbox_types::{ContainerId, StorageDriver};
use serde::{Deserialize, Serialize};

use crate::images::pull::PullOutput;
use crate::life::attach::{Attached, Attachment};
use crate::life::draft::Draft;
use crate::life::monitor::Starting;
use crate::life::supervise::Terminal;
use crate::life::wants::Wants;
use crate::life::{logout, notify, overlay_dirs};
use crate::plan::RunPlan;
use crate::record::{Made, Record};
use crate::request::RunRequest;
use crate::root::OverlayRoot;
use crate::settings::EgressLog;
use crate::shared::Shared;
use crate::{Engine, Error, Unfit, events, names, worker};

/// The monitor's socket in a container's directory.
pub(crate) const ATTACH: &str = "attach";

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

/// A container that runs by itself.
#[derive(Debug)]
pub struct Started {
    /// Its id.
    pub id: ContainerId,
    /// What its caller should know, and is no reason to fail.
    pub notes: Vec<Note>,
}

/// Something about a container that runs.
#[derive(Debug, thiserror::Error)]
pub enum Note {
    /// A service manager wants to be told of it, and was not.
    #[error("it runs, but the service manager that NOTIFY_SOCKET names cannot be told: {0}")]
    Untold(io::Error),
    /// It is below its user's service manager, and he does not linger.
    #[error(
        "containers that you leave running end when you log out, with the last session of {0}; to keep them: \
         loginctl enable-linger {0}"
    )]
    EndsWithManager(String),
    /// A limit cannot be had, and it was said that it goes without.
    #[error("{0}")]
    Unlimited(String),
    /// It is in the scope of a login.
    #[error(
        "containers that you start in this session end when you log out, since logind.conf has KillUserProcesses=yes; to \
         keep them: loginctl enable-linger {0}, and start them by a unit (rbox generate systemd) or with \
         systemd-run --user --scope"
    )]
    EndsWithSession(String),
}

fn notes(monitor: u32) -> Vec<Note> {
    notify::ready(monitor).err().map(Note::Untold).into_iter().collect()
}

impl Engine {
    /// Makes a container that can be started. Gives its id.
    pub fn create(&self, request: &RunRequest, output: &dyn PullOutput) -> Result<ContainerId, Error> {
        Ok(self.make(request, output)?.id().clone())
    }

    /// Runs a container by a monitor of its own, to the moment when the workload runs.
    pub fn run_detached(&self, request: &RunRequest, output: &dyn PullOutput) -> Result<Started, Error> {
        let (directory, wants) = self.make_to_begin(request, output)?;
        self.begin_detached(directory, wants)
    }

    /// Runs a container by a monitor of its own, and stays attached to its end, or until it is left.
    pub fn run_attached(
        &self,
        request: &RunRequest,
        attachment: &Attachment,
        output: &dyn PullOutput,
    ) -> Result<(ContainerId, Attached), Error> {
        let (directory, wants) = self.make_to_begin(request, output)?;
        let entry = self.store.find_container(directory.name().as_str())?;
        let attached = self.begin_attached(&entry, directory, wants, attachment)?;
        Ok((entry.id, attached))
    }

    /// The ids of those that a monitor runs, or could run.
    pub fn startable_containers(&self, running: bool) -> Result<Vec<String>, Error> {
        let mut containers = self.store.containers()?;
        containers.retain(|entry| entry.running == running && Startable::is_there(entry));
        Ok(containers.into_iter().map(|entry| entry.id.to_string()).collect())
    }

    /// Starts a container that does not run, to the moment when it does.
    pub fn start(&self, name_or_id: &str) -> Result<Started, Error> {
        let (entry, directory) = self.startable(name_or_id)?;
        match directory {
            Some(directory) => {
                let wants = Wants::of_record(&directory)?;
                self.begin_detached(directory, wants)
            }
            None => {
                let made = Made::read(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
                let monitor = made.and_then(|made| made.monitor);
                Ok(Started { id: entry.id, notes: monitor.map(|monitor| notes(monitor.pid)).unwrap_or_default() })
            }
        }
    }

    /// Starts a container that does not run, and stays attached to it to its end, or until it is left.
    pub fn start_attached(&self, name_or_id: &str, attachment: &Attachment) -> Result<Attached, Error> {
        let (entry, directory) = self.startable(name_or_id)?;
        let Some(directory) = directory else { return self.attach(name_or_id, attachment) };
        let wants = Wants::of_record(&directory)?;
        self.begin_attached(&entry, directory, wants, attachment)
    }

    fn begin_detached(&self, directory: ContainerDir, wants: Wants) -> Result<Started, Error> {
        let id = directory.id().clone();
        let held = self.begin(directory, wants, false)?.started()?;
        let missed = held.missed.iter().cloned().map(Note::Unlimited);
        let notes = missed.chain(notes(held.monitor)).chain(logout::note(&self.store)).collect();
        Ok(Started { id, notes })
    }

    fn begin_attached(
        &self,
        entry: &ContainerEntry,
        directory: ContainerDir,
        wants: Wants,
        attachment: &Attachment,
    ) -> Result<Attached, Error> {
        // Before it may be gone.
        let made = Made::read(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
        let starting = self.begin(directory, wants, true)?;
        starting.listening()?;
        let client = crate::life::attach::Client::connect(entry)?;
        for missed in &starting.started()?.missed {
            eprintln!("note: {missed}");
        }
        self.stay_attached(client, made, attachment)
    }

    /// The container, and its directory if it does not run.
    fn startable(&self, name_or_id: &str) -> Result<(ContainerEntry, Option<ContainerDir>), Error> {
        let entry = self.find_settled(name_or_id)?;
        if entry.running {
            self.refuse_paused(&entry)?;
            return Ok((entry, None));
        }
        let directory = self.store.claim_container(&entry)?;
        if !Startable::is_there(&entry) {
            return Err(Error::NotStartable(entry.name));
        }
        self.has_its_ids(&entry)?;
        Ok((entry, Some(directory)))
    }

    /// The ranges may not be what they were when it was made, and then its map would lead to another container's ids.
    fn has_its_ids(&self, entry: &ContainerEntry) -> Result<(), Error> {
        let Some(ids) = &entry.refs.ids else { return Ok(()) };
        let made = Made::read(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
        let now = made.and_then(|made| made.settings.sharing.userns.ids(&self.identity).ok().flatten());
        match now {
            Some(now) if now.maps == *ids => Ok(()),
            _ => Err(Error::OtherIds(entry.name.clone())),
        }
    }

    fn begin(&self, directory: ContainerDir, wants: Wants, attached: bool) -> Result<Starting, Error> {
        let driver = self.driver();
        if driver == StorageDriver::Copy {
            self.copy_all_it_has(&directory)?;
        }
        let size = if attached && wants.tty { Some(Terminal::of_caller()?.size()) } else { None };
        let starting = Starting::begin(self, directory, &wants, driver, attached, size)?;
        if !attached {
            starting.listening()?;
        }
        Ok(starting)
    }

    /// A container that has no copy gets one of all that it has.
    fn copy_all_it_has(&self, directory: &ContainerDir) -> Result<(), Error> {
        let path = directory.path();
        let startable = Startable::read(path).map_err(Error::io("read the records in", path.display()))?;
        let made = Made::read(path).map_err(Error::io("read the records in", path.display()))?;
        if made.is_some_and(|made| made.settings.sharing.userns.shows_otherwise()) {
            // A copy would show its files with the ids that they are stored with.
            return Ok(());
        }
        let Some(mut startable) = startable.filter(|it| it.root.driver != StorageDriver::Copy) else { return Ok(()) };
        let root = &mut startable.root;
        let layers: Vec<PathBuf> = iter::once(&root.upper).chain(&root.lowers).cloned().collect();
        // Of one that was killed at this.
        match self.remove_tree(&root.copy()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", root.copy().display())(error));
            }
            _ => self.copy_layers(&layers, &root.copy(), &mut |_| {})?,
        }
        root.driver = StorageDriver::Copy;
        startable.write(path).map(drop).map_err(Error::io("write the records in", path.display()))
    }

    /// As [`make`](Self::make), for what is to be started at once: that it could not be is found before.
    fn make_to_begin(&self, request: &RunRequest, output: &dyn PullOutput) -> Result<(ContainerDir, Wants), Error> {
        let wants = Wants::of_request(request)?;
        self.shared(&request.settings.sharing)?;
        Ok((self.make(request, output)?, wants))
    }

    fn make(&self, request: &RunRequest, output: &dyn PullOutput) -> Result<ContainerDir, Error> {
        if request.settings.egress.log == Some(EgressLog::Stderr) {
            return Err(Unfit::EgressUnread.into());
        }
        let mut shared = self.shared_later(&request.settings.sharing)?;
        // Before there are threads that pull.
        let driver = self.driver_for(&shared.userns)?;
        self.is_to_choose_ids(&shared.userns)?;
        let image = self.image_for(request, output)?;
        let chosen = self.choose_ids(&mut shared.userns, request, &image)?;
        let draft =
            Draft::new(self, names::random_id()?, request, image, request.tty.then_some((0, 0)), &shared, driver)?;
        self.make_room(request)?;
        let directory = draft.make(self, request)?;
        drop(chosen);
        let filled = self.fill(request, &draft, &directory, &shared, output);
        if let Err(error) = filled {
            // The first failure is the one to tell; gc removes what this leaves.
            let _ = directory.remove(&|path| self.remove_tree(path));
            self.remove_anonymous(draft.volumes());
            return Err(error);
        }
        events::note(&self.store, &[draft.happened("create", request, &directory)]);
        Ok(directory)
    }

    fn fill(
        &self,
        request: &RunRequest,
        draft: &Draft,
        directory: &ContainerDir,
        shared: &Shared,
        output: &dyn PullOutput,
    ) -> Result<(), Error> {
        let failed = || Error::io("write the records in", directory.path().display());
        let startable = Startable {
            planned: draft.planned.clone(),
            root: draft.root(self, request, directory, shared, output)?,
            interactive: request.interactive,
            reaper: request.init,
            rm: request.rm,
        };
        startable.write(directory.path()).map_err(failed())?;
        let record = Made { log: Some(request.log.clone()), ..draft.record(request) };
        record.write(directory.path()).map_err(failed())?;
        overlay_dirs::remove_left(directory.path(), &startable.root.work);
        Ok(())
    }
}
