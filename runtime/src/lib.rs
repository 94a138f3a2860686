//! The runtime: an OCI runtime spec → a process in its namespaces.
//!
//! # Theory of operation
//!
//! The launcher reduces the spec to an [`InitPlan`]: an ordered list of plain operations, checked before anything
//! exists. Then three programs, all this one binary, carry it out:
//!
//! ```text
//! launcher (host)                  entry (forked, still the host's files)     init (executed, then the workload)
//!   clone3(user pid mount uts ipc) ─▶
//!   newuidmap ‖ newgidmap            unshare(net cgroup), lo up
//!                                    open bind sources and root filesystem
//!                                    as the caller sees them
//!                                    execve of a read-only clone of rbox ───▶
//!   "mapped" ───────────────────────────────────────────────────────────────▶ become root inside
//!                                                                             mount the root filesystem
//!                                                                             mounts, /dev, masks
//!   ◀───────────────────────────────────────────── console (pty master) ──── pivot_root
//!   ◀── failure, or end of file when execve(2) closed the channel ────────── ids, capabilities, execve
//! ```
//!
//! Why the two stages: sources must be opened with the caller's ids and in the new mount namespace, which only the
//! forked entry has at once; and whatever runs inside the container must not have the host's rbox as its
//! /proc/self/exe, or a malicious image could have it executed and overwrite it (CVE-2019-5736). So init runs from a
//! detached read-only clone of the binary's mount, through which the file cannot be opened for writing. All that does
//! not need the ids happens while the helpers map them, which takes longest of all steps.
//!
//! Nothing of the image is read before the id map is set. Every name that the image controls is resolved with
//! openat2(2) inside the root, once, to a descriptor that is then used.

mod capability;
mod entry;
mod error;
mod exec;
mod init;
mod launch;
mod mount_options;
mod own_exe;
mod plan;
pub mod probe;
mod report;
mod rootfs;
pub mod trace;

pub use capability::DEFAULT_CAPABILITIES;
pub use error::{Error, Failure};
pub use init::{VERB as INIT_VERB, main as init_main};
pub use launch::{Launch, MountRoot, OpenRoot, Prepared, Root, Running, Stdin};
pub use plan::{InitPlan, User};
