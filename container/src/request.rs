//! What a person asks for when running a container.

use std::path::PathBuf;
use std::str::FromStr;

use rbox_types::{ContainerName, Platform, Reference};

use crate::life::attach::detach_keys::DetachKeys;
use crate::life::restart::RestartPolicy;
use crate::logs::LogOptions;
use crate::security::Security;
use crate::settings::Settings;
use crate::volume::{Tmpfs, Volume};

/// `rbox run`, taken apart.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The image.
    pub image: Reference,
    /// For which platform, if not the host's.
    pub platform: Option<Platform>,
    /// Whether to ask the registry first.
    pub pull: PullPolicy,
    /// Talk to a registry without TLS, or without verifying it.
    pub tls_verify: Option<bool>,
    /// Instead of the image's Cmd.
    pub command: Vec<String>,
    /// Instead of the image's Entrypoint; an empty one takes it away.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value`; set over the image's.
    pub env: Vec<String>,
    /// Instead of the image's WorkingDir.
    pub workdir: Option<PathBuf>,
    /// Instead of the image's User.
    pub user: Option<String>,
    /// The host name; the short id otherwise.
    pub hostname: Option<String>,
    /// The container's name; a random one otherwise.
    pub name: Option<ContainerName>,
    /// Whether one that has this name gives way to it.
    pub replace: bool,
    /// Standard input reaches the workload.
    pub interactive: bool,
    /// The workload has a terminal.
    pub tty: bool,
    /// The container is removed when it has ended.
    pub rm: bool,
    /// Whether the workload is started again when it has ended.
    pub restart: RestartPolicy,
    /// Where what it prints goes, where nobody waits for it.
    pub log: LogOptions,
    /// The container's first process is rbox's init, and the workload its child.
    pub init: bool,
    /// Nothing can be written to the root filesystem.
    pub read_only: bool,
    /// Files and directories of the host.
    pub volumes: Vec<Volume>,
    /// Fresh, empty directories in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// What the workload may do and see.
    pub security: Security,
    /// The variables of the caller's, under all others; none unless asked for.
    pub host_env: Vec<String>,
    /// What else is said of the container.
    pub settings: Settings,
    /// Whether the calls that the filter refuses are to be told in the end.
    pub explain_denied: bool,
}

impl RunRequest {
    /// A run without any flag.
    pub fn new(image: Reference) -> Self {
        Self {
            image,
            platform: None,
            pull: Default::default(),
            tls_verify: None,
            command: Vec::new(),
            entrypoint: None,
            env: Vec::new(),
            workdir: None,
            user: None,
            hostname: None,
            name: None,
            replace: false,
            interactive: false,
            tty: false,
            rm: false,
            restart: Default::default(),
            log: Default::default(),
            init: false,
            read_only: false,
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            security: Default::default(),
            host_env: Vec::new(),
            settings: Default::default(),
            explain_denied: false,
        }
    }
}

/// `rbox exec`, taken apart.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// The container's name, or the beginning of its id.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `NAME=value`; set over the container's.
    pub env: Vec<String>,
    /// Instead of the container's.
    pub workdir: Option<PathBuf>,
    /// Instead of the container's.
    pub user: Option<String>,
    /// The process has every capability of the user namespace.
    pub privileged: bool,
    /// Standard input reaches it.
    pub interactive: bool,
    /// It has a terminal.
    pub tty: bool,
    /// Nobody waits for it.
    pub detach: bool,
    /// What a person types at its terminal to leave it.
    pub detach_keys: DetachKeys,
}

impl ExecRequest {
    /// A command as the container's own would be, and without any flag.
    pub(crate) fn of(command: Vec<String>) -> Self {
        Self {
            container: String::new(),
            command,
            env: Vec::new(),
            workdir: None,
            user: None,
            privileged: false,
            interactive: false,
            tty: false,
            detach: false,
            detach_keys: DetachKeys::NONE,
        }
    }
}

/// When the registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the image is not here.
    #[default]
    Missing,
    /// Never.
    Never,
}

impl FromStr for PullPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "missing" => Ok(Self::Missing),
            "never" => Ok(Self::Never),
            _ => Err("expected always, missing or never".into()),
        }
    }
}
