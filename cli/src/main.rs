//! `rbox`: rootless containers in one binary.
//!
//! Arguments describe, commands act, and this file decides the exit code. What the program knows of containers is in
//! the crates below; here is only how it talks to people: data on standard output, everything else on standard error.

mod args;
mod commands;
mod failure;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser;
use rbox_types::Exit;

use crate::args::Args;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    // Hidden verbs first: they are this binary's own, and starting a container passes through here.
    if let Some(verb) = words.next()
        && let Some(worker) = rbox_container::worker::find(&verb)
    {
        return ExitCode::from(worker(words));
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nobody is left to be told of a closed output.
            let _ = error.print();
            // Docker's and Podman's status for what rbox itself refuses; help asked for is no failure.
            return ExitCode::from(if error.use_stderr() { Exit::RBOX_FAILED } else { 0 });
        }
    };
    match commands::act(args) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.status)
        }
    }
}
