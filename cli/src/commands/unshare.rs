//! `rbox unshare`

use std::ffi::OsString;

use clap::Args;
use rbox_container::Engine;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Unshare {
    /// The program and its arguments [default: $SHELL, or /bin/sh]
    // What follows the program may look like a flag.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<OsString>,
}

impl Unshare {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let mut words = self.words.into_iter();
        let shell = || std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh".into());
        let program = words.next().unwrap_or_else(shell);
        // On success this process is the program, and there is nobody to come back to.
        Err(engine.unshare(program, words.collect()).into())
    }
}
