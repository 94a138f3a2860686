//! What a container may use.

use clap::Args;
use rbox_container::settings::{ByteSize, Limits, Sysctl, Ulimit, Umask};

#[derive(Debug, Default, Args)]
pub(super) struct LimitFlags {
    /// Limit what a process may use, as setrlimit(2) does: nofile, nproc, core, stack…; -1 for the most that you may have,
    /// host for what you have
    #[arg(long, value_name = "NAME=SOFT[:HARD]|host")]
    ulimit: Vec<Ulimit>,

    /// Which permissions new files are not given, in octal digits [default: 0022]
    #[arg(long, value_name = "MASK")]
    umask: Option<Umask>,

    /// How early it is killed when memory runs out, from -1000 (never) to 1000 (first); without root never below your own
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    oom_score_adj: Option<i32>,

    /// The size of /dev/shm, with b, k, m or g; 0 for no limit [default: 64m]
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<ByteSize>,

    /// Set a parameter of the kernel's that the container's namespaces have for themselves: net.*, fs.mqueue.*, kernel.shm*
    /// and their like
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<Sysctl>,
}

impl LimitFlags {
    pub(super) fn take(self) -> Limits {
        Limits {
            ulimits: self.ulimit,
            umask: self.umask,
            oom_score_adj: self.oom_score_adj,
            shm_size: self.shm_size,
            sysctls: self.sysctl.into_iter().map(|sysctl| (sysctl.name, sysctl.value)).collect(),
        }
    }
}
