//! What a person asks for when running a container.

use std::path::PathBuf;
use std::str::FromStr;

use rbox_types::{ContainerName, Platform, Reference};

use crate::detach_keys::DetachKeys;
use crate::logs::LogOptions;
use crate::restart::RestartPolicy;
use crate::security::Security;

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

/// `--volume source:destination[:options]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// On the host; absolute, or relative to the current directory when it begins with a dot.
    pub source: PathBuf,
    /// In the container; absolute.
    pub destination: PathBuf,
    /// Nothing can be written through it.
    pub read_only: bool,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(source), Some(destination)) = (parts.next(), parts.next()) else {
            return Err("expected source:destination, with absolute paths; anonymous volumes are not there yet".into());
        };
        let options = parts.next().unwrap_or_default();
        if parts.next().is_some() {
            return Err("expected source:destination[:options]".into());
        }
        if !source.starts_with(['/', '.']) {
            return Err(format!(
                "{source:?} would be a named volume, which this version does not have yet; write ./{source} for a directory"
            ));
        }
        if !destination.starts_with('/') {
            return Err(format!("the destination {destination:?} is not an absolute path"));
        }
        if destination.trim_end_matches('/').is_empty() {
            return Err("the destination cannot be the container's root".into());
        }
        let mut volume = Self { source: source.into(), destination: destination.into(), read_only: false };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => volume.read_only = true,
                "rw" => volume.read_only = false,
                other => return Err(format!("option {other:?} is not supported; ro and rw are")),
            }
        }
        Ok(volume)
    }
}

/// `--tmpfs destination[:options]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// In the container; absolute.
    pub destination: PathBuf,
    /// Mount options, over Docker's rw,noexec,nosuid,nodev.
    pub options: Vec<String>,
}

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        if !destination.starts_with('/') || destination.trim_end_matches('/').is_empty() {
            return Err(format!("the destination {destination:?} is not an absolute path below the root"));
        }
        let options: Vec<String> = options.split(',').filter(|option| !option.is_empty()).map(Into::into).collect();
        for option in &options {
            let key = option.split('=').next().unwrap_or_default();
            let known = [
                "rw",
                "ro",
                "exec",
                "noexec",
                "suid",
                "nosuid",
                "dev",
                "nodev",
                "atime",
                "noatime",
                "diratime",
                "nodiratime",
                "relatime",
                "strictatime",
                "size",
                "mode",
                "uid",
                "gid",
                "nr_inodes",
                "nr_blocks",
            ];
            if !known.contains(&key) {
                return Err(format!("option {option:?} is not one of tmpfs"));
            }
        }
        Ok(Self { destination: destination.into(), options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let volume: Volume = "/src:/dst:ro".parse().expect("valid");
        assert_eq!(volume, Volume { source: "/src".into(), destination: "/dst".into(), read_only: true });
        for bad in ["", "/a", "name:/dst", "/a:b", "/a:/", "/a:/b:Z", "/a:/b:ro:rw"] {
            assert!(bad.parse::<Volume>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn tmpfs() {
        let tmpfs: Tmpfs = "/run:size=64m,exec".parse().expect("valid");
        assert_eq!(tmpfs.options, ["size=64m", "exec"]);
        for bad in ["run", "/", "/run:bogus", "/run:lowerdir=/"] {
            assert!(bad.parse::<Tmpfs>().is_err(), "{bad:?} was accepted");
        }
    }
}
