//! How one stays with what runs, and leaves it.

use std::str::FromStr;

use clap::Args;
use rbox_container::{Attachment, DetachKeys, RunRequest};

/// Of `rbox run`.
#[derive(Debug, Args)]
pub(super) struct Attaching {
    /// Stay attached to stdin, stdout or stderr, and to no other than those that are named; without an output the id is
    /// printed, and the command left to itself when its input has ended
    #[arg(short, long, value_name = "STREAM", value_delimiter = ',', conflicts_with = "detach")]
    attach: Vec<Stream>,

    #[command(flatten)]
    leaving: Leaving,
}

/// Of all that attach.
#[derive(Debug, Args)]
pub(super) struct Leaving {
    /// Hand on signals; in a terminal (-t), the terminal makes them
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sig_proxy: bool,

    /// What leaves the container to itself, typed at its terminal (-it); empty for nothing [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
}

/// One of the standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    In,
    Out,
    Error,
}

impl FromStr for Stream {
    type Err = &'static str;

    /// As in Docker, in letters of any size.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match &*text.to_ascii_lowercase() {
            "stdin" => Ok(Self::In),
            "stdout" => Ok(Self::Out),
            "stderr" => Ok(Self::Error),
            _ => Err("expected stdin, stdout or stderr"),
        }
    }
}

impl Attaching {
    /// Whether only a monitor can do what is asked for.
    pub(super) fn needs_monitor(&self) -> bool {
        let Leaving { sig_proxy, detach_keys } = &self.leaving;
        !self.attach.is_empty() || !sig_proxy || detach_keys.as_ref().is_some_and(|keys| !keys.is_none())
    }

    /// How the container of this request is attached to.
    pub(super) fn attachment(self, request: &RunRequest) -> Attachment {
        let wanted = |stream| self.attach.is_empty() || self.attach.contains(&stream);
        let (input, outputs) = (wanted(Stream::In), [wanted(Stream::Out), wanted(Stream::Error)]);
        self.leaving.attachment(request.interactive && input, outputs)
    }
}

impl Leaving {
    /// With these streams.
    pub(super) fn attachment(self, input: bool, outputs: [bool; 2]) -> Attachment {
        Attachment { input, outputs, signals: self.sig_proxy, detach_keys: self.detach_keys.unwrap_or_default() }
    }
}
