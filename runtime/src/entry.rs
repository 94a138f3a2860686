//! The entry: from the fork to init.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

use rbox_sys::mount::{self, Propagation};
use rbox_sys::socket::Channel;
use rbox_sys::{caps, exec, fd, process};

use crate::error::{During, Failure};
use crate::namespaces::Joins;
use crate::order::Order;
use crate::root::OpenRoot;
use crate::{init, own_exe};

/// How this binary becomes init.
#[derive(Debug, Clone, Copy)]
pub struct Init {
    /// The hidden verb with which it is executed.
    pub verb: &'static str,
    /// Whom it asks for the root filesystem.
    pub open_root: OpenRoot,
    /// Whether it is executed even where the binary could not be written from inside. A spec of somebody else's may ask for
    /// what is written to files of /proc/self, which are init's own only then (proc(5)), and an init that stays can only
    /// then be joined.
    pub always_executed: bool,
}

impl Init {
    /// For a root filesystem that is a [directory](crate::DirectoryRoot).
    pub const OF_BUNDLE: Self =
        Self { verb: "__init-bundle", open_root: crate::directory::open_directory, always_executed: true };
}

/// Goes on as init, at the other end of the channel: in the new namespaces already, or with `joins` still outside.
/// Returns only to say what failed. `executed` says whether the binary is executed.
pub(crate) fn run(channel: &mut Channel, init: &Init, joins: &Joins, executed: bool) -> Result<Infallible, Failure> {
    Order::Begin.expect(channel).during(|| "wait for the word to begin")?;
    if joins.have_new_mounts() {
        // Mounts made here must not appear on the host. The host's may appear below bind sources that ask for that: the
        // others, and the root filesystem, are made private when they are opened.
        mount::set_root_propagation(Propagation::Slave).during(|| "make the mounts slaves of the host's")?;
    }
    if !executed {
        return init::run(channel, None, init.open_root);
    }
    let exe = own_exe::read_only().during(|| "make a read-only clone of the rbox binary")?;
    // Without a mapped id this process is nobody's root, and execve(2) would leave it no capability but ambient ones.
    caps::raise_ambient().during(|| "keep the capabilities")?;
    let mut words = vec!["rbox".to_owned(), init.verb.to_owned()];
    for descriptor in [channel.as_fd(), exe.as_fd()] {
        fd::keep_over_exec(descriptor).during(|| "hand a descriptor to init")?;
        words.push(descriptor.as_raw_fd().to_string());
    }
    words.extend(joins.hand_on().during(|| "hand a namespace to init")?);
    // The program that comes has this from the one before it, for a moment; and if that was undumpable, as a monitor is, then
    // for that moment /proc/<pid> would be root's, where the launcher is about to write the maps.
    process::set_dumpable().during(|| "show itself to the launcher")?;
    let argv: Vec<CString> = words.into_iter().filter_map(|word| CString::new(word).ok()).collect();
    let error = exec::execve_fd(exe.as_fd(), &argv, &[]);
    Err(Failure::new("execute init", &error))
}
