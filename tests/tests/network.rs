//! `rbox run --network`: which network a container has, what it sees of it, and the process that serves it.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use anyhow::{Context, Result};
use rbox_tests::alpine;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::processes;
use rbox_tests::rbox::{Rbox, finish};
use rbox_tests::registry::Registry;
use rbox_tests::running::Running;
use rbox_tests::{held, host};

const FOREVER: &str = "echo ready; exec sleep 1000";

fn start(rbox: &Rbox, image: &str, name: &str, flags: &[&str]) -> Running {
    let mut running = rbox.start([&["run", "--rm", "--name", name], flags, &[image, "sh", "-c", FOREVER]].concat());
    running.expect("ready");
    rbox.run(["exec", name, "true"]);
    running
}

/// The processes that serve networks below this one.
fn servers(parent: u32) -> Vec<u32> {
    processes::children(parent, "rbox-net")
}

/// The address of this number in the network of IPv6: fd00::/64, unless the host is in that itself.
fn v6(number: u16) -> String {
    let source = UdpSocket::bind("[::]:0").and_then(|socket| {
        socket.connect("[2001:db8::1]:9")?;
        socket.local_addr()
    });
    let taken =
        source.is_ok_and(|source| matches!(source.ip(), IpAddr::V6(ip) if ip.segments()[..4] == [0xfd00, 0, 0, 0]));
    format!("fd00:{}:{number:x}", if taken { "0:0:102:" } else { "" })
}

fn of_host(kind: &str) -> Result<String> {
    Ok(fs::read_link(format!("/proc/self/ns/{kind}"))?.display().to_string())
}

const LOOK: &str = "ip -o link show dev tap0; ip -o addr show dev tap0; ip route; ip -6 route";

#[test]
fn a_network_of_its_own_is_the_default() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let seen = rbox.sh(&image, &[], LOOK);
    assert_eq!(rbox.sh(&image, &["--network=slirp"], LOOK), seen);
    for expected in
        ["mtu 65520", "52:55:0a:00:02:64", "LOWER_UP", "inet 10.0.2.100/24 ", "default via 10.0.2.2 dev tap0"]
    {
        assert!(seen.contains(expected), "{expected} is not in\n{seen}");
    }
    // No address waits to be found unique, and none was made up.
    assert!(!seen.contains("fe80") && !seen.contains("tentative"), "{seen}");
    let seen = rbox.sh(&image, &["--network=slirp:enable_ipv6=true"], LOOK);
    for expected in [format!("inet6 {}/64 ", v6(0x100)), format!("default via {} dev tap0", v6(2))] {
        assert!(seen.contains(&expected), "{expected} is not in\n{seen}");
    }
    let local = "ip -o addr show dev lo | grep -c '127.0.0.1/8\\|::1/128'";
    assert_eq!(rbox.sh(&image, &["--network=slirp"], local), "2");
    let outcome = rbox.run(["run", "--rm", &image, "true"]).exits(0);
    assert_eq!(outcome.stderr, "");
    Ok(())
}

#[test]
fn options_and_addresses() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let options = "--net=slirp:cidr=10.77.0.0/16,mtu=1500,enable_ipv6=false";
    let seen = rbox.sh(&image, &[options, "--mac-address=92:d0:c6:0a:29:33", "--ip=10.77.9.9"], LOOK);
    for expected in ["mtu 1500", "92:d0:c6:0a:29:33", "inet 10.77.9.9/16 ", "default via 10.77.0.2 dev tap0"] {
        assert!(seen.contains(expected), "{expected} is not in\n{seen}");
    }
    assert!(!seen.contains("inet6"), "{seen}");
    let seen = rbox.sh(&image, &["--ip6=fd00::77"], LOOK);
    assert!(seen.contains("inet6 fd00::77/64 "), "{seen}");
    for (flags, named) in [
        (&["--network=bridge"][..], "slirp"),
        (&["--network=slirp:port_handler=slirp4netns"], "port_handler"),
        (&["--network=slirp:mtu=1"], "mtu"),
        (&["--network=slirp:cidr=10.0.2.0/30"], "1 to 25"),
        (&["--ip=10.9.9.9"], "10.9.9.9 is not in 10.0.2.0/24"),
        (&["--network=none", "--ip=10.0.2.9"], "--ip does not go with --network=none"),
        (&["--network=host", "--mac-address=92:d0:c6:0a:29:33"], "--mac-address does not go with --network=host"),
        (&["--network=none", "--add-host=h:host-gateway"], "no network"),
        (&["--network=container:nobody"], "nobody"),
        (&["--network=host", "--sysctl=net.ipv4.ip_default_ttl=3"], "host's network namespace"),
    ] {
        let outcome = rbox.run([&["run", "--rm"], flags, &[&image, "true"]].concat());
        let status = outcome.status;
        assert!(matches!(status, 2 | 125), "{flags:?}: {status}");
        assert!(outcome.stderr.contains(named), "{flags:?}: {}", outcome.stderr);
    }
    Ok(())
}

