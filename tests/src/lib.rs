//! What the end-to-end tests stand on. The tests themselves are in `tests/`, one subject a file, and drive the built
//! binary only: nothing of rbox's own code makes the images, the registries or the terminals it is judged by.
//!
//! `cargo xtask test` prepares all of it: the binary ([`host::rbox_binary`]), the fixtures ([`fixture`]) and
//! unprivileged users to run as. A test that lacks something fails and says so; none is skipped.

pub mod alpine;
pub mod attacker;
pub mod bundle;
pub mod calls;
pub mod command;
pub mod containerd;
pub mod cpio;
pub mod debian;
pub mod debian_mirror;
pub mod debian_vm;
pub mod detached;
pub mod dns;
pub mod elf;
pub mod fake;
pub mod fixture;
pub mod hash;
pub mod held;
pub mod host;
pub mod image;
mod inside;
pub mod layer;
pub mod layout;
pub mod netns;
pub mod overlay;
pub mod packages;
pub mod parity;
pub mod patience;
pub mod podman;
pub mod processes;
pub mod rbox;
pub mod registry;
pub mod running;
pub mod servers;
pub mod slirp;
pub mod subids;
pub mod systemd;
pub mod talk;
pub mod terminal;
pub mod tls;
pub mod traffic;
pub mod units;
pub mod vm;
