//! The terminal of a process that nobody looks at: somebody must hold its other end, or the process is hung up.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use rbox_runtime::Running;
use rbox_sys::clone::Alone;
use rbox_sys::poll::{self, Interest};
use rbox_sys::process;
use rbox_types::Exit;

/// As lists of processes show it.
const NAME: &std::ffi::CStr = c"rbox-hold";

/// Has a process of its own hold the terminal, and read what is printed to nobody, until `running` has ended.
pub(crate) fn hold(master: &File, running: Running) -> io::Result<()> {
    if Alone::check()?.fork()?.is_some() {
        running.release();
        return Ok(());
    }
    // Signals stay blocked, as the supervisor has them: the hang-up of the caller's session, which may come before this one
    // has begun its own, would end it. Nobody is left to be told what fails; without the rest it holds all the same.
    let _ = process::new_session();
    let _ = process::change_directory(Path::new("/"));
    let _ = process::set_name(NAME);
    let _ = process::keep_only([master.as_fd(), running.as_fd()], || drain(master, &running));
    process::exit_at_once(Exit::RBOX_FAILED)
}

fn drain(mut master: &File, running: &Running) -> Infallible {
    let mut open = true;
    let mut buffer = [0; 4096];
    loop {
        let printed = if open { Interest::Read } else { Interest::None };
        match poll::wait([(running.as_fd(), Interest::Read), (master.as_fd(), printed)], None) {
            // EIO: the last process that had the terminal open is gone, or has closed it.
            Ok([false, true]) => open = master.read(&mut buffer).is_ok_and(|length| length > 0),
            Ok([false, false]) => {}
            Ok([true, _]) | Err(_) => process::exit_at_once(0),
        }
    }
}