#[test]
fn none_has_a_loopback_device_alone() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    assert_eq!(rbox.sh(&image, &["--network=none"], "ls /sys/class/net"), "lo");
    let resolv_conf = rbox.sh(&image, &["--network=none"], "cat /etc/resolv.conf");
    assert!(!resolv_conf.contains("nameserver 1"), "{resolv_conf}");
    Ok(())
}

#[test]
fn that_of_the_host() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags = ["--network=host"];
    assert_eq!(rbox.sh(&image, &flags, "readlink /proc/self/ns/net"), of_host("net")?);
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    assert_eq!(rbox.sh(&image, &flags, "hostname"), host.trim());
    assert_eq!(rbox.sh(&image, &["--network=host", "--hostname=own"], "hostname"), "own");
    // /sys is the host's, to be looked at; the cgroups in it are the container's.
    let mut devices: Vec<String> = fs::read_dir("/sys/class/net")?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    devices.sort();
    let look = "ls /sys/class/net; awk '$2 == \"/sys\" || $2 == \"/sys/fs/cgroup\" { print $2, substr($4, 1, 2) }' \
        /proc/mounts";
    let seen = rbox.sh(&image, &flags, look);
    assert!(seen.starts_with(&format!("{}\n/sys ro\n", devices.join("\n"))), "{seen}");
    assert!(seen.ends_with("/sys/fs/cgroup ro"), "{seen}");
    let of_host = fs::read_to_string("/etc/resolv.conf")?;
    let resolv_conf = rbox.sh(&image, &flags, "cat /etc/resolv.conf");
    let servers = |text: &str| text.lines().filter(|line| line.starts_with("nameserver")).map(str::to_owned).collect();
    let [of_host, own]: [Vec<String>; 2] = [servers(&of_host), servers(&resolv_conf)];
    assert_eq!(own, of_host);
    // Nor is it changed from inside.
    let change = "ip link set lo down 2>/dev/null || echo refused";
    assert_eq!(rbox.sh(&image, &flags, change), "refused");
    Ok(())
}

#[test]
fn that_of_another_container() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags = ["--hostname=first", "--network=slirp:cidr=10.77.0.0/24", "--add-host=db:10.1.2.3", "--dns=10.1.2.4"];
    let _one = start(&rbox, &image, "one", &flags);
    let joining = ["--network=container:one"];
    let look = "readlink /proc/self/ns/net; readlink /proc/self/ns/user; cat /etc/hosts /etc/resolv.conf";
    let theirs = rbox.run(["exec", "one", "sh", "-c", look]).success();
    assert_eq!(rbox.sh(&image, &joining, look), theirs.trim_end());
    assert!(theirs.contains("10.77.0.100\tfirst one") && theirs.contains("nameserver 10.1.2.4"), "{theirs}");
    assert_eq!(rbox.sh(&image, &joining, "ls /sys/class/net"), "lo\ntap0");
    assert_eq!(rbox.sh(&image, &["--network=container:one", "--hostname=x"], "hostname; cat /etc/hostname"), "x\nx");
    // By a monitor as well, and by another's.
    let two = Detached::start(&rbox, &image, "two", &joining, FOREVER);
    assert_eq!(
        two.inspect(&["HostConfig", "NetworkMode"]).as_str().map(|mode| mode.starts_with("container:")),
        Some(true)
    );
    let third = rbox.sh(&image, &["--network=container:two"], look);
    assert_eq!(third, theirs.trim_end());
    assert!(servers(two.monitor()).is_empty());
    rbox.run(["run", "--rm", "--network=container:one", "--dns=1.1.1.1", &image, "true"])
        .refused(&["--dns", "--network"]);
    rbox.run(["rm", "-f", "-t0", "two"]).success();
    let _host = start(&rbox, &image, "host", &["--network=host"]);
    assert_eq!(rbox.sh(&image, &["--network=container:host"], "readlink /proc/self/ns/net"), of_host("net")?);
    Ok(())
}

