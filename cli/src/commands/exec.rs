//! `rbox exec`

use std::path::PathBuf;

use clap::Args;
use rbox_container::{DetachKeys, ExecRequest};

use crate::commands::environment::Environment;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// Let standard input reach the command
    #[arg(short, long)]
    interactive: bool,

    /// Do not wait for the command's end, and see nothing of its output
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    environment: Environment,

    /// Where the command starts [default: where the container's does]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// Who the command runs as, by the container's /etc/passwd or by number [default: the container's user]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Give the command every capability of the container's user namespace; the seccomp profile and the masks stay
    #[arg(long)]
    privileged: bool,

    /// What to type at a terminal (-it) to leave the command to itself: keys with commas between them, each a character
    /// or ctrl- with one; empty for none [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,

    /// The container's name or the beginning of its id, the command and its arguments
    // One list: only so does clap leave alone what looks like a flag and follows the container.
    #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_names = ["CONTAINER", "COMMAND"])]
    words: Vec<String>,
}

impl Exec {
    pub(crate) fn act(self, root: Option<PathBuf>) -> Result<u8, Failure> {
        let mut words = self.words.into_iter();
        let request = ExecRequest {
            container: words.next().unwrap_or_default(),
            command: words.collect(),
            env: self.environment.variables()?,
            workdir: self.workdir,
            user: self.user,
            privileged: self.privileged,
            interactive: self.interactive,
            tty: self.tty,
            detach: self.detach,
            detach_keys: self.detach_keys.unwrap_or_default(),
        };
        Ok(rbox_container::exec(root, &request)?.status())
    }
}
