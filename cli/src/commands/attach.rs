//! `rbox attach`

use clap::Args;
use rbox_container::{Attachment, DetachKeys, Engine};

use crate::commands::start::status;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Keep standard input to yourself
    #[arg(long)]
    no_stdin: bool,

    /// Hand on signals to the command
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sig_proxy: bool,

    /// What leaves the container to itself, typed at its terminal; empty for nothing
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,

    /// Its name, or the beginning of its id
    container: String,
}

impl Attach {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let attachment = Attachment {
            input: !self.no_stdin,
            outputs: [true; 2],
            signals: self.sig_proxy,
            detach_keys: self.detach_keys,
        };
        Ok(status(engine.attach(&self.container, &attachment)?))
    }
}
