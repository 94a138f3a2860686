//! Published ports: the sockets of the host's that lead to a container's.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use rbox_net_slirp::config::{Published, PublishedSocket};
use rbox_runtime::Failure;
use rbox_sys::{datagram, tcp};

use crate::settings::{PortMapping, PortProtocol};

/// Gives each of these one port of the host's, where several would do or any: one that is free now.
pub(crate) fn settle(mappings: &[PortMapping]) -> Result<Vec<PortMapping>, Failure> {
    // All are held until each has one, or two could be given the same.
    let (mut settled, mut held) = (Vec::new(), Vec::new());
    for mapping in mappings {
        let (port, sockets) = match &mapping.host {
            Some(ports) if ports.start() == ports.end() => {
                settled.push(mapping.clone());
                continue;
            }
            Some(ports) => ports
                .clone()
                .find_map(|port| Some((port, open(mapping, port).ok()?)))
                .ok_or_else(|| none_is_free(mapping, ports.start(), ports.end()))?,
            None => any(mapping)?,
        };
        settled.push(PortMapping { host: Some(port..=port), ..mapping.clone() });
        held.push(sockets);
    }
    Ok(settled)
}

/// Binds the ports that these were settled to have.
pub(super) fn bind(mappings: &[PortMapping]) -> Result<Vec<Published>, Failure> {
    let mut published = Vec::new();
    for mapping in mappings {
        let port = mapping.host_port().unwrap_or_default();
        let sockets = open(mapping, port).map_err(|error| refused(mapping, port, &error))?;
        let of = |socket| Published { socket, guest_port: mapping.container };
        published.extend(sockets.into_iter().map(of));
    }
    Ok(published)
}

/// Any port that is free; of both families the same one.
fn any(mapping: &PortMapping) -> Result<(u16, Vec<PublishedSocket>), Failure> {
    let mut tries = 16;
    loop {
        let attempt = || -> io::Result<_> {
            let first = open_at(mapping.protocol, SocketAddr::new(addresses(mapping)[0], 0))?;
            let port = match &first {
                PublishedSocket::Tcp(listener) => listener.local_addr()?.port(),
                PublishedSocket::Udp(socket) => socket.local_addr()?.port(),
            };
            drop(first);
            Ok((port, open(mapping, port)?))
        };
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => tries -= 1,
            other => return other.map_err(|error| refused(mapping, 0, &error)),
        }
    }
}

/// The host's addresses that it is reached at.
fn addresses(mapping: &PortMapping) -> Vec<IpAddr> {
    match mapping.ip {
        Some(ip) => vec![ip],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

fn open(mapping: &PortMapping, port: u16) -> io::Result<Vec<PublishedSocket>> {
    let mut sockets = Vec::new();
    for address in addresses(mapping) {
        match open_at(mapping.protocol, SocketAddr::new(address, port)) {
            Ok(socket) => sockets.push(socket),
            // A host without IPv6 has none to be reached at.
            Err(error) if mapping.ip.is_none() && address.is_ipv6() && lacks_family(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

fn open_at(protocol: PortProtocol, address: SocketAddr) -> io::Result<PublishedSocket> {
    Ok(match protocol {
        PortProtocol::Tcp => PublishedSocket::Tcp(tcp::listen(address)?),
        PortProtocol::Udp => PublishedSocket::Udp(datagram::bind(address)?),
    })
}

fn lacks_family(error: &io::Error) -> bool {
    use rbox_sys::Errno;
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(|errno| Some(errno.raw_os_error())).contains(&error.raw_os_error())
}

fn none_is_free(mapping: &PortMapping, first: &u16, last: &u16) -> Failure {
    let what = format!("publish port {mapping}: none of the host's ports {first} to {last} is free");
    Failure::new(what, &io::ErrorKind::AddrInUse.into())
}

fn refused(mapping: &PortMapping, port: u16, error: &io::Error) -> Failure {
    let at = mapping.ip.map_or_else(String::new, |ip| format!(" at {ip}"));
    let failure = Failure::new(format!("publish port {mapping} as the host's {port}{at}"), error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => failure.hint(format!(
            "ports below {} are root's here; sysctl net.ipv4.ip_unprivileged_port_start={port}, by root, gives them to all",
            first_for_all()
        )),
        io::ErrorKind::AddrInUse => match holder(mapping.protocol, port) {
            Some(holder) => failure.hint(format!("{holder} has it; another port of the host's would do")),
            None => failure.hint("another process has it; another port of the host's would do"),
        },
        io::ErrorKind::AddrNotAvailable => failure.hint("the address must be one of this host's"),
        _ => failure,
    }
}

/// ip(7), `ip_unprivileged_port_start`.
fn first_for_all() -> u16 {
    const FILE: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// Who has a port, as far as this user may see: `process 123 (nginx)`.
fn holder(protocol: PortProtocol, port: u16) -> Option<String> {
    let inodes: Vec<String> = ["", "6"]
        .iter()
        .filter_map(|family| fs::read_to_string(format!("/proc/net/{protocol}{family}")).ok())
        .flat_map(|table| table.lines().filter_map(|line| bound(line, port)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbered = processes.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let process = numbered.find(|entry| has_any(&entry.path(), &inodes))?;
    let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
    Some(format!("process {} ({})", process.file_name().display(), name.trim_end()))
}

/// The inode of a line of /proc/net/tcp or udp whose local port this is, and which has no other end (proc_net(5)).
fn bound(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let (_, remote) = fields.get(2)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(local, 16).ok()? == port && remote == "0000";
    is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
}

fn has_any(process: &Path, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|entry| {
        fs::read_link(entry.path()).is_ok_and(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Publish;

    fn mappings(text: &str) -> Vec<PortMapping> {
        text.parse::<Publish>().expect("valid").0
    }

    #[test]
    fn any_port_and_the_first_free_one() {
        let settled = settle(&[mappings("127.0.0.1::80"), mappings("127.0.0.1::81")].concat()).expect("free ports");
        let ports: Vec<u16> = settled.iter().filter_map(PortMapping::host_port).collect();
        assert!(ports.len() == 2 && ports[0] != ports[1] && !ports.contains(&0), "{ports:?}");
        let held = bind(&settled).expect("still free");
        assert_eq!(held.iter().map(|published| published.guest_port).collect::<Vec<_>>(), [80, 81]);

        let port = ports[0];
        let Err(failure) = bind(&settled[..1]) else { panic!("two have one port") };
        assert!(failure.what.contains(&format!("the host's {port} at 127.0.0.1")), "{}", failure.what);
        let hint = failure.hint.expect("there is one");
        assert!(hint.contains(&format!("process {} ", std::process::id())), "{hint}");

        let range = format!("127.0.0.1:{port}-{}:80", port.saturating_add(50));
        let settled = settle(&mappings(&range)).expect("one of fifty is free");
        assert_ne!(settled[0].host_port(), Some(port), "that one is held");
    }
}
