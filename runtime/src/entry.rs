//! The entry: from the fork to the execution of init.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

use rbox_sys::mount::{self, Propagation};
use rbox_sys::socket::Channel;
use rbox_sys::{caps, exec, fd};

use crate::error::{During, Failure};
use crate::namespaces::Joins;
use crate::order::Order;
use crate::own_exe;

/// The hidden verb that makes the binary init, for a root filesystem that the caller knows how to mount.
pub const VERB: &str = "__init";

/// The one for a root filesystem that is a [directory](crate::DirectoryRoot).
pub const BUNDLE_VERB: &str = "__init-bundle";

/// The one for a process that comes into a container, whose root filesystem is there.
pub const JOIN_VERB: &str = "__init-join";

/// Goes on as init, at the other end of the channel: in the new namespaces already, or with `joins` still outside.
/// Returns only to say what failed.
pub(crate) fn run(channel: &Channel, verb: &str, joins: &Joins) -> Result<Infallible, Failure> {
    Order::Begin.expect(channel).during(|| "wait for the word to begin")?;
    if joins.have_new_mounts() {
        // Mounts made here must not appear on the host. The host's may appear below bind sources that ask for that: the
        // others, and the root filesystem, are made private when they are opened.
        mount::set_root_propagation(Propagation::Slave).during(|| "make the mounts slaves of the host's")?;
    }
    let exe = own_exe::read_only().during(|| "make a read-only clone of the rbox binary")?;
    // Without a mapped id this process is nobody's root, and execve(2) would leave it no capability but ambient ones.
    caps::raise_ambient().during(|| "keep the capabilities")?;
    let mut words = vec!["rbox".to_owned(), verb.to_owned()];
    for descriptor in [channel.as_fd(), exe.as_fd()] {
        fd::keep_over_exec(descriptor).during(|| "hand a descriptor to init")?;
        words.push(descriptor.as_raw_fd().to_string());
    }
    words.extend(joins.hand_on().during(|| "hand a namespace to init")?);
    let argv: Vec<CString> = words.into_iter().filter_map(|word| CString::new(word).ok()).collect();
    let error = exec::execve_fd(exe.as_fd(), &argv, &[]);
    Err(Failure::new("execute init", &error))
}
