//! What goes wrong, for people.

use std::{fmt, io};

use rbox_types::{ChainId, ContainerName, DiffId, Exit, Reference, VolumeName};

use crate::logs::Driver;

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] rbox_store::Error),
    /// Ids and namespaces.
    #[error(transparent)]
    Rootless(#[from] rbox_rootless::Error),
    /// The registry, or an image that is not what it says.
    #[error(transparent)]
    Image(#[from] rbox_image::Error),
    /// The start of a container.
    #[error(transparent)]
    Runtime(#[from] rbox_runtime::Error),
    /// What was asked for cannot be planned.
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    /// What is asked for cannot be had.
    #[error(transparent)]
    Unfit(#[from] crate::Unfit),
    /// No ids are left for `--userns=auto`.
    #[error(transparent)]
    NoIdsLeft(#[from] crate::NoIdsLeft),
    /// Another container's namespaces cannot be shared.
    #[error(transparent)]
    CannotShare(#[from] crate::CannotShare),
    /// A limit cannot be had.
    #[error(transparent)]
    Limit(#[from] crate::life::limited::LimitError),
    /// Limits that contradict each other.
    #[error("{0}")]
    Limits(String),
    /// A container that runs in the cgroup of whoever started it.
    #[error("container {0} has no cgroup of its own to be limited in: it was started without a limit")]
    Unlimitable(ContainerName),
    /// A container of which only the running thing is of interest.
    #[error("container {0} is not running")]
    NotRunning(ContainerName),
    /// A container whose workload has not begun.
    #[error("container {0} is still being started")]
    Starting(ContainerName),
    /// A container that is paused, where it would have to run.
    #[error("container {0} is paused")]
    Paused(ContainerName),
    /// A container that is to go on, and does.
    #[error("container {0} is not paused")]
    NotPaused(ContainerName),
    /// A container of which nobody can say which processes are its own.
    #[error(
        "container {0} cannot be paused: its process ids are the host's or another container's, and so are its processes"
    )]
    SharesProcesses(ContainerName),
    /// The monitor's reason why the container does not run.
    #[error(transparent)]
    Start(#[from] crate::life::monitor::StartFailure),
    /// A container that was made and started at once.
    #[error("container {0} was run in the foreground, and cannot be started again")]
    NotStartable(ContainerName),
    /// A container with ids that its user has not got any more.
    #[error("container {0} was made with other ids than it would have now: the ranges of its user have changed")]
    OtherIds(ContainerName),
    /// A container that runs in the foreground.
    #[error("container {0} runs in the foreground of its caller, and nobody else can attach to it")]
    InForeground(ContainerName),
    /// A container whose streams are those of whoever has started it.
    #[error(
        "container {0} has the streams of whoever started it (--log-driver=passthrough), and nobody else can attach"
    )]
    PassedThrough(ContainerName),
    /// Ports that cannot be had.
    #[error("cannot {0}")]
    Publish(rbox_runtime::Failure),
    /// A monitor that hung up.
    #[error(
        "container {0} let go of who was attached before its end: what it prints was not taken for too long, or its \
         monitor was killed"
    )]
    LetGo(ContainerName),
    /// A container that does not end.
    #[error("container {0} has been killed, and its supervisor has not ended")]
    StillRunning(ContainerName),
    /// A container whose output went to its caller.
    #[error("container {0} has no log: it ran in the foreground, and what it printed went to whoever ran it")]
    NoLog(ContainerName),
    /// A container whose log is not kept.
    #[error("container {container}: configured logging driver does not support reading (it is {driver})")]
    UnreadableLog {
        /// The container.
        container: ContainerName,
        /// The driver.
        driver: Driver,
    },
    /// `--explain-denied` where no filter is.
    #[error("cannot explain what is denied: the container has no seccomp profile, and so nothing is")]
    NothingDenies,
    /// A container without a health check.
    #[error("container {0} has no defined healthcheck")]
    NoHealthCheck(ContainerName),
    /// Flags of a health check that is none.
    #[error("there is no health check to which --health-… could apply: the image has none")]
    NothingToCheck,
    /// What is to be done when there is no health check that could fail.
    #[error("cannot set on-failure action to {0} without a health check")]
    NothingFails(&'static str),
    /// A health that is waited for, of a container that has ended.
    #[error("container {0} has ended, and will not become what is waited for")]
    EndedBefore(ContainerName),
    /// An image whose health check cannot be read.
    #[error("the image's health check cannot be read: {0}")]
    ImageHealth(String),
    /// A run that only a monitor can do, and that was to do without one.
    #[error(
        "the image has a health check, for which a monitor is needed, and --explain and --explain-denied have none"
    )]
    NeedsMonitor,
    /// There can be no unit of a container.
    #[error(transparent)]
    Unit(#[from] crate::units::UnitError),
    /// A layer that was there a moment ago.
    #[error("layer {0} is not in the store")]
    LayerGone(ChainId),
    /// Not pulled, and not to be.
    #[error("image {0} is not here")]
    NoImage(Box<Reference>),
    /// No image has this name or id.
    #[error("no image {0:?} is here")]
    NoSuchImage(String),
    /// An image does not have this name.
    #[error("the image {image:?} is not called {name}")]
    NotItsName {
        /// As it was given.
        image: String,
        /// The name.
        name: Box<Reference>,
    },
    /// More than one image's id begins so.
    #[error("{prefix:?} is the beginning of {count} image ids")]
    AmbiguousImage {
        /// What was given.
        prefix: String,
        /// How many begin so.
        count: usize,
    },
    /// A list is asked for by what nothing can be like.
    #[error(transparent)]
    Filter(#[from] crate::filter::FilterError),
    /// Neither container nor image.
    #[error("no container and no image {0:?} is here")]
    Nothing(String),
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {layer}")]
    Unpack {
        /// The layer.
        layer: DiffId,
        /// What the worker said.
        source: rbox_overlay::Error,
    },
    /// Given up because another part of the same work failed.
    #[error("given up")]
    Abandoned,
    /// What is in a volume could not be taken out, or put in.
    #[error("cannot {operation} the volume {volume}")]
    Archive {
        /// What was tried.
        operation: &'static str,
        /// On which.
        volume: VolumeName,
        /// Why.
        source: rbox_overlay::Error,
    },
    /// An image that containers still use.
    #[error("image {image} is in use by container {container}")]
    InUse {
        /// The image.
        image: Box<Reference>,
        /// One that uses it.
        container: String,
    },
    /// A program of the user's own.
    #[error("cannot execute {program:?}: {}", not_executed(source))]
    NotExecuted {
        /// As it was called.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// What was to be done with a container's files, in words.
    #[error("{message}")]
    Files {
        /// What and why.
        message: String,
        /// What mends it.
        hint: Option<String>,
    },
    /// A step on a file or on the kernel failed.
    #[error("cannot {operation} {on}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        on: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(operation: &'static str, on: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, on: on.to_string(), source }
    }

    /// Whether the thing asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::NoSuchImage(_)
                | Self::Nothing(_)
                | Self::Store(rbox_store::Error::NoContainer(_) | rbox_store::Error::NoVolume(_))
        )
    }

    /// Whether containers use the thing, which may not be for what was asked.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Store(rbox_store::Error::VolumeInUse { .. }))
    }

    /// Whether the container runs, and may not for what was asked.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Store(rbox_store::Error::Running(_)))
    }

    /// The exit status for this failure.
    pub fn status(&self) -> u8 {
        match self {
            Self::Runtime(error) => error.status(),
            Self::Start(failure) => failure.status,
            Self::NotExecuted { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NOT_FOUND,
            Self::NotExecuted { .. } => Exit::NOT_EXECUTABLE,
            _ => Exit::RBOX_FAILED,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Rootless(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Runtime(error) => error.hint(),
            Self::Unfit(unfit) => unfit.hint(),
            Self::NoIdsLeft(none) => Some(none.hint()),
            Self::Limit(error) => error.hint(),
            Self::Unpack { source, .. } | Self::Archive { source, .. } => source.hint(),
            Self::Start(failure) => failure.hint.clone(),
            Self::Publish(failure) => failure.hint.clone(),
            Self::NotStartable(_) | Self::InForeground(_) => {
                Some("containers of run -d and of create have a monitor of their own".into())
            }
            Self::LetGo(name) => Some(format!("rbox logs {name} has what was missed, and rbox attach {name} goes on")),
            Self::Unlimitable(name) => {
                Some(format!("stop it and update it then, which has it start with the limit: rbox stop {name}"))
            }
            Self::Paused(name) => Some(format!("rbox unpause {name}")),
            Self::ImageHealth(_) | Self::NeedsMonitor => Some("--no-healthcheck does without it".into()),
            Self::NothingToCheck | Self::NothingFails(_) => Some("say what to run, with --health-cmd".into()),
            Self::NoHealthCheck(_) => Some("run and create take --health-cmd".into()),
            Self::OtherIds(name) => Some(format!(
                "see the difference with rbox info and rbox inspect {name}; put the lines of /etc/subuid and /etc/subgid back, \
                 or make the container anew"
            )),
            Self::Starting(_) => Some("try again when its command runs".into()),
            Self::NoImage(image) => Some(format!("rbox pull {image}")),
            Self::LayerGone(_) => Some("pull the image again".into()),
            Self::InUse { container, .. } => Some(format!("rbox rm {container}, or rbox rmi --force")),
            Self::Files { hint, .. } => hint.clone(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("rbox gc frees what no image and no container uses".into())
            }
            _ => None,
        }
    }
}

/// The words that shells and Podman have for the commonest reason.
fn not_executed(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::NotFound => "executable file not found in $PATH".into(),
        _ => source.to_string(),
    }
}

/// What went wrong and why, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Errors that wrap others often say the same again.
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}
