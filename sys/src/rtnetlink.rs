//! Network devices, their addresses and routes: rtnetlink(7), netlink(7).
//!
//! Changes are gathered and sent in one message, which the kernel takes apart; only what went wrong is answered, and the last
//! one, so that all takes two or three system calls.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The number that the loopback device has in every network namespace.
pub const LOOPBACK: u32 = 1;

/// Nested attributes of a link: by address family.
const IFLA_AF_SPEC: u16 = 26;
/// How link-local addresses come to be, and that none do (linux/if_link.h).
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// Of struct nlmsghdr; what an error is told in begins with its number, and the header that it is about follows.
const HEADER: usize = 16;
/// Of struct rtmsg: family, lengths of both prefixes, TOS, table, protocol, scope, type, flags.
const RTMSG: usize = 12;
/// The kernel says no more than that at once (netlink_recvmsg()).
const LONGEST_DUMP: usize = 32 << 10;

/// Brings up `lo` in the network namespace of this thread.
pub fn loopback_up() -> io::Result<()> {
    let mut changes = Changes::new()?;
    changes.link(LOOPBACK, Link::default());
    changes.make()?.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// Where a route leads: to the addresses that have this one's first `prefix` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// The first of them.
    pub address: IpAddr,
    /// How many bits those are.
    pub prefix: u8,
}

/// Where the routes of the main table lead that the network namespace of this thread has, of one family; but for the
/// default ones, which lead everywhere.
pub fn destinations(v6: bool) -> io::Result<Vec<Destination>> {
    let socket = socket()?;
    let mut request = [0; HEADER + RTMSG];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request[..4].copy_from_slice(&((HEADER + RTMSG) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETROUTE.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[HEADER] = if v6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let (mut found, mut buffer) = (Vec::new(), vec![0; LONGEST_DUMP]);
    loop {
        let (length, _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, following)) = message(rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(found),
                libc::NLMSG_ERROR if body.len() >= 4 => {
                    return Err(io::Error::from_raw_os_error(-(word(body, 0) as i32)));
                }
                _ => found.extend(destination(body)),
            }
            rest = following;
        }
    }
}

/// What a device is brought up with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// The largest packet, in bytes, where it is to be another.
    pub mtu: Option<u32>,
    /// The hardware address.
    pub mac: Option<[u8; 6]>,
}

/// One of the changes that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step(u32);

/// What is to change in the network namespace in which this was made.
#[derive(Debug)]
pub struct Changes {
    socket: OwnedFd,
    bytes: Vec<u8>,
    steps: u32,
    /// Where the last message begins.
    last: usize,
}

