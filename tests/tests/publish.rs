//! `--publish`, `--publish-all`, `rbox port`: a container's ports as they are reached from outside.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use rbox_tests::detached::Detached;
use rbox_tests::patience::{LIMIT, until};
use rbox_tests::rbox::Rbox;

/// Answers on port 80, to one after the other, and prints who they are.
const ANSWER: &str = "while :; do echo answer | nc -v -l -p 80; done 2>&1";

/// Where the container's port is to be found: what `rbox port` says of it.
fn address(rbox: &Rbox, port: &str) -> Result<SocketAddr> {
    rbox.run(["port", "box", port]).success().trim().parse().context("an address and a port")
}

/// What comes back; none where nobody listens yet, which is a connection that is reset or ends.
fn say(to: SocketAddr, words: &str) -> Option<String> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.write_all(words.as_bytes()).ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).ok()?;
    Some(heard).filter(|heard| !heard.is_empty())
}

#[test]
fn a_port_is_reached_shown_and_free_again() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let container = Detached::start(&rbox, &image, "box", &["-p", "127.0.0.1::80", "--restart", "always"], ANSWER);
    let at = address(&rbox, "80")?;
    assert!(at.ip().is_loopback() && at.port() != 0, "{at}");
    until(|| say(at, "hello"), |heard| heard.as_deref() == Some("answer\n"));
    // The host's loopback is where nothing can be answered to: it is seen as the gateway.
    until(|| container.logs(), |logs| logs.contains("10.0.2.2") || logs.contains("10.0.102.2"));

    assert_eq!(rbox.run(["port", "box"]).success(), format!("80/tcp -> {at}\n"));
    let all = rbox.run(["port", "--all"]).success();
    assert!(all.ends_with(&format!("\t80/tcp -> {at}\n")), "{all:?}");
    rbox.run(["port", "box", "81"]).refused(&["81/tcp", "box"]);
    assert!(rbox.run(["ps"]).success().contains(&format!("{at}->80/tcp")));
    let shown =
        rbox.run(["inspect", "--format", "{{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}}", "box"]);
    let binding = format!(r#"{{"80/tcp":[{{"HostIp":"127.0.0.1","HostPort":"{}"}}]}}"#, at.port());
    assert_eq!(shown.success(), format!("{binding} {binding}\n"));

    let outcome = rbox.run(["run", "--rm", "-p", &format!("{at}:80"), &image, "true"]);
    outcome.refused(&["publish port 80/tcp", &at.port().to_string(), "in use", "hint:", "rbox-net"]);

    // The same port at each of its lives.
    rbox.run(["restart", "-t", "0", "box"]).success();
    assert_eq!(address(&rbox, "80/tcp")?, at);
    until(|| say(at, "again"), |heard| heard.as_deref() == Some("answer\n"));
    rbox.run(["stop", "-t", "0", "box"]).success();
    assert_eq!(rbox.run(["port", "box"]).success(), "");
    TcpListener::bind(at).context("it is free again")?;
    Ok(())
}

#[test]
fn datagrams_are_answered_to_who_sent_them() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let _container = Detached::start(&rbox, &image, "box", &["-p", "127.0.0.1::53/udp"], "nc -u -l -p 53 -e cat");
    let at = address(&rbox, "53/udp")?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let ask = || {
        // Before anybody listens, the container says so.
        let _ = socket.send(b"hello");
        let mut heard = [0; 100];
        socket.recv(&mut heard).ok().map(|length| heard[..length].to_vec())
    };
    until(ask, |heard| heard.as_deref() == Some(b"hello"));
    Ok(())
}

#[test]
fn ranges_lead_in_order() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    // Somebody else may have any of them, so it is tried where nobody was a moment ago.
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().clamp(1024, 65000);
    let range = format!("127.0.0.1:{free}-{}:80-82", free + 2);
    let made =
        rbox.run(["create", "--name", "box", "-p", &range, "-p", "127.0.0.1::90", "--rm", &image, "sleep", "1000"]);
    made.success();
    rbox.run(["start", "box"]).success();
    let lines = rbox.run(["port", "box"]).success();
    let expected: Vec<String> = (0..3).map(|n| format!("{}/tcp -> 127.0.0.1:{}", 80 + n, free + n)).collect();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[..3], expected);
    assert!(lines.len() == 4 && lines[3].starts_with("90/tcp -> 127.0.0.1:"), "{lines:?}");
    rbox.run(["rm", "-f", "-t", "0", "box"]).success();
    Ok(())
}

#[test]
fn what_cannot_be_published_is_refused() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let run = |words: &[&str]| rbox.run([&["run", "--rm"], words, &[&image, "true"]].concat());
    run(&["-p", "80:80:80:80"]).exits(125);
    run(&["-p", "8080:80/sctp"]).exits(125);
    run(&["-p", "1:2-3"]).exits(125);
    run(&["-p", "203.0.113.7:8080:80"]).refused(&["203.0.113.7", "hint:", "this host's"]);
    run(&["--network", "none", "-p", "8080:80"]).refused(&["--network none", "hint:", "slirp"]);
    run(&["--network", "host", "-p", "8080:80"]).refused(&["--network host", "hint:"]);
    run(&["-p", "7:80"]).refused(&["port 80/tcp", "ip_unprivileged_port_start=7"]);
    assert!(rbox.files("containers").is_empty());
    Ok(())
}
