//! A gigabyte of output reaches whoever is attached, and whoever reads the log, to the byte.

use std::fs;
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rbox_tests::hash::Hashed;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;

/// How often the block is printed, each time with a number before it.
const TIMES: usize = 64;
const BLOCK: usize = 16 << 20;
/// A machine with much else to do takes many times as long as an idle one.
const LIMIT: Duration = Duration::from_secs(1200);

/// Every byte there is, lines of a few bytes and one of five million, and no line feed at the end.
fn binary() -> Vec<u8> {
    let mut state = 1_u32;
    let mut block: Vec<u8> = (0..BLOCK).map(|_| next(&mut state)).collect();
    block[1_000_000..6_000_000].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = 0);
    end_without_a_line(block)
}

/// The same of text: JSON has no other bytes.
fn text() -> Vec<u8> {
    let mut state = 1_u32;
    let mut block = Vec::with_capacity(BLOCK + 4);
    while block.len() < BLOCK {
        match next(&mut state) {
            byte @ 0..=0x7f if byte & 0x60 != 0 || byte == b'\n' => block.push(byte),
            0x80..=0x8f => block.extend_from_slice("ä€🎈".as_bytes()),
            0x90 => block.extend_from_slice(b"\0\x1b\x7f\r\n"),
            0x91 => block.extend_from_slice("\u{2028}\u{fffd}\\\"".as_bytes()),
            _ => block.push(b' '),
        }
    }
    end_without_a_line(block)
}

/// Xorshift: the same at each run, and no pattern that hides what is missing.
fn next(state: &mut u32) -> u8 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    (*state >> 24) as u8
}

fn end_without_a_line(mut block: Vec<u8>) -> Vec<u8> {
    block.extend_from_slice(b"end");
    block
}

/// The number of bytes, and their hash.
type Seen = (u64, String);

/// What the workload prints, as it is after a terminal has made `\r\n` of each `\n`, if one does.
fn expected(mut block: Vec<u8>, tty: bool) -> Result<Seen> {
    if tty {
        block =
            block.into_iter().flat_map(|byte| [Some(b'\r').filter(|_| byte == b'\n'), Some(byte)]).flatten().collect();
    }
    let mut hashed = Hashed::new(std::io::sink());
    for number in 0..TIMES {
        write!(hashed, "<{number}>")?;
        hashed.write_all(&block)?;
    }
    let (_, hash, length) = hashed.finish();
    Ok((length, hash))
}

/// A command whose output is counted and hashed as it comes.
struct Reader {
    child: Child,
    seen: Receiver<io::Result<Seen>>,
    began: Instant,
}

impl Reader {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut stdout = child.stdout.take().context("piped")?;
        let (sender, seen) = channel();
        thread::spawn(move || {
            let mut hashed = Hashed::new(io::sink());
            let read = io::copy(&mut stdout, &mut hashed);
            let (_, hash, length) = hashed.finish();
            sender.send(read.map(|_| (length, hash)))
        });
        Ok(Self { child, seen, began: Instant::now() })
    }

    /// Waits for its end, and says what it took: what is slow is to be seen.
    fn end(mut self, what: &str) -> Result<Seen> {
        let seen = self.seen.recv_timeout(LIMIT).context("not done in time")??;
        println!("{what}: {:.1} s", self.began.elapsed().as_secs_f64());
        anyhow::ensure!(self.child.wait()?.success(), "{what} failed");
        Ok(seen)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Of one that has ended this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A container that prints the block again and again, with these flags: one is attached to it, and one follows its log;
/// and afterwards the log is read.
fn everybody_sees_all(flags: &[&str], block: Vec<u8>) -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    fs::write(rbox.home().join("block"), &block)?;
    let script = format!("for i in $(seq 0 {}); do printf '<%s>' $i; cat /block; done", TIMES - 1);
    let volume = format!("{}:/block:ro", rbox.home().join("block").display());
    rbox.run([&["create", "--name=box", "-v", &volume], flags, &[&image, "sh", "-c", &script]].concat()).success();
    let attached = Reader::start(rbox.command(["start", "--attach", "box"]))?;
    let status = || rbox.run(["inspect", "--format={{.State.Status}}", "box"]).success();
    until(status, |status| status != "created\n");
    let follower = Reader::start(rbox.command(["logs", "--follow", "box"]))?;
    let expected = expected(block, flags.contains(&"--tty"))?;
    assert_eq!(attached.end("attached")?, expected);
    assert_eq!(follower.end("follower")?, expected);
    assert_eq!(Reader::start(rbox.command(["logs", "box"]))?.end("log")?, expected);
    rbox.run(["rm", "box"]).success();
    Ok(())
}

#[test]
#[ignore = "long: gigabytes are written"]
fn a_gigabyte_through_pipes() -> Result<()> {
    everybody_sees_all(&["--log-driver=k8s-file"], binary())?;
    everybody_sees_all(&["--log-driver=json-file"], text())
}

#[test]
#[ignore = "long: gigabytes are written"]
fn a_gigabyte_through_a_terminal() -> Result<()> {
    everybody_sees_all(&["--tty", "--log-driver=k8s-file"], binary())?;
    everybody_sees_all(&["--tty", "--log-driver=json-file"], text())
}
