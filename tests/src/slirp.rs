//! A network of its own for user-mode networking to be tried in, by whichever program serves it.
//!
//! ```text
//! guest ── tap ── rbox-slirp, slirp4netns or pasta, in host ── veth ── far
//! ```
//!
//! All three are network namespaces of one user namespace that an ordinary user may make, and end with the process that
//! made them; the machine's own network is neither used nor changed. A test calls [`judged`], which runs that same test
//! once more inside. What the peers fail is left out of their list of [`lines!`](crate::lines), and said there.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rbox_sys::rlimit::{self, Resource};
use serde_json::json;
use tempfile::TempDir;

use crate::command::{output, read, shown};
use crate::host;
use crate::inside::{self, Tries};
use crate::netns::{Namespace, Running};
use crate::patience::until;

/// The driver of rbox's own crate, in the target directory.
pub const DRIVER: &str = "rbox-slirp";

/// The name of the guest's device.
pub const DEVICE: &str = "tap0";

/// The largest MTU that slirp4netns and pasta have too.
pub const LARGE: u16 = 65520;

/// Who serves the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The crate under test.
    Rbox,
    /// libslirp's.
    Slirp4netns,
    /// passt's.
    Pasta,
    /// The kernel alone: routes and no user-mode networking at all. What a line says holds here, or the line is wrong.
    Routed,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rbox, Self::Slirp4netns, Self::Pasta, Self::Routed];

    /// Its program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rbox => DRIVER,
            Self::Slirp4netns => "slirp4netns",
            Self::Pasta => "pasta",
            Self::Routed => "the kernel alone",
        }
    }

    /// Whom the other end sees in the guest's place.
    pub fn seen(self, family: Family) -> IpAddr {
        if self == Self::Routed { family.guest() } else { family.host() }
    }

    fn program(self) -> PathBuf {
        match self {
            Self::Rbox => host::target_dir().join(DRIVER),
            _ => self.name().into(),
        }
    }
}

/// Which IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn pick(self, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(v4).into(),
            Self::V6 => Ipv6Addr::from(v6).into(),
        }
    }

    /// The host's address towards far.
    pub fn host(self) -> IpAddr {
        self.pick([192, 0, 2, 1], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])
    }

    /// Far's address towards the host.
    pub fn far(self) -> IpAddr {
        self.pick([192, 0, 2, 77], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77])
    }

    /// Another address of far's, beyond a router.
    pub fn farther(self) -> IpAddr {
        self.pick([198, 51, 100, 1], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 1])
    }

    /// An address that the host knows it has no way to.
    pub fn unreachable(self) -> IpAddr {
        self.pick([203, 0, 113, 1], [0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 1])
    }

    /// The guest's own address, but for slirp4netns' IPv6 ([`Lab::guest_address`]).
    pub fn guest(self) -> IpAddr {
        self.pick([10, 0, 2, 100], [0xfd00, 0, 0, 0, 0, 0, 0, 0x100])
    }

    /// What the guest has as its gateway.
    pub fn gateway(self) -> IpAddr {
        self.pick([10, 0, 2, 2], [0xfd00, 0, 0, 0, 0, 0, 0, 2])
    }

    /// What the guest has as its name server.
    pub fn dns(self) -> IpAddr {
        self.pick([10, 0, 2, 3], [0xfd00, 0, 0, 0, 0, 0, 0, 3])
    }

    /// The loopback.
    pub fn loopback(self) -> IpAddr {
        self.pick([127, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1])
    }

    /// All addresses, for who listens.
    pub fn any(self) -> IpAddr {
        self.pick([0; 4], [0; 8])
    }
}

/// What the guest is to have.
#[derive(Debug, Clone)]
pub struct Options {
    /// The tap's.
    pub mtu: u16,
    /// Whether the gateway stands for the host's loopback.
    pub allow_host_loopback: bool,
    /// Addresses of the host's and ports of the guest's.
    pub published: Vec<Published>,
    /// Egress rules, as rbox alone has them.
    pub egress: Vec<String>,
    /// Bytes a second to the guest and from it, as rbox alone limits them.
    pub rate: [Option<u64>; 2],
}

/// A port of the host's that leads to the guest.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// Where it is.
    pub host: SocketAddr,
    /// Where it leads to.
    pub guest_port: u16,
    /// UDP, not TCP.
    pub udp: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { mtu: LARGE, allow_host_loopback: false, published: Vec::new(), egress: Vec::new(), rate: [None; 2] }
    }
}

/// The namespaces, and who serves the guest. What it started ends with it.
pub struct Lab {
    slirp: Option<Running>,
    /// Keeps the guest's namespace for those that find it by a process.
    resident: Running,
    /// The guest.
    pub guest: Namespace,
    /// Where whoever serves it runs.
    pub host: Namespace,
    /// Whom the guest talks to.
    pub far: Namespace,
    dir: TempDir,
}

