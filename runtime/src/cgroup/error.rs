//! What can go wrong with a cgroup, and what mends it.

use std::fmt;
use std::io;

/// A failure at a container's cgroup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec asks for something that cgroup v2 or this runtime does not have.
    #[error("config: {field}: {why}")]
    Refused {
        /// The field, as the runtime spec writes it: `linux.resources.memory.swappiness`.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no cgroup v2 to use.
    #[error("there is no cgroup v2: {0}")]
    NoMount(String),
    /// A cgroup cannot be made there by this user.
    #[error("may not make the cgroup {path}: {what}")]
    NotPermitted {
        /// The cgroup, below the mount.
        path: String,
        /// What was not permitted, on what.
        what: String,
        /// Why; EROFS: it is mounted for reading only.
        source: io::Error,
    },
    /// What was asked for takes a controller that this cgroup does not have.
    #[error("config: {field}: the cgroup controller '{controller}' is missing: {why}")]
    NoController {
        /// The field that asks for it.
        field: String,
        /// The controller: "memory".
        controller: String,
        /// Why it is missing.
        why: Missing,
    },
    /// The cgroup is in use, or was made by somebody else meanwhile.
    #[error("cannot use the cgroup {path}: {why}")]
    Taken {
        /// The cgroup, below the mount.
        path: String,
        /// What is there.
        why: String,
    },
    /// A limit was not accepted.
    #[error("config: {field}: cannot write '{value}' to {file} of the cgroup {path}")]
    Write {
        /// The field, as the runtime spec writes it.
        field: String,
        /// The cgroup's file.
        file: String,
        /// What was written.
        value: String,
        /// The cgroup, below the mount.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// An operation on the cgroup failed.
    #[error("cannot {operation} the cgroup {path}")]
    Failed {
        /// What was tried: "remove".
        operation: &'static str,
        /// The cgroup, below the mount.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The device filter could not be had.
    #[error("cannot restrict devices with a BPF program")]
    Devices(#[source] io::Error),
}

/// Why a controller is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// cgroup v1 has it.
    BoundToV1,
    /// The kernel, or whoever made the outermost cgroup that is seen here, does not offer it.
    NotOffered,
    /// This cgroup, which is above the container's, has processes, and so cannot give controllers to those below
    /// (cgroups(7), "no internal processes").
    HasProcesses(String),
    /// This cgroup, which is above the container's, was not told to pass it on, and this user may not do it.
    NotDelegated(String),
    /// This cgroup, which is above the container's, refuses to pass it on, with this error.
    NotPassedOn(String, String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BoundToV1 => f.write_str("this host has it in cgroup v1, and limits take cgroup v2"),
            Self::NotOffered => f.write_str("the outermost cgroup does not offer it"),
            Self::HasProcesses(above) => {
                write!(f, "the cgroup {above} holds processes, so it cannot give controllers to those below it")
            }
            Self::NotDelegated(above) => {
                write!(f, "the cgroup {above} does not pass it on, and this user may not change that")
            }
            Self::NotPassedOn(above, why) => write!(f, "the cgroup {above} does not pass it on: {why}"),
        }
    }
}

/// What has systemd pass the controllers on to users.
pub fn to_delegate() -> String {
    format!(
        "as root: mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate={CONTROLLERS}\\n' > \
         /etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload; then log in anew, or, as root: \
         systemctl restart user@UID.service, which ends what that user runs"
    )
}

/// Those that limits need.
pub(super) const CONTROLLERS: &str = "cpu cpuset io memory pids";

/// What gives a host cgroup v2 alone.
pub const TO_V2: &str =
    "boot with cgroup v2 alone: systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all on the kernel's command line";

/// For a user without cgroups of his own.
const DELEGATE: &str = "run it in a cgroup of your own: systemd-run --user --scope -p Delegate=yes COMMAND";

impl Error {
    /// `field` is not done, and why.
    pub(super) fn refused(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused { field: field.into(), why: why.into() }
    }

    /// The field of the spec that cannot be had, where it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Refused { field, .. } | Self::NoController { field, .. } | Self::Write { field, .. } => Some(field),
            _ => None,
        }
    }

    /// What is wrong, without the field.
    pub fn why(&self) -> String {
        match self {
            Self::Refused { why, .. } => why.clone(),
            Self::NoController { controller, why, .. } => {
                format!("the cgroup controller '{controller}' is missing: {why}")
            }
            Self::Write { file, value, path, .. } => format!("cannot write '{value}' to {file} of the cgroup {path}"),
            other => other.to_string(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoMount(_) | Self::NoController { why: Missing::BoundToV1, .. } => TO_V2.into(),
            Self::NotPermitted { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "an outer container must mount /sys/fs/cgroup for writing".into()
            }
            Self::NotPermitted { .. } => DELEGATE.into(),
            Self::NoController { why: Missing::NotDelegated(_), .. } => to_delegate(),
            Self::NoController { why: Missing::HasProcesses(_), .. } => {
                "choose a linux.cgroupsPath below a cgroup without processes, or move those into a sub-cgroup".into()
            }
            Self::NoController { why: Missing::NotOffered, controller, .. } => format!(
                "the kernel needs the '{controller}' controller built in and not disabled (cgroup_disable= on its \
                 command line), and an outer container must pass it on"
            ),
            Self::Devices(error) if error.raw_os_error() == Some(22) => {
                "the kernel needs CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL".into()
            }
            Self::Failed { operation: "remove", source, .. } if source.kind() == io::ErrorKind::ResourceBusy => {
                "processes are still in it: end them first".into()
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_controller_is_named_with_its_remedy() {
        let error =
            |why| Error::NoController { field: "linux.resources.pids.limit".into(), controller: "pids".into(), why };
        for (why, said, remedy) in [
            (Missing::BoundToV1, "this host has it in cgroup v1, and limits take cgroup v2", "cgroup_no_v1=all"),
            (Missing::NotOffered, "the outermost cgroup does not offer it", "cgroup_disable="),
            (Missing::HasProcesses("/a".into()), "the cgroup /a holds processes", "linux.cgroupsPath"),
            (Missing::NotDelegated("/a".into()), "the cgroup /a does not pass it on", "user@.service.d/delegate.conf"),
        ] {
            let error = error(why);
            let expected =
                format!("config: linux.resources.pids.limit: the cgroup controller 'pids' is missing: {said}");
            assert!(error.to_string().starts_with(&expected), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains(remedy)), "{error}");
        }
    }
}
