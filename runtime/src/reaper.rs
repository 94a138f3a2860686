//! `--init`: init stays as the container's first process, and the workload is its child.
//!
//! The first process of a pid namespace is the parent of every orphan in it, which stays a zombie until it is reaped;
//! and of the signals that it has no handler for it gets none from inside (pid_namespaces(7)). Few programs are made
//! for that. This one does what Docker's init does: it reaps, hands every signal on to the workload, and ends as the
//! workload ends, which ends all else in the container.
//!
//! It is under the workload's own filter, limits and AppArmor profile, has no more capabilities than the workload,
//! holds no descriptor, and cannot be looked into: who could take it over would gain nothing. Nothing of the image is
//! executed.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;

use rbox_sys::caps::{self, Sets};
use rbox_sys::clone::{self, Alone};
use rbox_sys::signal::{self, Signal};
use rbox_sys::{process, tty};

use crate::error::{During, Failure};
use crate::labels::OwnLabels;
use crate::running::exit;

/// As lists of processes show it.
const NAME: &std::ffi::CStr = c"rbox-init";

/// Returns in a child, which is to become the workload. The caller's process stays as init, with the capabilities of
/// `sets`, and returns only to say that it cannot.
pub(crate) fn begin(alone: Alone, labels: OwnLabels, sets: &Sets) -> Result<(), Failure> {
    // From before there is a child, so that its end is not missed.
    signal::block_all();
    match alone.fork().during(|| "make the workload's process")? {
        None => {
            lead()?;
            signal::unblock_all();
            Ok(())
        }
        Some(workload) => {
            caps::set(sets).during(|| "give up the capabilities that only the start needed")?;
            process::set_name(NAME).during(|| "name the container's init")?;
            labels.apply()?;
            // The channel too: the launcher takes the end of it for the workload's beginning.
            let error = process::keep_only([], || stay(workload));
            Err(Failure::new("close what the workload has open", &error))
        }
    }
}

/// A group of its own, so that the terminal's keys reach the workload and not init as well, which would hand on the
/// signal a second time.
fn lead() -> Result<(), Failure> {
    process::new_group().during(|| "begin a process group")?;
    let stdin = io::stdin();
    if tty::is_terminal(stdin.as_fd()) {
        // One that is not the controlling terminal of this session is left to whose it is.
        let _ = tty::become_foreground(stdin.as_fd());
    }
    Ok(())
}

fn stay(workload: u32) -> Infallible {
    loop {
        match signal::wait() {
            // One signal may stand for several children.
            Signal::CHLD => {
                while let Some((pid, ended)) = clone::reap() {
                    if pid == workload {
                        process::exit_at_once(exit(ended).status());
                    }
                }
            }
            // It has not been reaped, or this process would have ended.
            signal => _ = process::signal_child(workload, signal),
        }
    }
}
