//! The hidden verbs: parts of this binary that rbox starts by itself.

use rbox_rootless::worker;
use rbox_runtime::{Init, init_main};
use rbox_sys::socket::Channel;

use crate::files::serve;
use crate::life::{monitor, pause};
use crate::root;

/// A container's first process.
pub(crate) const INIT: Init = Init { verb: "__init", open_root: root::open, always_executed: false };
/// One that comes into a container, whose root filesystem is there.
pub(crate) const JOIN: Init = Init { verb: "__init-join", open_root: root::there, always_executed: true };
/// A detached container's monitor.
pub(crate) const MONITOR: &str = "__monitor";
/// Signals all processes of a container but the first one.
pub(crate) const SIGNAL: &str = "__signal";
/// Unpacks a layer.
pub(crate) const UNPACK: &str = "__unpack";
/// Removes or measures a tree.
pub(crate) const TREE: &str = "__tree";

/// Sees to the files of a container that does not run.
pub(crate) const FILES: &str = "__files";
/// Sees to those of one that does.
pub(crate) const FILES_JOIN: &str = "__files-join";

type Verb = fn(std::iter::Skip<std::env::Args>) -> u8;

/// What a hidden verb does; it gives the exit status.
pub fn find(verb: &str) -> Option<Verb> {
    match verb {
        _ if verb == INIT.verb => Some(|arguments| init_main(arguments, &INIT)),
        _ if verb == JOIN.verb => Some(|arguments| init_main(arguments, &JOIN)),
        _ if verb == Init::OF_BUNDLE.verb => Some(|arguments| init_main(arguments, &Init::OF_BUNDLE)),
        MONITOR => Some(monitor::main),
        SIGNAL => Some(pause::main),
        UNPACK => Some(|_| serve(rbox_overlay::worker::main)),
        FILES => Some(serve::main),
        FILES_JOIN => Some(serve::main_joined),
        TREE => Some(|_| serve(rbox_overlay::worker::main_once)),
        _ => None,
    }
}

fn serve(job: impl FnOnce(Channel) -> u8) -> u8 {
    // An error has been told over the channel, or there is none: somebody typed the verb.
    worker::enter().map_or(rbox_types::Exit::RBOX_FAILED, job)
}
