//! Overlays: symbolic links, fifos, sockets and what else mknod(2) makes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, Result, ensure};
use rbox_tests::calls::{self, CWD, Errno, FileType, Mode, OFlags, refused};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs answers ENOENT.
cases! {
    a_fifo_leads_from_one_to_another: rbox kernel fuse_overlayfs;
    a_socket_is_listened_on: rbox kernel fuse_overlayfs;
    a_regular_file_by_mknod: rbox kernel fuse_overlayfs;
    no_device_and_no_whiteout_by_mknod: rbox kernel;
    a_socket_by_mknod: rbox kernel fuse_overlayfs;
    a_symlink_that_leads_anywhere: rbox kernel fuse_overlayfs;
    a_symlink_of_4095_bytes_and_none_longer: rbox kernel fuse_overlayfs;
    a_file_is_written_through_a_symlink: rbox kernel fuse_overlayfs;
    a_link_of_a_symlink_is_one_too: rbox kernel fuse_overlayfs;
    links_that_cannot_be_made: rbox kernel fuse_overlayfs;
    many_links_of_one_file: rbox kernel fuse_overlayfs;
    a_program_is_run_and_changed_while_it_runs: rbox kernel fuse_overlayfs;
}

fn a_fifo_leads_from_one_to_another(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["fifo d/lower mode=600"])?;
    calls::mknodat(CWD, "d/upper", FileType::Fifo, Mode::from_raw_mode(0o640), 0)?;
    for name in ["d/lower", "d/upper"] {
        let text = std::thread::scope(|scope| -> Result<String> {
            let writer = scope.spawn(|| fs::write(name, "through"));
            let mut text = String::new();
            File::open(name)?.read_to_string(&mut text)?;
            writer.join().expect("it does not panic")?;
            Ok(text)
        });
        ensure!(text? == "through", "{name}");
    }
    refused(calls::opened("d/lower", OFlags::WRONLY | OFlags::NONBLOCK), Errno::NXIO)?;
    overlay.ends_as("fifo d/lower mode=600\n fifo d/upper mode=640", "fifo d/upper mode=640")
}

fn a_socket_is_listened_on(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["socket old\n file d/f"])?;
    let listener = UnixListener::bind("d/s")?;
    let mut client = UnixStream::connect("d/s")?;
    client.write_all(b"hello")?;
    drop(client);
    let mut text = String::new();
    listener.accept()?.0.read_to_string(&mut text)?;
    ensure!(text == "hello", "it hears {text:?}");
    refused(UnixListener::bind("d/s"), Errno::ADDRINUSE)?;
    refused(UnixListener::bind("old"), Errno::ADDRINUSE)?;
    refused(UnixStream::connect("old"), Errno::CONNREFUSED)?;
    refused(UnixStream::connect("d/f"), Errno::CONNREFUSED)?;
    refused(fs::read("d/s"), Errno::NXIO)?;
    drop(listener);
    overlay.ends_as("socket old\n socket d/s mode=755\n file d/f", "socket d/s mode=755")
}

fn a_regular_file_by_mknod(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f"])?;
    calls::mknodat(CWD, "new", FileType::RegularFile, Mode::from_raw_mode(0o4751), 0)?;
    fs::write("new", "text")?;
    for kind in [FileType::RegularFile, FileType::Fifo, FileType::Socket] {
        refused(calls::mknodat(CWD, "f", kind, Mode::RWXU, 0), Errno::EXIST)?;
    }
    // Writing has cleared the bit, root of a user namespace or not.
    overlay.ends_as("file f\n file new mode=751 text=text", "file new mode=751 text=text")
}

fn no_device_and_no_whiteout_by_mknod(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f"])?;
    for (kind, device) in [
        (FileType::CharacterDevice, calls::makedev(1, 3)),
        (FileType::BlockDevice, calls::makedev(7, 0)),
        (FileType::CharacterDevice, calls::makedev(0, 0)),
    ] {
        refused(calls::mknodat(CWD, "new", kind, Mode::RWXU, device), Errno::PERM)?;
    }
    overlay.ends_as("file f", "")
}

fn a_socket_by_mknod(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d"])?;
    calls::mknodat(CWD, "d/s", FileType::Socket, Mode::from_raw_mode(0o600), 0)?;
    ensure!(fs::symlink_metadata("d/s")?.file_type().is_socket(), "it is none");
    overlay.ends_as_in_upper("socket d/s mode=600")
}

