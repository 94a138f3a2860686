//! What can be reached from outside, and how fast.

use clap::Args;
use rbox_container::settings::{NetworkRate, Publish, Settings};

#[derive(Debug, Default, Args)]
pub(super) struct PortFlags {
    /// Have a port of the host's lead to one of the container's, which sees who connects: 8080:80, 127.0.0.1:8080:80, 53:53/udp,
    /// 8000-8009:8000-8009, [::1]:8080:80; without one of the host's, any that is free
    #[arg(short, long, value_name = "[[IP:]PORT:]PORT[/udp]")]
    publish: Vec<Publish>,

    /// Have any ports of the host's lead to all those that the image names
    #[arg(short = 'P', long)]
    publish_all: bool,

    /// What it may receive and send in a second, with b, k, m or g for bytes, or in bits: in=10m,out=8mbit
    #[arg(long, value_name = "in=RATE,out=RATE")]
    network_rate: Option<NetworkRate>,
}

impl PortFlags {
    pub(super) fn take(self, settings: &mut Settings) {
        settings.ports = self.publish.into_iter().flat_map(|Publish(mappings)| mappings).collect();
        settings.publish_all = self.publish_all;
        settings.network_rate = self.network_rate.unwrap_or_default();
    }
}
