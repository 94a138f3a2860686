//! The runtime: an OCI runtime spec → a process in its namespaces.
//!
//! # Theory of operation
//!
//! Three programs, all this one binary. What takes longest by far is the mapping of ids, so it begins before the
//! launcher's caller even knows what is to be run, and all else happens beside it:
//!
//! ```text
//! launcher (host)             entry (forked)                  init (executed, then the workload)
//!   clone3(user pid mount) ──▶
//!   newuidmap ‖ newgidmap       execve of a read-only
//!   spec → InitPlan             clone of rbox ──────────────▶ the other namespaces
//!   "plan" ─────────────────────────────────────────────────▶ open bind sources as the caller sees them
//!   the root filesystem's
//!   directories; "root" ────────────────────────────────────▶ open them in the same way, and volumes
//!   "mapped" ───────────────────────────────────────────────▶ become root inside
//!   what comes before                                         mount the root filesystem
//!   the workload                                              mounts, /dev, masks
//!   ◀── tap, to be served ───────────────────────────────────── the network namespace
//!   ◀───────────────────────────────── console (pty master) ── pivot_root
//!   "filter", "go" ─────────────────────────────────────────▶ ids, capabilities
//!   ◀── failure, or end of file when execve(2) closed the channel ── execve
//! ```
//!
//! An [`InitPlan`] is the spec reduced to an ordered list of plain operations, checked before anything is done.
//!
//! Why init is executed: whatever runs inside the container must not have the host's rbox as its /proc/self/exe, or a
//! malicious image could have it executed and overwrite it (CVE-2019-5736). So init runs from a detached read-only
//! clone of the binary's mount, through which the file cannot be opened for writing.
//!
//! Nothing of the image is read before the id map is set. Every name that the image controls is resolved with
//! openat2(2) inside the root, once, to a descriptor that is then used.

mod agent;
mod attributes;
mod capability;
pub mod cgroup;
mod cgroup_mount;
mod copy_up;
mod dev;
mod devices;
mod directory;
mod entry;
mod error;
mod exec;
mod filesystems;
#[cfg(test)]
mod fuzz;
pub mod home;
mod hooks;
mod init;
mod keyring;
mod labels;
mod launch;
mod mask;
mod memory_policy;
mod mount_ids;
mod mount_options;
mod mounted;
mod namespaces;
mod network;
mod number_list;
pub mod oci;
mod oom_score;
mod order;
mod own_exe;
mod plan;
pub mod probe;
mod process_id;
mod propagation;
mod reaper;
mod report;
mod rlimits;
mod root;
mod rootfs;
mod running;
mod scheduling;
pub mod seccomp;
mod sources;
mod status;
mod sysctl;
pub mod systemd;
mod time_offsets;
pub mod trace;
mod volume;

pub use capability::{ALL_CAPABILITIES, DEFAULT_CAPABILITIES, capabilities_of};
pub use directory::{DirectoryRoot, open_directory};
pub use entry::Init;
pub use error::{Error, Failure};
pub use hooks::{Hooks, Subject};
pub use init::main as init_main;
pub use labels::CONTEXT_HINT;
pub use launch::{Launch, Planned, Workload, start_held};
pub use namespaces::NamespacePlan;
pub use network::{Tap, TapAddress, TapPlan, WantedTap};
pub use plan::{InitPlan, KEEP_GROUPS, Streams, User};
pub use process_id::ProcessId;
pub use root::{AskingRoot, HandOver, MountRoot, OpenRoot, Prepared, ServeRoot};
pub use running::Running;
pub use status::Status;
pub use sysctl::namespace_of_sysctl;
pub use volume::VolumePlan;
