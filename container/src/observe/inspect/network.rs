//! A container's network as Docker and Podman show it.

use std::net::{Ipv4Addr, Ipv6Addr};

use rbox_net_slirp::config::Subnet;
use serde_json::{Map, Value, json};

use crate::settings::{MacAddress, NetworkMode, PortMapping};

/// `NetworkSettings`. Addresses are those of a container that runs.
pub(super) fn settings(network: Option<&NetworkMode>, ports: &[PortMapping], is_alive: bool) -> Value {
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
    settings["Ports"] = if alive.is_some() { bindings(ports) } else { json!({}) };
    settings["Networks"] = networks;
    settings
}

/// Published ports, each of the container's with those of the host's that lead to it.
pub(super) fn bindings(ports: &[PortMapping]) -> Value {
    let mut shown = Map::new();
    for port in ports {
        let ip = port.ip.map_or_else(|| "0.0.0.0".into(), |ip| ip.to_string());
        let binding = json!({ "HostIp": ip, "HostPort": port.host_port().unwrap_or_default().to_string() });
        if let Some(bindings) = shown.entry(port.to_string()).or_insert(json!([])).as_array_mut() {
            bindings.push(binding);
        }
    }
    Value::Object(shown)
}
