//! Whose namespaces a container has.

use clap::Args;
use rbox_container::settings::{Ipc, Sharing, Whose};

#[derive(Debug, Default, Args)]
pub(super) struct SharingFlags {
    /// Whose System V IPC, message queues and /dev/shm: shareable, private, none (private, no /dev/shm), host,
    /// container:NAME
    #[arg(long, value_name = "WHOSE", default_value = "shareable", hide_default_value = true)]
    ipc: Ipc,

    /// Whose processes are seen: private, host, container:NAME
    #[arg(long, value_name = "WHOSE", default_value = "private", hide_default_value = true)]
    pid: Whose,

    /// Whose host name: private, host, container:NAME
    #[arg(long, value_name = "WHOSE", default_value = "private", hide_default_value = true)]
    uts: Whose,
}

impl SharingFlags {
    pub(super) fn take(self) -> Sharing {
        Sharing { ipc: self.ipc, pid: self.pid, uts: self.uts }
    }
}