impl Changes {
    /// None yet, in the network namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        Ok(Self { socket: socket()?, bytes: Vec::new(), steps: 0, last: 0 })
    }

    /// The number of the device of this name.
    pub fn index_of(&self, name: &str) -> io::Result<u32> {
        // Sockets of every family know.
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// Has the device, which is down, make up no IPv6 address of its own, which would have to be found unique and would ask
    /// for routers. That there is no IPv6 at all is no failure.
    pub fn no_link_local(&mut self, index: u32) -> Step {
        self.begin(libc::RTM_NEWLINK, 0, &link_header(index, 0));
        let mode = attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        let of_family = attribute(libc::AF_INET6 as u16, &mode);
        self.add(IFLA_AF_SPEC, &of_family)
    }

    /// Brings a device up.
    pub fn link(&mut self, index: u32, link: Link) -> Step {
        let step = self.begin(libc::RTM_NEWLINK, 0, &link_header(index, libc::IFF_UP as u32));
        if let Some(mtu) = link.mtu {
            self.add(libc::IFLA_MTU, &mtu.to_ne_bytes());
        }
        if let Some(mac) = link.mac {
            self.add(libc::IFLA_ADDRESS, &mac);
        }
        step
    }

    /// Gives a device an address, `prefix` bits of which are its network's. Nobody is asked whether he has it already.
    pub fn address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Step {
        const SCOPE: u8 = libc::RT_SCOPE_UNIVERSE;
        let [a, b, c, d] = index.to_ne_bytes();
        let header = [family(address), prefix, libc::IFA_F_NODAD as u8, SCOPE, a, b, c, d];
        self.begin(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &header);
        let bytes = octets(address);
        self.add(libc::IFA_LOCAL, &bytes);
        self.add(libc::IFA_ADDRESS, &bytes)
    }

    /// Sends what is for nobody nearer by way of `gateway`.
    pub fn default_route(&mut self, index: u32, gateway: IpAddr) -> Step {
        let (table, scope) = (libc::RT_TABLE_MAIN, libc::RT_SCOPE_UNIVERSE);
        // struct rtmsg.
        let header = [family(gateway), 0, 0, 0, table, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST, 0, 0, 0, 0];
        self.begin(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &header);
        self.add(libc::RTA_GATEWAY, &octets(gateway));
        self.add(libc::RTA_OIF, &index.to_ne_bytes())
    }

    /// Makes them, one after the other. Gives those that were refused; the others are made all the same.
    pub fn make(mut self) -> io::Result<Vec<(Step, io::Error)>> {
        if self.steps == 0 {
            return Ok(Vec::new());
        }
        // Refusals are told in any case.
        let flags = self.last + 6;
        self.bytes[flags] |= libc::NLM_F_ACK as u8;
        rustix::net::send(&self.socket, &self.bytes, SendFlags::empty())?;
        let (mut refused, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some((number, code)) = answer(rest) {
                if code != 0 {
                    refused.push((Step(number), io::Error::from_raw_os_error(-code)));
                }
                if number == self.steps {
                    return Ok(refused);
                }
                rest = rest.get(padded(word(rest, 0) as usize)..).unwrap_or_default();
            }
        }
    }

    fn begin(&mut self, kind: u16, flags: libc::c_int, header: &[u8]) -> Step {
        self.last = self.bytes.len();
        self.steps += 1;
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.steps.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.extend(header)
    }

    fn add(&mut self, kind: u16, value: &[u8]) -> Step {
        self.extend(&attribute(kind, value))
    }

    /// Lengthens the last message.
    fn extend(&mut self, bytes: &[u8]) -> Step {
        self.bytes.extend(bytes);
        let length = (self.bytes.len() - self.last) as u32;
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
        Step(self.steps)
    }
}

/// Whether a change was refused because this namespace, or the kernel, has no IPv6.
pub fn lacks_ipv6(error: &io::Error) -> bool {
    // In the order of: net.ipv6.conf.*.disable_ipv6 (inet6_addr_add()); the module is not there; an MTU below 1280.
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::ENODEV))
}

fn socket() -> io::Result<OwnedFd> {
    // NETLINK_ROUTE is protocol 0.
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}

/// The first message: its type, what follows its header, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let header = bytes.get(..HEADER)?;
    let length = word(header, 0) as usize;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    Some((kind, bytes.get(HEADER..length)?, bytes.get(padded(length)..).unwrap_or_default()))
}

/// Where the route of this struct rtmsg leads, if it is one of those that are looked for.
fn destination(body: &[u8]) -> Option<Destination> {
    let (header, mut attributes) = body.split_at_checked(RTMSG)?;
    let (prefix, mut table, mut address) = (header[1], u32::from(header[4]), None);
    while let Some([a, b, c, d]) = attributes.first_chunk() {
        let (length, kind) = (usize::from(u16::from_ne_bytes([*a, *b])), u16::from_ne_bytes([*c, *d]));
        let value = attributes.get(4..length)?;
        match (kind, value.len()) {
            (libc::RTA_TABLE, 4) => table = word(value, 0),
            (libc::RTA_DST, 4) => address = value.first_chunk().map(|bytes| Ipv4Addr::from(*bytes).into()),
            (libc::RTA_DST, 16) => address = value.first_chunk().map(|bytes| Ipv6Addr::from(*bytes).into()),
            _ => {}
        }
        attributes = attributes.get(padded(length)..).unwrap_or_default();
    }
    // Those of a cache are no routes.
    let is_one = table == u32::from(libc::RT_TABLE_MAIN) && word(header, 8) & libc::RTM_F_CLONED == 0 && prefix > 0;
    address.filter(|_| is_one).map(|address| Destination { address, prefix })
}

