//! A container's network as Docker and Podman show it.

use std::net::{Ipv4Addr, Ipv6Addr};

use rbox_net_slirp::config::Subnet;
use serde_json::{Value, json};

use crate::settings::{MacAddress, NetworkMode};

/// `NetworkSettings`. Addresses are those of a container that runs.
pub(super) fn settings(network: Option<&NetworkMode>, is_alive: bool) -> Value {
    let slirp = network.and_then(NetworkMode::slirp);
    let alive = slirp.filter(|_| is_alive);
    let v4 = alive.map(|slirp| slirp.v4());
    let v6 = alive.and_then(|slirp| slirp.v6());
    let mut settings = json!({
        "IPAddress": v4.map_or_else(String::new, |subnet: Subnet<Ipv4Addr>| subnet.guest.to_string()),
        "IPPrefixLen": v4.map_or(0, |subnet| subnet.prefix),
        "Gateway": v4.map_or_else(String::new, |subnet| subnet.gateway.to_string()),
        "GlobalIPv6Address": v6.map_or_else(String::new, |subnet: Subnet<Ipv6Addr>| subnet.guest.to_string()),
        "GlobalIPv6PrefixLen": v6.map_or(0, |subnet| subnet.prefix),
        "IPv6Gateway": v6.map_or_else(String::new, |subnet| subnet.gateway.to_string()),
        "MacAddress": alive.map_or_else(String::new, |slirp| MacAddress(slirp.mac()).to_string()),
    });
    let networks = match network.filter(|_| slirp.is_some()) {
        // Each network has the same fields.
        Some(network) => json!({ network.word(): settings }),
        None => json!({}),
    };
    settings["Ports"] = json!({});
    settings["Networks"] = networks;
    settings
}
