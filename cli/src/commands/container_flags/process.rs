//! What a container's first process is given, and how it is asked to end.

use clap::Args;
use rbox_container::settings::{Settings, Stop, StopSignal};

#[derive(Debug, Default, Args)]
pub(super) struct ProcessFlags {
    /// Set all of your own variables, under those of the image and of other flags
    #[arg(long)]
    env_host: bool,

    /// Have the command be in one more group, by the container's /etc/group or by number; keep-groups for all of yours
    #[arg(long, value_name = "GROUP|keep-groups")]
    group_add: Vec<String>,

    /// Which time /etc/localtime shows: a name beneath /usr/share/zoneinfo of this host, or local for this host's
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,

    /// Hand the command so many of your open descriptors, from 3 on
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,

    /// The signal that asks the container to end, by name or number [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<StopSignal>,

    /// The seconds that it then has until it is killed; -1 for no end [default: 10]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-1..))]
    stop_timeout: Option<i32>,
}

impl ProcessFlags {
    pub(super) fn take(self, settings: &mut Settings) {
        settings.groups = self.group_add;
        settings.timezone = self.tz;
        settings.preserve_fds = self.preserve_fds;
        settings.stop = Stop { signal: self.stop_signal, timeout: self.stop_timeout, lifetime: None };
    }

    /// The caller's variables, where they are asked for, but the one that lets whoever has it speak for the caller to a
    /// service manager (sd_notify(3)). What is not UTF-8 cannot be handed on.
    pub(super) fn host_env(&self) -> Vec<String> {
        if !self.env_host {
            return Vec::new();
        }
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some(format!("{}={}", name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter(|(name, _)| name != rbox_sys::notify::SOCKET).filter_map(text).collect()
    }
}
