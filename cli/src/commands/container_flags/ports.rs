//! What can be reached from outside.

use clap::Args;
use rbox_container::settings::{Publish, Settings};

#[derive(Debug, Default, Args)]
pub(super) struct PortFlags {
    /// Have a port of the host's lead to one of the container's, which sees who connects: 8080:80, 127.0.0.1:8080:80, 53:53/udp,
    /// 8000-8009:8000-8009, [::1]:8080:80; without one of the host's, any that is free
    #[arg(short, long, value_name = "[[IP:]PORT:]PORT[/udp]")]
    publish: Vec<Publish>,

    /// Have any ports of the host's lead to all those that the image names
    #[arg(short = 'P', long)]
    publish_all: bool,
}

impl PortFlags {
    pub(super) fn take(self, settings: &mut Settings) {
        settings.ports = self.publish.into_iter().flat_map(|Publish(mappings)| mappings).collect();
        settings.publish_all = self.publish_all;
    }
}