#[test]
fn names() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let host = host::address()?;
    let of = |flags: &[&str], path: &str| {
        rbox.sh(&image, &[&["--hostname=box", "--name=name"], flags].concat(), &format!("cat {path}"))
    };
    let hosts = of(&[], "/etc/hosts");
    for line in [&format!("{host}\thost.containers.internal host.docker.internal"), "10.0.2.100\tbox name"] {
        assert!(hosts.lines().any(|known| known == line), "{line:?} is not in\n{hosts}");
    }
    let hosts = of(&["--network=slirp:allow_host_loopback=true", "--add-host=me:host-gateway"], "/etc/hosts");
    for line in ["10.0.2.2\tme", "10.0.2.2\thost.containers.internal host.docker.internal"] {
        assert!(hosts.lines().any(|known| known == line), "{line:?} is not in\n{hosts}");
    }
    let servers = |flags: &[&str]| {
        let text = of(flags, "/etc/resolv.conf");
        let lines = text.lines().filter_map(|line| line.strip_prefix("nameserver ")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    assert_eq!(servers(&["--network=slirp:enable_ipv6=false"]), ["10.0.2.3"]);
    assert_eq!(servers(&["--network=slirp:enable_ipv6=true"]), ["10.0.2.3".to_owned(), v6(3)]);
    assert_eq!(servers(&["--dns=192.0.2.53"]), ["192.0.2.53"]);
    let text = of(&["--dns-search=a.org", "--dns-option=ndots:3"], "/etc/resolv.conf");
    assert!(text.contains("search a.org\n") && text.contains("options ndots:3"), "{text}");
    Ok(())
}

#[test]
fn records() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags = ["--network=slirp:enable_ipv6=true", "--ip=10.0.2.9", "--mac-address=92:D0:c6:0a:29:33"];
    let one = Detached::start(&rbox, &image, "one", &flags, FOREVER);
    for (path, expected) in [
        (&["HostConfig", "NetworkMode"][..], "slirp"),
        (&["NetworkSettings", "IPAddress"], "10.0.2.9"),
        (&["NetworkSettings", "Gateway"], "10.0.2.2"),
        (&["NetworkSettings", "GlobalIPv6Address"], &v6(0x100)),
        (&["NetworkSettings", "MacAddress"], "92:d0:c6:0a:29:33"),
        (&["NetworkSettings", "Networks", "slirp", "IPAddress"], "10.0.2.9"),
    ] {
        assert_eq!(one.inspect(path).as_str(), Some(expected), "{path:?}");
    }
    rbox.run(["create", "--network=none", "--name=two", &image, "true"]).success();
    let listed = rbox.run(["ps", "-a", "--sort=names", "--format={{.Names}} {{.Networks}}"]).success();
    assert_eq!(listed, "one slirp\ntwo none\n");
    assert_eq!(rbox.run(["ps", "-a", "-q", "--no-trunc", "-f", "network=slirp"]).success().lines().count(), 1);
    let seen = rbox.run(["exec", "one", "sh", "-c", LOOK]).success();
    assert!(seen.contains("inet 10.0.2.9/24 "), "{seen}");
    rbox.run(["stop", "-t0", "one"]).success();
    assert_eq!(one.inspect(&["NetworkSettings", "IPAddress"]).as_str(), Some(""));
    // It is there again in the next life.
    rbox.run(["start", "one"]).success();
    assert_eq!(rbox.run(["exec", "one", "sh", "-c", LOOK]).success(), seen);
    Ok(())
}

#[test]
fn who_serves_it_goes_with_the_container() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let one = Detached::start(&rbox, &image, "one", &[], FOREVER);
    let monitor = one.monitor();
    let [server] = servers(monitor)[..] else { panic!("not one process serves it: {:?}", servers(monitor)) };
    // It is where the host's sockets are, confined, and has nothing of its parent's.
    let status = fs::read_to_string(format!("/proc/{server}/status"))?;
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.lines().any(|known| known == line), "{line:?} is not in\n{status}");
    }
    rbox.run(["stop", "-t0", "one"]).success();
    assert!(servers(monitor).is_empty());
    assert!(fs::metadata(format!("/proc/{server}")).is_err(), "{server} is still there");

    let mut running = start(&rbox, &image, "two", &[]);
    let rbox_itself = running.id();
    let serving = until(|| servers(rbox_itself), |found| found.len() == 1)[0];
    // Not even a supervisor that is killed leaves it behind.
    processes::signal(rbox_itself, "KILL")?;
    running.wait();
    until(|| fs::exists(format!("/proc/{serving}")).unwrap_or(true), |there| !there);
    Ok(())
}

/// They are there as long as the container is, mostly with nothing to do.
#[test]
fn who_serves_it_and_who_watches_it_hold_little_memory() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let one = Detached::start(&rbox, &image, "one", &[], FOREVER);
    let server = *servers(one.monitor()).first().context("a process serves it")?;
    // In KiB, whether others have mapped the same or not.
    for (pid, most) in [(server, 768), (one.monitor(), 1536)] {
        until(|| held::memory(pid, "Rss").unwrap_or(usize::MAX), |held| *held <= most);
    }
    Ok(())
}