/// No address of ours is anybody else's: nobody need be asked first.
const NO_DAD: [&str; 2] = ["ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"];

impl Lab {
    /// The three, with a guest that is served.
    pub fn new(backend: Backend, options: &Options) -> Result<Self> {
        let mut lab = Self::bare()?;
        lab.serve(backend, options)?;
        Ok(lab)
    }

    /// The three, with a guest that nobody serves.
    pub fn bare() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("slirp.").tempdir_in(host::scratch_base())?;
        let (host, far, guest) = (Namespace::own()?, Namespace::new()?, Namespace::new()?);
        for namespace in [&host, &far, &guest] {
            NO_DAD.iter().try_for_each(|name| namespace.set(name, "0"))?;
            namespace.set("ipv4/ping_group_range", "0 0")?;
        }
        host.ip(&format!(
            "link set lo up
             link add up0 type veth peer name up0 netns {}
             address add 192.0.2.1/24 dev up0
             address add 2001:db8::1/64 dev up0 nodad
             link set up0 up",
            far.path()
        ))?;
        far.ip("address add 192.0.2.77/24 dev up0
             address add 2001:db8::77/64 dev up0 nodad
             address add 198.51.100.1/32 dev lo
             address add 2001:db8:1::1/128 dev lo nodad
             link set up0 up")?;
        host.ip("route add default via 192.0.2.77
             route add ::/0 via 2001:db8::77
             route add unreachable 203.0.113.0/24
             route add unreachable 2001:db8:dead::/48")?;
        let resident = guest.start(Command::new("sleep").arg("infinity"))?;
        let lab = Self { slirp: None, resident, guest, host, far, dir };
        fs::write(lab.guest_path(), "")?;
        read(Command::new("mount").arg("--bind").arg(lab.guest.path()).arg(lab.guest_path()))?;
        lab.resolve_by(&[Family::V4.far(), Family::V6.far()])?;
        Ok(lab)
    }

    /// Starts whoever serves the guest, and waits until the guest has all its addresses and routes.
    pub fn serve(&mut self, backend: Backend, options: &Options) -> Result<()> {
        if backend == Backend::Routed {
            return self.route(options.mtu);
        }
        let mut command = self.command(backend, options);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let slirp = self.slirp.insert(self.host.start(&mut command)?);
        while !is_configured(&self.guest) {
            slirp.check().with_context(|| shown(&command))?;
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        if backend == Backend::Slirp4netns {
            options.published.iter().try_for_each(|published| self.publish_by_api(published))?;
        }
        Ok(())
    }

    /// Ends whoever serves the guest, so that somebody else may.
    pub fn leave(&mut self) -> Result<()> {
        self.slirp = None;
        // Devices outlive whoever serves them.
        self.guest.ip(&format!("link delete {DEVICE}"))
    }

    /// What serves the guest, so that the guest sees the same of each.
    fn command(&self, backend: Backend, options: &Options) -> Command {
        let (mtu, pid) = (options.mtu.to_string(), self.resident.pid().to_string());
        let mut command = Command::new(backend.program());
        match backend {
            Backend::Rbox => {
                command.args(["--mtu", &mtu, "--resolv-conf"]).arg(self.resolv_conf());
                command.args(options.allow_host_loopback.then_some("--allow-host-loopback"));
                for (flag, rate) in ["--rate-in", "--rate-out"].iter().zip(options.rate) {
                    command.args(rate.iter().flat_map(|rate| [flag.to_string(), rate.to_string()]));
                }
                for rules in &options.egress {
                    command.args(["--egress", rules]);
                }
                for published in &options.published {
                    let kind = if published.udp { "/udp" } else { "" };
                    command.arg("-p").arg(format!("{}:{}{kind}", published.host, published.guest_port));
                }
                command.arg(pid);
            }
            Backend::Slirp4netns => {
                command.args(["--configure", "--enable-ipv6", "--mtu", &mtu, "--api-socket"]).arg(self.api_socket());
                command.args((!options.allow_host_loopback).then_some("--disable-host-loopback"));
                command.arg(pid).arg(DEVICE).stderr(Stdio::null());
            }
            Backend::Pasta => {
                command.args(["--foreground", "--quiet", "--config-net", "--netns-only", "--mtu", &mtu]);
                command.args(["--address", "10.0.2.100", "--netmask", "24", "--gateway", "10.0.2.2"]);
                command.args(["--address", "fd00::100", "--gateway", "fd00::2", "--ns-ifname", DEVICE]);
                command.args(["--dns-forward", "10.0.2.3", "--dns-forward", "fd00::3", "-T", "none", "-U", "none"]);
                command.args((!options.allow_host_loopback).then_some("--no-map-gw"));
                for published in &options.published {
                    let (kind, host) = (if published.udp { "-u" } else { "-t" }, published.host);
                    command.arg(kind).arg(format!("{}/{}:{}", host.ip(), host.port(), published.guest_port));
                }
                // It may not look into processes that have more capabilities than it keeps.
                command.arg("--netns").arg(self.guest_path());
            }
            Backend::Routed => unreachable!("that is no program"),
        }
        command
    }

    /// Gives the guest the same addresses without any program.
    fn route(&self, mtu: u16) -> Result<()> {
        self.host.ip(&format!(
            "link add guest0 mtu {mtu} type veth peer name {DEVICE} mtu {mtu} netns {}",
            self.guest.path()
        ))?;
        self.host
            .ip("address add 10.0.2.2/24 dev guest0\n address add fd00::2/64 dev guest0 nodad\n link set guest0 up")?;
        self.guest.ip(&format!(
            "address add 10.0.2.100/24 dev {DEVICE}
             address add fd00::100/64 dev {DEVICE} nodad
             link set {DEVICE} up
             route add default via 10.0.2.2
             route add ::/0 via fd00::2"
        ))?;
        self.host.set("ipv4/ip_forward", "1")?;
        self.host.set("ipv6/conf/all/forwarding", "1")?;
        self.far.ip("route add 10.0.2.0/24 via 192.0.2.1\n route add fd00::/64 via 2001:db8::1")
    }

    /// slirp4netns is asked for ports when it runs (slirp4netns(1), "API SOCKET").
    fn publish_by_api(&self, published: &Published) -> Result<()> {
        let request = json!({ "execute": "add_hostfwd", "arguments": {
            "proto": if published.udp { "udp" } else { "tcp" },
            "host_addr": published.host.ip().to_string(), "host_port": published.host.port(),
            "guest_addr": "10.0.2.100", "guest_port": published.guest_port,
        }});
        let connect = || UnixStream::connect(self.api_socket());
        let mut api = until(connect, Result::is_ok)?;
        api.write_all(request.to_string().as_bytes())?;
        api.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        api.read_to_string(&mut answer)?;
        ensure!(answer.contains("return"), "slirp4netns: {answer}");
        Ok(())
    }

    fn api_socket(&self) -> PathBuf {
        self.dir.path().join("api")
    }

    fn guest_path(&self) -> PathBuf {
        self.dir.path().join("guest")
    }

    /// The host's resolv.conf(5).
    pub fn resolv_conf(&self) -> PathBuf {
        self.dir.path().join("resolv.conf")
    }

    /// Replaces the host's resolv.conf(5), as those do who write it: by renaming. slirp4netns and pasta look in /etc only.
    pub fn resolve_by(&self, servers: &[IpAddr]) -> Result<()> {
        let new = self.dir.path().join("new");
        fs::write(&new, servers.iter().map(|server| format!("nameserver {server}\n")).collect::<String>())?;
        fs::rename(&new, self.resolv_conf())?;
        // Nothing can be mounted over a file that has no name any more, and at first nothing is mounted there.
        let _ = read(Command::new("umount").arg("/etc/resolv.conf"));
        read(Command::new("mount").arg("--bind").arg(self.resolv_conf()).arg("/etc/resolv.conf")).map(drop)
    }

    /// What ping(8) says in the guest, and whether anybody has answered each time.
    pub fn ping(&self, to: IpAddr, size: usize) -> Result<(String, bool)> {
        let (to, size) = (to.to_string(), size.to_string());
        let mut ping = Command::new("ping");
        ping.args(["-n", "-c", "3", "-i", "0.2", "-W", "5", "-s", &size, &to]).env("LC_ALL", "C");
        let output = self.guest.run(|| output(&mut ping))?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let all = said.contains("3 received") && !said.contains("wrong");
        Ok((said, all))
    }

    /// Who serves the guest, if it is a program.
    pub fn slirp(&mut self) -> Option<&mut Running> {
        self.slirp.as_mut()
    }

    /// The guest's own address.
    pub fn guest_address(&self, family: Family) -> Result<IpAddr> {
        let kind = if family == Family::V4 { "-4" } else { "-6" };
        let shown = self.guest.run(|| {
            read(Command::new("ip").args([kind, "-oneline", "address", "show", "dev", DEVICE, "scope", "global"]))
        })?;
        let mut words = shown.split_whitespace().skip_while(|word| !word.starts_with("inet"));
        let address = words.nth(1).and_then(|word| word.split('/').next()).context("the guest has no address")?;
        Ok(address.parse()?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Those that another lab of this process wrote are below.
        let _ = read(Command::new("umount").arg("/etc/resolv.conf"));
        let _ = read(Command::new("umount").arg(self.guest_path()));
    }
}

/// Whether both default routes are there, and an address that is not a tentative one.
fn is_configured(guest: &Namespace) -> bool {
    guest.run(|| {
        let file = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let v4 = file("route").lines().map(fields).any(|line| line[0] == DEVICE && line[1] == "00000000");
        // proc_pid_net(5): the prefix's length is the second field of a route; scope and flags are an address's.
        let route = |line: &Vec<String>| line[1] == "00" && line[9] == DEVICE;
        let v6 = file("ipv6_route").lines().map(fields).any(|line| route(&line));
        let global = |line: &Vec<String>| line[3] == "00" && line[4] != "40" && line[5] == DEVICE;
        v4 && v6 && file("if_inet6").lines().map(fields).any(|line| global(&line))
    })
}

/// Runs a command line in new user, network and mount namespaces, where it is root.
pub fn inside(program: &std::path::Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "--"]).arg(program).env(inside::INSIDE, "1");
    command
}

/// Runs a line: the test of this name, once more, inside; and there the line itself.
#[track_caller]
pub fn judged(test: &str, backend: Backend, family: Family, line: fn(Backend, Family) -> Result<()>) {
    let tries = if matches!(backend, Backend::Rbox | Backend::Routed) { Tries::One } else { Tries::OfPeer };
    inside::judged(test, tries, inside, || {
        rlimit::raise(Resource::NOFILE).context("a limit may be raised to its ceiling")?;
        line(backend, family)
    });
}

/// Makes tests of functions `fn(Backend, Family) -> anyhow::Result<()>`, for each backend named, `rbox`, `slirp4netns`,
/// `pasta` or `routed`, with IPv4 and with IPv6; with one of them only where `_v4` or `_v6` follows. `long` is rbox, in the
/// long lane alone.
#[macro_export]
macro_rules! lines {
    ($($name:ident: $($who:ident)*;)*) => {$(
        mod $name {
            $($crate::lines!(@ $who $name);)*
        }
    )*};
    (@ rbox $name:ident) => {
        $crate::lines!(@ rbox_v4 $name);
        $crate::lines!(@ rbox_v6 $name);
    };
    (@ long $name:ident) => {
        $crate::lines!(@ long_v4 $name);
        $crate::lines!(@ long_v6 $name);
    };
    (@ slirp4netns $name:ident) => {
        $crate::lines!(@ slirp4netns_v4 $name);
        $crate::lines!(@ slirp4netns_v6 $name);
    };
    (@ pasta $name:ident) => {
        $crate::lines!(@ pasta_v4 $name);
        $crate::lines!(@ pasta_v6 $name);
    };
    (@ routed $name:ident) => {
        $crate::lines!(@ routed_v4 $name);
        $crate::lines!(@ routed_v6 $name);
    };
    (@ rbox_v4 $name:ident) => { $crate::lines!(@ rbox_v4 $name Rbox V4); };
    (@ rbox_v6 $name:ident) => { $crate::lines!(@ rbox_v6 $name Rbox V6); };
    (@ long_v4 $name:ident) => { $crate::lines!(@ long_v4 $name Rbox V4 "long"); };
    (@ long_v6 $name:ident) => { $crate::lines!(@ long_v6 $name Rbox V6 "long"); };
    (@ slirp4netns_v4 $name:ident) => {
        $crate::lines!(@ slirp4netns_v4 $name Slirp4netns V4 "long: needs slirp4netns");
    };
    (@ slirp4netns_v6 $name:ident) => {
        $crate::lines!(@ slirp4netns_v6 $name Slirp4netns V6 "long: needs slirp4netns");
    };
    (@ pasta_v4 $name:ident) => { $crate::lines!(@ pasta_v4 $name Pasta V4 "long: needs pasta"); };
    (@ pasta_v6 $name:ident) => { $crate::lines!(@ pasta_v6 $name Pasta V6 "long: needs pasta"); };
    (@ routed_v4 $name:ident) => { $crate::lines!(@ routed_v4 $name Routed V4 "long: proves the line"); };
    (@ routed_v6 $name:ident) => { $crate::lines!(@ routed_v6 $name Routed V6 "long: proves the line"); };
    (@ $test:ident $name:ident $backend:ident $family:ident $($reason:literal)?) => {
        #[test]
        $(#[ignore = $reason])?
        fn $test() {
            let name = concat!(module_path!(), "::", stringify!($test));
            let (backend, family) = ($crate::slirp::Backend::$backend, $crate::slirp::Family::$family);
            $crate::slirp::judged(name, backend, family, super::$name);
        }
    };
}
