//! The hidden verbs: parts of this binary that rbox starts by itself.

use rbox_rootless::worker;
use rbox_sys::socket::Channel;

/// Unpacks a layer.
pub(crate) const UNPACK: &str = "__unpack";
/// Removes a tree.
pub(crate) const REMOVE: &str = "__remove";

type Verb = fn(std::iter::Skip<std::env::Args>) -> u8;

/// What a hidden verb does; it gives the exit status.
pub fn find(verb: &str) -> Option<Verb> {
    match verb {
        rbox_runtime::INIT_VERB => Some(|arguments| rbox_runtime::init_main(arguments, crate::root::open)),
        rbox_runtime::JOIN_VERB => Some(|arguments| rbox_runtime::init_main(arguments, crate::root::there)),
        rbox_runtime::BUNDLE_VERB => Some(|arguments| rbox_runtime::init_main(arguments, rbox_runtime::open_directory)),
        UNPACK => Some(|_| serve(rbox_overlay::worker::main)),
        REMOVE => Some(|_| serve(rbox_overlay::worker::main_remove)),
        _ => None,
    }
}

fn serve(job: impl FnOnce(Channel) -> u8) -> u8 {
    // An error has been told over the channel, or there is none: somebody typed the verb.
    worker::enter().map_or(rbox_types::Exit::RBOX_FAILED, job)
}
