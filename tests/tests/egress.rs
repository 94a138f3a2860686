//! `--egress`, `--egress-file`: where a container may go. What the rules mean is tested in `slirp_egress.rs`.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

use anyhow::Result;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;

/// The host, as these containers reach it.
const HOST: &str = "host.containers.internal";
const NETWORK: &str = "--network=slirp:allow_host_loopback=true";

/// Somebody on the host who answers, on this port of its loopback.
fn somebody() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(b"answer\n");
        }
    });
    Ok(port)
}

#[test]
fn only_what_is_allowed_is_reached() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let (port, other) = (somebody()?, somebody()?);
    let heard = |flags: &[&str], port: u16| {
        let script = format!("nc -w 20 {HOST} {port} </dev/null; true");
        rbox.sh(&image, &[&[NETWORK], flags].concat(), &script)
    };
    assert_eq!(heard(&[], port), "answer");
    let gateway = format!("--egress=allow=10.0.2.2:{port},10.0.102.2:{port}");
    let file = rbox.home().join("rules");
    fs::write(&file, format!("# one port\nallow {HOST}:{port}\n"))?;
    let by_file = format!("--egress-file={}", file.display());
    for rules in [&gateway, &format!("--egress=allow={HOST}:{port}"), &by_file] {
        assert_eq!(heard(&[rules], port), "answer", "{rules}");
        assert_eq!(heard(&[rules], other), "", "{rules}");
    }
    assert_eq!(heard(&["--egress=none"], port), "");
    assert_eq!(heard(&[&format!("--egress=deny={HOST}:{port}")], port), "");
    assert_eq!(heard(&[&format!("--egress=deny={HOST}:{port}")], other), "answer");
    assert_eq!(heard(&[&gateway, &format!("--egress=deny={HOST}")], port), "", "whoever denies is right");
    Ok(())
}

#[test]
fn they_hold_in_each_life() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let port = somebody()?;
    let script = format!("nc -w 20 {HOST} {port} </dev/null; echo over; sleep 1000");
    let container = Detached::start(&rbox, &image, "box", &[NETWORK, "--egress=none"], &script);
    until(|| container.logs(), |logs| logs.contains("over"));
    rbox.run(["restart", "-t", "0", "box"]).success();
    until(|| container.logs(), |logs| logs.matches("over").count() == 2);
    assert!(!container.logs().contains("answer"), "{}", container.logs());
    Ok(())
}

#[test]
fn what_is_wrong_is_said_before_anything_is_made() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let run = |flags: &[&str]| rbox.run([&["run", "--rm"], flags, &[&image, "true"]].concat()).exits(125).stderr;
    assert!(run(&["--egress", "allow=exa mple"]).contains("exa mple"));
    assert!(run(&["--egress", "maybe"]).contains("allow=RULE"));
    assert!(run(&["--egress-file", "/nowhere"]).contains("/nowhere"));
    let file = rbox.home().join("rules");
    fs::write(&file, "allow example.com\npermit example.org\n")?;
    let said = run(&["--egress-file", &file.display().to_string()]);
    assert!(said.contains("permit") && said.contains(&file.display().to_string()), "{said}");
    for network in ["none", "host"] {
        let said = run(&["--network", network, "--egress", "none"]);
        assert!(said.contains(&format!("--network {network}")) && said.contains("hint:"), "{said}");
    }
    assert!(rbox.files("containers").is_empty());
    Ok(())
}
