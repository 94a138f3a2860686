//! `rbox logs`, over files as Docker, Podman and Kubernetes write them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use rbox_tests::rbox::{Rbox, finish};
use serde_json::{Value, json};

/// Containers whose output went elsewhere, with logs made by hand.
struct Fixture {
    rbox: Rbox,
    image: String,
}

impl Fixture {
    fn new() -> Result<Self> {
        let (rbox, image) = Rbox::with_small_image()?;
        Ok(Self { rbox, image })
    }

    /// A container that has ended; gives its directory.
    fn ended(&self, name: &str, driver: &str) -> Result<PathBuf> {
        self.rbox.run(["run", "--name", name, &self.image, "true"]).success();
        self.record(name, json!({ "driver": driver, "max_file": 3 }))
    }

    /// Says in the container's record how its log is written.
    fn record(&self, name: &str, log: Value) -> Result<PathBuf> {
        let inspected: Value = serde_json::from_str(&self.rbox.run(["inspect", name]).success())?;
        let directory = self.rbox.store().join("containers").join(inspected[0]["Id"].as_str().context("an id")?);
        let path = directory.join("container.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&path)?)?;
        record["log"] = log;
        // In its place: while the container runs, the file is locked.
        fs::write(path, record.to_string())?;
        Ok(directory)
    }
}

fn docker(text: &str, stream: &str, second: u32) -> String {
    json!({ "log": text, "stream": stream, "time": format!("2025-01-02T03:04:{second:02}.5Z") }).to_string() + "\n"
}

fn cri(text: &str, stream: &str, second: u32) -> String {
    format!("2025-01-02T03:04:{second:02}.500000000Z {stream} F {text}\n")
}

#[test]
fn logs_of_both_formats_in_order_and_by_stream() -> Result<()> {
    let fixture = Fixture::new()?;
    for (name, driver) in [("json", "json-file"), ("cri", "k8s-file")] {
        let directory = fixture.ended(name, driver)?;
        let line = |text: &str, stream, second| match driver {
            "json-file" => docker(&format!("{text}\n"), stream, second),
            _ => cri(text, stream, second),
        };
        fs::write(directory.join("log.2"), line("one", "stdout", 1))?;
        fs::write(directory.join("log.1"), line("two", "stderr", 2) + &line("three <\"é\">", "stdout", 3))?;
        // The last one was cut short when its writer was killed.
        fs::write(directory.join("log"), line("four", "stdout", 4) + line("five", "stdout", 5).trim_end())?;
        let logs = |flags: &[&str]| fixture.rbox.run([&["logs"], flags, &[name]].concat()).exits(0);
        let all = logs(&[]);
        assert_eq!((&*all.stdout, &*all.stderr), ("one\nthree <\"é\">\nfour\n", "two\n"), "{driver}");
        assert_eq!(logs(&["--tail", "2"]).stdout, "three <\"é\">\nfour\n");
        assert_eq!(logs(&["-n", "0"]).stdout, "");
        assert_eq!(logs(&["-n0", "-f"]).stdout, "", "it has ended");
        assert_eq!(logs(&["-n", "-1"]).stdout, all.stdout);
        assert_eq!(logs(&["--since", "2025-01-02T03:04:03Z"]).stdout, "three <\"é\">\nfour\n");
        assert_eq!(logs(&["--since", "1735787043.5", "--until", "1735787043.5"]).stdout, "three <\"é\">\n");
        assert_eq!(logs(&["--since", "10m"]).stdout, "");
        assert_eq!(logs(&["--until", "10m"]).stdout, all.stdout);
        let with_times = logs(&["-t", "--tail=1"]).stdout;
        assert_eq!(with_times, "2025-01-02T03:04:04.500000000Z four\n");
    }
    let both = fixture.rbox.run(["logs", "--names", "--tail=1", "json", "cri"]).success();
    assert_eq!(both, "json four\ncri four\n");
    Ok(())
}

#[test]
fn logs_in_pieces_and_of_bytes_that_are_no_text() -> Result<()> {
    let fixture = Fixture::new()?;
    let directory = fixture.ended("c", "k8s-file")?;
    let mut log = b"2025-01-02T03:04:05.000000000+00:00 stdout P half a \n".to_vec();
    log.extend_from_slice(b"2025-01-02T03:04:05.000000000+00:00 stdout F line\xff\0\x1b\r\n");
    log.extend_from_slice(b"2025-01-02T03:04:05.000000000+00:00 stdout P prompt> \n");
    fs::write(directory.join("log"), log)?;
    let output = fixture.rbox.command(["logs", "c"]).stdin(Stdio::null()).output()?;
    assert_eq!(output.stdout, b"half a line\xff\0\x1b\r\nprompt> ");
    Ok(())
}

#[test]
fn logs_that_are_not_there() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.rbox.run(["run", "--name", "plain", &fixture.image, "true"]).success();
    fixture.rbox.run(["logs", "plain"]).refused(&["container plain has no log", "foreground"]);
    fixture.ended("dropped", "none")?;
    fixture.rbox.run(["logs", "dropped"]).refused(&["configured logging driver does not support reading", "none"]);
    fixture.rbox.run(["logs", "nothing"]).refused(&["no such container: nothing"]);
    fixture.rbox.run(["logs", "--since", "yesterday", "plain"]).refused(&["\"yesterday\" is no point in time"]);
    // A log that nothing was written to yet.
    fixture.ended("silent", "json-file")?;
    assert_eq!(fixture.rbox.run(["logs", "-f", "silent"]).success(), "");
    Ok(())
}

#[test]
fn logs_are_followed_over_new_files_until_the_container_ends() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut container =
        fixture.rbox.start(["run", "--name", "c", &fixture.image, "sh", "-c", "echo up; exec sleep 600"]);
    container.expect("up\n");
    let directory = fixture.record("c", json!({ "driver": "json-file", "max_file": 3 }))?;
    let append = |text: &str| -> Result<()> {
        let mut log = OpenOptions::new().append(true).create(true).open(directory.join("log"))?;
        Ok(log.write_all(text.as_bytes())?)
    };
    append(&docker("before\n", "stdout", 1))?;
    let mut followers = [fixture.rbox.start(["logs", "-f", "c"]), fixture.rbox.start(["logs", "--follow", "-n1", "c"])];
    followers.iter_mut().for_each(|follower| _ = follower.expect("before\n"));
    append(&docker("here\n", "stdout", 2))?;
    followers.iter_mut().for_each(|follower| assert_eq!(follower.expect("here\n"), ""));
    append(&docker("last in old\n", "stdout", 3))?;
    fs::rename(directory.join("log"), directory.join("log.1"))?;
    append(&docker("first in new\n", "stdout", 4))?;
    followers.iter_mut().for_each(|follower| assert_eq!(follower.expect("last in old\nfirst in new\n"), ""));
    append(&docker("the end", "stdout", 5))?;
    fixture.rbox.run(["rm", "-f", "c"]).success();
    for mut follower in followers {
        follower.expect("the end");
        assert_eq!(follower.wait(), 0);
    }
    Ok(())
}

#[test]
fn logs_for_a_reader_that_goes_away() -> Result<()> {
    let fixture = Fixture::new()?;
    let directory = fixture.ended("c", "k8s-file")?;
    fs::write(directory.join("log"), cri("x", "stdout", 1).repeat(100_000))?;
    let mut command = fixture.rbox.command_under(&["sh", "-c", "\"$@\" | head -n 1", "sh"], ["logs", "c"]);
    let outcome = finish(command.stdin(Stdio::null())).exits(0);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("x\n", ""));
    Ok(())
}