fn a_symlink_that_leads_anywhere(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["symlink lower d/f\n file d/f text=1\n symlink d/up ../d/f"])?;
    symlink("d", "new")?;
    symlink("no/where", "dangling")?;
    symlink("\\ \n\u{fc}", "odd")?;
    symlink("/proc/self/status", "absolute")?;
    ensure!(fs::read("lower")? == b"1" && fs::read("new/up")? == b"1", "they are not followed");
    ensure!(fs::read_to_string("absolute")?.contains("Name:"), "out of the mount");
    refused(fs::read("dangling"), Errno::NOENT)?;
    refused(calls::symlink("x", "lower"), Errno::EXIST)?;
    refused(calls::symlink("", "empty"), Errno::NOENT)?;
    refused(fs::read_link("d/f"), Errno::INVAL)?;
    refused(fs::read_link("d"), Errno::INVAL)?;
    let upper = "symlink new d\n symlink dangling no/where\n symlink odd \\\\\\x20\\n\\xc3\\xbc
         symlink absolute /proc/self/status";
    overlay.ends_as(&format!("symlink lower d/f\n file d/f text=1\n symlink d/up ../d/f\n {upper}"), upper)
}

fn a_symlink_of_4095_bytes_and_none_longer(backend: Backend) -> Result<()> {
    let (middle, long) = ("m/".repeat(1000), "t/".repeat(2047) + "t");
    let overlay = Overlay::new(backend, &[&format!("symlink lower {middle}")])?;
    symlink(&long, "upper")?;
    refused(calls::symlink(long.clone() + "t", "longer"), Errno::NAMETOOLONG)?;
    ensure!(fs::symlink_metadata("upper")?.len() == 4095, "its length");
    fs::rename("lower", "moved")?;
    let upper = format!("symlink upper {long}\n symlink moved {middle}");
    overlay.ends_as(&upper, &format!("{upper}\n whiteout lower"))
}

fn a_file_is_written_through_a_symlink(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["symlink l d/f\n file d/f text=1\n symlink new d/new"])?;
    fs::write("l", "2")?;
    fs::write("new", "3")?;
    refused(calls::opened("new", OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY), Errno::EXIST)?;
    refused(calls::opened("l", OFlags::NOFOLLOW | OFlags::WRONLY), Errno::LOOP)?;
    let upper = "file d/f text=2\n file d/new text=3";
    overlay.ends_as(&format!("symlink l d/f\n symlink new d/new\n {upper}"), upper)
}

fn a_link_of_a_symlink_is_one_too(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["symlink l f\n file f"])?;
    fs::hard_link("l", "second")?;
    ensure!(fs::symlink_metadata("second")?.is_symlink(), "it was followed");
    overlay.remount()?;
    overlay.ends_as("file f\n symlink l f\n link second l", "symlink l f\n link second l")
}

fn links_that_cannot_be_made(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d\n file f\n file g"])?;
    refused(calls::link("d", "x"), Errno::PERM)?;
    refused(calls::link("f", "g"), Errno::EXIST)?;
    refused(calls::link("f", "d"), Errno::EXIST)?;
    refused(calls::link("none", "x"), Errno::NOENT)?;
    refused(calls::link("f", "../x"), Errno::XDEV)?;
    overlay.ends_as("dir d\n file f\n file g", "")
}

fn many_links_of_one_file(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d", "file f text=1"])?;
    (0..100).try_for_each(|number| fs::hard_link("f", format!("d/{number:03}")))?;
    fs::write("d/050", "2")?;
    overlay.remount()?;
    let links: String = (1..100).map(|number| format!("link d/{number:03} d/000\n")).collect();
    overlay.ends_as_in_upper(&format!("file d/000 text=2\n {links}link f d/000"))
}

fn a_program_is_run_and_changed_while_it_runs(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &["dir bin", "dir d"], "")?;
    fs::copy("/bin/sleep", "0/bin/sleep")?;
    fs::copy("/bin/sleep", "upper/sleep")?;
    let overlay = overlay.mounted()?;
    fs::write("script", "#!/bin/sh\necho \"$0 $1\"\n")?;
    calls::chmod("script", Mode::RWXU)?;
    let said = rbox_tests::command::read(std::process::Command::new("./script").arg("x")).context("a script")?;
    ensure!(said == "./script x\n", "it says {said:?}");
    let mut running = std::process::Command::new("./sleep").arg("100").spawn()?;
    let tried = refused(calls::opened("sleep", OFlags::WRONLY), Errno::TXTBSY);
    running.kill()?;
    running.wait()?;
    tried?;
    rbox_tests::command::read(std::process::Command::new("bin/sleep").arg("0"))?;
    fs::rename("bin/sleep", "bin/moved")?;
    rbox_tests::command::read(std::process::Command::new("bin/moved").arg("0"))?;
    overlay.unmount()
}