/// The number and the error, or none, of the message that an answer is about.
fn answer(bytes: &[u8]) -> Option<(u32, i32)> {
    (bytes.len() >= HEADER + 4 + HEADER).then(|| (word(bytes, HEADER + 4 + 8), word(bytes, HEADER) as i32))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// struct ifinfomsg.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    for (place, word) in header[4..].chunks_exact_mut(4).zip([index, flags, flags]) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    header
}

/// struct rtattr, padded at its end.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [((4 + value.len()) as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(padded(bytes.len()), 0);
    bytes
}

/// Messages and attributes begin at multiples of four.
fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;

    const INSIDE: &str = "RBOX_TEST_INSIDE";

    /// Runs the calling test once more, as root of a user namespace with a network namespace, and answers `true` there;
    /// outside it waits for the test to pass and answers `false`.
    pub(crate) fn in_network_namespace(test: &str) -> bool {
        if std::env::var_os(INSIDE).is_some() {
            return true;
        }
        let me = std::env::current_exe().expect("this binary");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--"]).arg(me).args(["--exact", test]).env(INSIDE, "1");
        let output = command.output().expect("unshare(1) starts");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success() && text.contains("1 passed"), "in the namespace:\n{text}");
        false
    }

    #[test]
    fn loopback_comes_up() {
        if !in_network_namespace("rtnetlink::tests::loopback_comes_up") {
            return;
        }
        let connect = || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.connect("127.0.0.1:1")
        };
        connect().expect_err("it is down");
        loopback_up().expect("it can be brought up");
        connect().expect("it is up");
        TcpListener::bind("[::1]:0").expect("the same of IPv6");
    }

    #[test]
    fn routes_but_for_default_ones() -> io::Result<()> {
        if !in_network_namespace("rtnetlink::tests::routes_but_for_default_ones") {
            return Ok(());
        }
        assert_eq!([destinations(false)?, destinations(true)?], [vec![], vec![]]);
        let ip = |words: &str| {
            let status = Command::new("ip").args(words.split(' ')).status().expect("ip(8) starts");
            assert!(status.success(), "ip {words}");
        };
        ip("link set lo up");
        // More of them than one message takes.
        for number in 0..=255 {
            ip(&format!("route add 10.9.{number}.0/24 dev lo"));
        }
        for route in ["default dev lo", "blackhole 10.0.2.64/26", "10.7.0.0/16 dev lo table 7"] {
            ip(&format!("route add {route}"));
        }
        for route in ["default dev lo", "fd00::/64 dev lo"] {
            ip(&format!("-6 route add {route}"));
        }
        let mut found = destinations(false)?;
        let one = Destination { address: [10, 0, 2, 64].into(), prefix: 26 };
        assert_eq!(found.iter().position(|found| *found == one).map(|at| found.remove(at)), Some(one));
        assert_eq!(found.len(), 256);
        assert!(found.iter().all(|found| found.prefix == 24), "{found:?}");
        let found = destinations(true)?;
        let one = Destination { address: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0).into(), prefix: 64 };
        assert!(found.contains(&one) && !found.iter().any(|found| found.prefix == 0), "{found:?}");
        Ok(())
    }

    #[test]
    fn every_refusal_is_told_with_its_step() -> io::Result<()> {
        if !in_network_namespace("rtnetlink::tests::every_refusal_is_told_with_its_step") {
            return Ok(());
        }
        let mut changes = Changes::new()?;
        let nowhere = changes.link(7, Link::default());
        changes.link(LOOPBACK, Link { mtu: Some(1500), mac: None });
        let unreachable = changes.default_route(LOOPBACK, [192, 0, 2, 1].into());
        let refused = changes.make()?;
        let steps: Vec<_> = refused.iter().map(|(step, error)| (*step, error.raw_os_error())).collect();
        assert_eq!(steps, [(nowhere, Some(libc::ENODEV)), (unreachable, Some(libc::ENETUNREACH))]);
        Ok(())
    }
}