#[test]
fn a_container_outlives_who_serves_its_network() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let one = Detached::start(&rbox, &image, "one", &[], FOREVER);
    let server = *servers(one.monitor()).first().context("a process serves it")?;
    processes::signal(server, "KILL")?;
    let events = || rbox.run(["events", "--no-stream"]).success();
    until(events, |said| said.contains("network_lost"));
    assert!(servers(one.monitor()).is_empty());
    assert_eq!(rbox.run(["exec", "one", "echo", "alive"]).success(), "alive\n");
    rbox.run(["rm", "-f", "-t0", "one"]).success();

    let stderr = rbox.home().join("stderr");
    let words = ["run", "--rm", "--name=two", &image, "sh", "-c", "echo ready; sleep 1000; echo on"];
    let mut running = Running::start(rbox.command(words).stderr(fs::File::create(&stderr)?))?;
    running.expect("ready");
    let serving = until(|| servers(running.id()), |found| found.len() == 1)[0];
    processes::signal(serving, "KILL")?;
    until(|| fs::read_to_string(&stderr).unwrap_or_default(), |said| said.contains("no network any more"));
    // The container may end before this has.
    rbox.run(["exec", "two", "pkill", "sleep"]);
    running.expect("on");
    assert_eq!(running.wait(), 0);
    Ok(())
}

#[test]
fn a_network_that_the_host_has_a_way_to_is_left_alone() -> Result<()> {
    let (registry, rbox) = (Registry::offering(&alpine::small()?, "latest", "t/small:1")?, Rbox::new());
    let image = registry.reference("t/small:1");
    // Where routes are ours to make: in a network namespace, which the registry is out of reach from. It takes a user
    // namespace of one id to make that.
    let own = ["unshare", "--user", "--map-root-user"];
    finish(&mut rbox.command_under(&own, ["pull", &image])).success();
    let addresses = |routes: &str, network: &str| {
        let script = format!("ip link set lo up && {routes} && exec \"$@\"");
        let under = [&own[..], &["--net", "sh", "-c", &script, "sh"]].concat();
        let look = ["run", "--rm", network, &image, "ip", "-o", "addr", "show", "dev", "tap0"];
        finish(&mut rbox.command_under(&under, look)).success()
    };
    let slirp = "--network=slirp:enable_ipv6=true";
    for (routes, v4, v6) in [
        ("ip route add 10.0.3.0/24 dev lo", "10.0.2.100/24", "fd00::100/64"),
        ("ip route add 10.0.2.0/24 dev lo", "10.0.102.100/24", "fd00::100/64"),
        ("ip route add unreachable 10.0.0.0/8", "172.30.102.100/24", "fd00::100/64"),
        ("ip -6 route add fd00::/64 dev lo", "10.0.2.100/24", "fd00:0:0:102::100/64"),
    ] {
        let seen = addresses(routes, slirp);
        assert!([v4, v6].iter().all(|address| seen.contains(&format!(" {address} "))), "{routes}:\n{seen}");
    }
    // What is asked for is had.
    let seen = addresses("ip route add 10.0.2.0/24 dev lo", "--network=slirp:cidr=10.0.2.0/24");
    assert!(seen.contains(" 10.0.2.100/24 "), "{seen}");
    Ok(())
}

#[test]
fn without_taps() -> Result<()> {
    let (registry, rbox) = (Registry::offering(&alpine::small()?, "latest", "t/small:1")?, Rbox::new());
    let image = registry.reference("t/small:1");
    // In a mount namespace that has no such device; it takes a user namespace of one id to make that.
    let hide = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let under = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", hide, "sh"];
    let run = |flags: &[&str]| {
        let words = [&["run", "--rm"], flags, &[image.as_str(), "ls", "/sys/class/net"]].concat();
        finish(&mut rbox.command_under(&under, words))
    };
    for flags in [&["--network=slirp"][..], &["--ip=10.0.2.7"]] {
        run(flags).refused(&["/dev/net/tun", "hint:", "--network none", "--network host"]);
    }
    // What nobody asked for is missed by nobody.
    assert_eq!(run(&[]).success(), "lo\n");
    let mut doctor = rbox.command_under(&under, ["doctor"]);
    let found = finish(&mut doctor).stdout;
    let line = found.lines().find(|line| line.contains("network devices")).context("doctor tries it")?;
    assert!(!line.contains("can be had"), "{found}");
    Ok(())
}
