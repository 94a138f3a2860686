//! The right to administer this machine: being root, or sudo(8).

use std::process::{Command, Stdio};

use rbox_tests::{command, host};

/// By what means this process can be root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admin {
    /// It is.
    Root,
    /// By sudo.
    Sudo,
    /// Not at all.
    No,
}

impl Admin {
    /// Finds out. A sudo that asks for a password counts where there is a terminal to ask on.
    pub(crate) fn find() -> Self {
        if host::uid() == 0 {
            return Self::Root;
        }
        if !command::exists("sudo") {
            return Self::No;
        }
        let may = |arguments: &[&str]| {
            let mut sudo = Command::new("sudo");
            sudo.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
            sudo.status().is_ok_and(|status| status.success())
        };
        let on_terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
        if may(&["-n", "true"]) || (on_terminal && may(&["-v"])) { Self::Sudo } else { Self::No }
    }

    /// `program`, run as root; `None` where that cannot be.
    pub(crate) fn command(self, program: &str) -> Option<Command> {
        match self {
            Self::Root => Some(Command::new(program)),
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["--", program]);
                Some(sudo)
            }
            Self::No => None,
        }
    }
}
