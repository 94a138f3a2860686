//! How names are resolved in a container.

use clap::Args;
use rbox_container::settings::{Dns, ExtraHost, Resolver};

use crate::failure::Failure;

#[derive(Debug, Default, Args)]
pub(super) struct Names {
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME[;NAME…]:ADDRESS")]
    add_host: Vec<ExtraHost>,

    /// Name a name server in /etc/resolv.conf; none leaves the image's file
    #[arg(long, value_name = "ADDRESS|none")]
    dns: Vec<Dns>,

    /// Name a domain to search in /etc/resolv.conf; . for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,

    /// Set an option in /etc/resolv.conf
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
}

impl Names {
    pub(super) fn take(self) -> Result<Resolver, Failure> {
        let resolver =
            Resolver { hosts: self.add_host, servers: self.dns, search: self.dns_search, options: self.dns_option };
        resolver.check().map_err(Failure::new)?;
        Ok(resolver)
    }
}
