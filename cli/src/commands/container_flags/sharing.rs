//! Whose namespaces a container has.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::Args;
use rbox_container::settings::{Ipc, MacAddress, MapFlag, NetworkMode, Sharing, Userns, Whose};

use crate::failure::Failure;

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

    /// Whose ids: private (you are root), keep-id[:uid=ID,gid=ID] (you are yourself, or whom that says),
    /// auto[:size=N,uidmapping=MAP,gidmapping=MAP] (some of your ranges that no other container has)
    #[arg(long, value_name = "WHOSE", default_value = "private", hide_default_value = true)]
    userns: Userns,

    /// User ids: CONTAINER_ID:ID[:AMOUNT]; ID 0 is you, those from 1 on are of your ranges; may be repeated
    #[arg(long, value_name = "MAP")]
    uidmap: Vec<MapFlag>,

    /// Group ids, likewise [default: as --uidmap]
    #[arg(long, value_name = "MAP")]
    gidmap: Vec<MapFlag>,

    /// Podman's, for root: whose ranges; they are those of who runs rbox
    #[arg(long, value_name = "USER", hide = true)]
    subuidname: Option<String>,

    /// Likewise
    #[arg(long, value_name = "GROUP", hide = true)]
    subgidname: Option<String>,

    /// The network: slirp[:cidr=10.0.2.0/24,mtu=BYTES,allow_host_loopback=true|false,enable_ipv6=true|false], none, host,
    /// container:NAME [default: slirp, where the host has /dev/net/tun for it]
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Option<NetworkMode>,

    /// The hardware address of its device
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<MacAddress>,

    /// Its address of IPv4
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,

    /// Its address of IPv6
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
}

impl SharingFlags {
    pub(super) fn take(self) -> Result<Sharing, Failure> {
        for (flag, name) in [("subuidname", &self.subuidname), ("subgidname", &self.subgidname)] {
            if let Some(name) = name {
                return Err(Failure::new(format!(
                    "--{flag}={name}: the ranges are those of who runs rbox, and newuidmap and newgidmap map no others; \
                     --uidmap and --gidmap choose among them, and --userns=auto takes some that no other container has"
                )));
            }
        }
        let network = self.network.unwrap_or_default().with(self.mac_address, self.ip, self.ip6);
        let network = network.and_then(|network| network.check().map(|()| network)).map_err(Failure::new)?;
        let userns = self.userns.with(self.uidmap, self.gidmap).map_err(Failure::new)?;
        Ok(Sharing { ipc: self.ipc, pid: self.pid, uts: self.uts, network, userns })
    }
}
