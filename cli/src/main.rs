//! `rbox`: rootless containers in one binary.
//!
//! Arguments describe, commands act, and this file decides the exit code. What the program knows of containers is in
//! the crates below; here is only how it talks to people: data on standard output, everything else on standard error.

#![cfg_attr(not(test), no_main)]

mod args;
mod commands;
mod failure;
mod format;
mod output;
mod overlay;
mod progress;

use rbox_types::Exit;

use crate::args::Args;

#[cfg(not(test))]
rbox_sys::main!(run);

/// Gives the exit status.
#[cfg_attr(test, allow(dead_code, reason = "the tests have a main of their own"))]
fn run() -> u8 {
    if args::is_called(std::env::args_os().next().as_ref(), overlay::NAME) {
        return overlay::run(std::env::args_os().collect());
    }
    let mut words = std::env::args().skip(1);
    // Hidden verbs first: they are this binary's own, and starting a container passes through here.
    if let Some(verb) = words.next()
        && let Some(worker) = rbox_container::worker::find(&verb)
    {
        return worker(words);
    }
    let args = match Args::parse(args::words(std::env::args_os())) {
        Ok(args) => args,
        Err(error) => {
            // Nobody is left to be told of a closed output.
            let _ = error.print();
            // Docker's and Podman's status for what rbox itself refuses; help asked for is no failure.
            return if error.use_stderr() { Exit::RBOX_FAILED } else { 0 };
        }
    };
    commands::act(args).unwrap_or_else(|failure| {
        failure.print();
        failure.status
    })
}
