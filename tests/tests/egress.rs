//! `--egress`, `--egress-file`, `--egress-log`: where a container may go, and where it went. What the rules mean is tested in `slirp_egress.rs`.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

use anyhow::Result;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;
use serde_json::{Value, json};

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

/// The lines of a log, each without what differs from run to run.
fn lines(text: &str) -> Vec<Value> {
    let read = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let fields = line.as_object_mut().expect("an object");
        assert!(fields.remove("time").is_some_and(|time| time.as_str().is_some_and(|time| time.ends_with('Z'))));
        for differs in ["sport", "address"] {
            fields.remove(differs);
        }
        line
    };
    text.lines().map(read).collect()
}

#[test]
fn each_flow_has_a_line_in_the_log() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let (port, other) = (somebody()?, somebody()?);
    // Somebody who does not end it: it lasts until the container ends.
    let held = TcpListener::bind("127.0.0.1:0")?;
    let open = held.local_addr()?.port();
    let script = format!(
        "exec 2>/dev/null; nc -w 20 {HOST} {port} </dev/null; nc -w 20 {HOST} {other} </dev/null; nslookup secret.example;
         nc -w 20 $(awk '/^nameserver/{{ print $2; exit }}' /etc/resolv.conf) 53 </dev/null;
         (echo asked; sleep 1000) | nc {HOST} {open} & until netstat -tn | grep -q ESTAB; do sleep 0.1; done; sleep 0.3"
    );
    let log = rbox.home().join("flows");
    fs::write(&log, "{\"time\":\"Z\",\"earlier\":true}\n")?;
    let rules = format!("--egress=allow={HOST}:{port},{HOST}:{open}");
    let run = |log: &str| rbox.run(["run", "--rm", NETWORK, &rules, "--egress-log", log, &image, "sh", "-c", &script]);
    let flow = |port: u16, sent: u64, received: u64| json!({"proto": "tcp", "name": HOST, "port": port, "verdict": "allowed", "sent": sent, "received": received});
    let mut refused = flow(other, 0, 0);
    (refused["verdict"], refused["reason"]) = (json!("refused"), json!("address"));
    let query = json!({"proto": "dns", "name": "secret.example", "verdict": "refused", "reason": "name",
                       "sent": 0, "received": 0});
    let by_tcp =
        json!({"proto": "tcp", "port": 53, "verdict": "refused", "reason": "dns-by-tcp", "sent": 0, "received": 0});
    let is_as_expected = |found: &[Value]| {
        for wanted in [flow(port, 0, 7), refused.clone(), flow(open, 6, 0), query.clone(), by_tcp.clone()] {
            assert!(found.contains(&wanted), "{wanted}\nis not in\n{found:#?}");
        }
        assert!(found.iter().all(|line| line["verdict"] != "allowed" || line["port"] != other), "{found:#?}");
    };
    is_as_expected(&lines(&run("-").exits(0).stderr));
    run(&log.display().to_string()).success();
    let text = fs::read_to_string(&log)?;
    assert!(text.starts_with("{\"time\":\"Z\",\"earlier\":true}\n"), "what was there stays: {text}");
    is_as_expected(&lines(&text)[1..]);
    Ok(())
}

#[test]
fn refusals_are_counted_in_each_life() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let port = somebody()?;
    let script = format!("for i in 1 2 3; do nc -w 20 {HOST} {port} </dev/null; done; echo over; sleep 1000");
    let log = rbox.home().join("flows");
    let to_log = format!("--egress-log={}", log.display());
    let flags = [NETWORK, &format!("--egress=deny={HOST}:{port}"), &to_log];
    let container = Detached::start(&rbox, &image, "box", &flags, &script);
    let denied = || {
        let format = "{{.NetworkSettings.EgressRefusals.denied}} {{.NetworkSettings.EgressRefusals.name}}";
        rbox.run(["inspect", "--format", format, "box"]).success()
    };
    until(|| container.logs(), |logs| logs.contains("over"));
    assert_eq!(denied(), "3 0\n");
    rbox.run(["restart", "-t", "0", "box"]).success();
    until(|| container.logs(), |logs| logs.matches("over").count() == 2);
    assert_eq!(denied(), "3 0\n");
    rbox.run(["stop", "-t", "0", "box"]).success();
    assert_eq!(denied(), "3 0\n", "it is known afterwards too");
    let refused = lines(&fs::read_to_string(&log)?).iter().filter(|line| line["reason"] == "denied").count();
    assert_eq!(refused, 6);
    let shown = rbox.run(["inspect", "--format", "{{.HostConfig.Egress}} {{.HostConfig.EgressLog}}", "box"]).success();
    assert_eq!(shown, format!("[deny={HOST}:{port}] {}\n", log.display()));
    Ok(())
}

#[test]
fn a_log_that_cannot_be_kept_is_an_error() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let run = |flags: &[&str]| rbox.run([&["run", "--rm"], flags, &[&image, "true"]].concat()).exits(125).stderr;
    let said = run(&["--egress-log", "/nowhere/at/all"]);
    assert!(said.contains("egress log /nowhere/at/all"), "{said}");
    let fifo = rbox.home().join("fifo").display().to_string();
    rbox_tests::command::run(std::process::Command::new("mkfifo").arg(&fifo))?;
    let said = run(&["--egress-log", &fifo]);
    assert!(said.contains(&fifo) && said.contains("hint: a fifo"), "{said}");
    let said = run(&["-d", "--egress-log", "-"]);
    assert!(said.contains("foreground") && said.contains("--egress-log FILE"), "{said}");
    let said = run(&["--network=host", "--egress-log", "-"]);
    assert!(said.contains("--network host"), "{said}");
    assert!(rbox.files("containers").is_empty());
    Ok(())
}
