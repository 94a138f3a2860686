//! `rbox unshare`: a program of the host's as root of the ids that containers have.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::Result;
use rbox_tests::rbox::Rbox;
use rbox_tests::terminal::Terminal;

#[test]
fn it_is_root_with_all_ids_and_has_mounts_of_its_own() -> Result<()> {
    let rbox = Rbox::new();
    let file = rbox.home().join("file");
    fs::write(&file, "")?;
    let own = fs::metadata(&file)?.uid();
    let script =
        "id -u; chown 5:6 file && stat -c %u:%g file; mkdir m && mount -t tmpfs tmpfs m && touch m/x && echo mounted";
    assert_eq!(rbox.run(["unshare", "sh", "-c", script]).success(), "0\n5:6\nmounted\n");
    let owner = fs::metadata(&file)?.uid();
    assert_ne!((owner, owner), (own, 5), "it belongs to one of the subordinate ids");
    assert!(!rbox.home().join("m/x").exists());
    // Whoever comes next has the same ids.
    assert_eq!(rbox.run(["unshare", "stat", "-c", "%u:%g", "file"]).success(), "5:6\n");
    rbox.run(["unshare", "rm", "file"]).success();
    Ok(())
}

#[test]
fn with_one_id() {
    let rbox = Rbox::new();
    let maps = rbox.run(["--identity=single", "unshare", "cat", "/proc/self/uid_map"]).success();
    let words: Vec<&str> = maps.split_whitespace().collect();
    assert_eq!((words[0], words[2], words.len()), ("0", "1", 3));
}

#[test]
fn the_exit_status_is_the_programs() {
    let rbox = Rbox::new();
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137)] {
        rbox.run(["unshare", "sh", "-c", script]).exits(status);
    }
    rbox.run(["unshare", "no-such-program"]).refused_as(127, &["no-such-program", "not found in $PATH"]);
    rbox.run(["unshare", "/etc/passwd"]).refused_as(126, &["/etc/passwd", "permission denied"]);
    rbox.run(["unshare", "--no-such-flag"]).exits(125);
    // What follows the program is its own.
    assert_eq!(rbox.run(["unshare", "echo", "--help", "-x"]).success(), "--help -x\n");
}

#[test]
fn streams_and_terminal_are_the_callers() -> Result<()> {
    let rbox = Rbox::new();
    assert_eq!(rbox.run_with_input(["unshare", "cat"], b"through").success(), "through");
    // Without a program, a shell.
    let mut command = rbox.command(["unshare"]);
    command.env("SHELL", "/bin/sh").env("PS1", "ready> ");
    let mut terminal = Terminal::start(&command, 30, 100)?;
    terminal.expect("ready> ");
    terminal.send("id -u; stty size\n")?;
    terminal.expect("0");
    terminal.expect("30 100");
    // To the shell and not to rbox, which is no more.
    terminal.send("trap 'echo got it' INT; kill -INT $$\n")?;
    terminal.expect("got it");
    terminal.send("exit 3\n")?;
    assert_eq!(terminal.wait(), 3);
    Ok(())
}
