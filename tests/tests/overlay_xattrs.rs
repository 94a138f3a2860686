//! Overlays: extended attributes and POSIX ACLs. What the overlay keeps for itself in them, nobody sees or sets.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use rbox_tests::calls::{
    self, Errno, Mode, OFlags, XattrFlags, as_user, refused, removexattr, setxattr, xattr, xattrs,
};
use rbox_tests::cases;
use rbox_tests::overlay::tree::{ACCESS, DEFAULT, acl};
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs drops what is set by an overlay's own name, and applies the umask where there is a default ACL, with
// which it makes no symlinks (ENOENT).
cases! {
    set_read_listed_and_removed: rbox kernel fuse_overlayfs;
    made_only_and_replaced_only: rbox kernel fuse_overlayfs;
    a_buffer_that_is_too_small: rbox kernel fuse_overlayfs;
    names_and_values_that_cannot_be: rbox kernel fuse_overlayfs;
    those_of_others_are_not_ours_to_set: rbox kernel fuse_overlayfs;
    a_long_value_is_copied_up: rbox kernel fuse_overlayfs;
    many_are_copied_up: rbox kernel fuse_overlayfs;
    the_overlays_own_are_not_shown: rbox kernel fuse_overlayfs;
    names_of_overlays_within_are_kept_apart: rbox kernel;
    by_a_descriptor_of_what_was_copied_up_since: rbox kernel fuse_overlayfs;
    an_acl_is_set_on_a_file_of_a_lower: rbox kernel fuse_overlayfs;
    an_acl_says_who_may: rbox kernel fuse_overlayfs;
    a_change_of_mode_is_one_of_the_mask: rbox kernel fuse_overlayfs;
    an_acl_that_says_no_more_than_the_mode: rbox kernel fuse_overlayfs;
    an_acl_is_removed: rbox kernel fuse_overlayfs;
    acls_that_cannot_be: rbox kernel fuse_overlayfs;
    what_is_made_inherits_the_default_acl: rbox kernel;
    what_is_made_over_a_whiteout_inherits_too: rbox kernel;
    a_file_capability: rbox kernel fuse_overlayfs;
    a_file_capability_is_copied_up: rbox kernel fuse_overlayfs;
}

/// No flags.
const ANY: XattrFlags = XattrFlags::empty();

fn set_read_listed_and_removed(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file l user.a=1 user.b=2\n dir d user.a=1"], "file u user.a=1\n dir e")?;
    for path in ["l", "d", "u", "e"] {
        setxattr(path, "user.new", b"\0\xff", ANY)?;
        setxattr(path, "user.a", b"changed", ANY)?;
        setxattr(path, "user.empty", b"", ANY)?;
        ensure!(xattr(path, "user.new")? == b"\0\xff", "{path}");
        let mut names = xattrs(path)?;
        names.retain(|name| name != "user.b");
        ensure!(names == ["user.a", "user.empty", "user.new"], "{path}: {names:?}");
        removexattr(path, "user.new")?;
        refused(xattr(path, "user.new"), Errno::NODATA)?;
        refused(removexattr(path, "user.new"), Errno::NODATA)?;
    }
    overlay.ends_as_in_upper(
        "file l user.a=changed user.b=2 user.empty=\n dir d user.a=changed user.empty=
         file u user.a=changed user.empty=\n dir e user.a=changed user.empty=",
    )
}

fn made_only_and_replaced_only(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file l user.a=1"], "file u user.a=1")?;
    for path in ["l", "u"] {
        refused(setxattr(path, "user.a", b"2", XattrFlags::CREATE), Errno::EXIST)?;
        refused(setxattr(path, "user.none", b"2", XattrFlags::REPLACE), Errno::NODATA)?;
        refused(setxattr(path, "user.a", b"2", XattrFlags::CREATE | XattrFlags::REPLACE), Errno::EXIST)?;
        setxattr(path, "user.a", b"2", XattrFlags::REPLACE)?;
        setxattr(path, "user.b", b"3", XattrFlags::CREATE)?;
    }
    overlay.ends_as_in_upper("file l user.a=2 user.b=3\n file u user.a=2 user.b=3")
}

fn a_buffer_that_is_too_small(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file l user.a=12345 user.longer="], "file u user.a=12345 user.longer=")?;
    for path in ["l", "u"] {
        ensure!(calls::getxattr_query(path, "user.a")? == 5, "the length alone");
        refused(calls::getxattr(path, "user.a", &mut [0; 4]), Errno::RANGE)?;
        ensure!(calls::getxattr(path, "user.a", &mut [0; 5])? == 5, "just enough");
        ensure!(calls::listxattr_query(path)? == 19, "the length of the list");
        refused(calls::listxattr(path, &mut [0; 18]), Errno::RANGE)?;
        ensure!(calls::listxattr(path, &mut [0; 19])? == 19, "just enough for the list");
    }
    overlay.ends_as(
        "file l user.a=12345 user.longer=\n file u user.a=12345 user.longer=",
        "file u user.a=12345 user.longer=",
    )
}

fn names_and_values_that_cannot_be(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f\n symlink l f\n fifo p"])?;
    let longest = format!("user.{}", "n".repeat(250));
    setxattr("f", &longest, b"1", ANY)?;
    refused(setxattr("f", format!("{longest}n"), b"1", ANY), Errno::RANGE)?;
    refused(setxattr("f", "user.", b"1", ANY), Errno::INVAL)?;
    refused(setxattr("f", "other.x", b"1", ANY), Errno::OPNOTSUPP)?;
    refused(xattr("f", "other.x"), Errno::OPNOTSUPP)?;
    refused(setxattr("f", "user.large", &vec![1; 65537], ANY), Errno::TOOBIG)?;
    refused(calls::lsetxattr("l", "user.a", b"1", ANY), Errno::PERM)?;
    refused(setxattr("p", "user.a", b"1", ANY), Errno::PERM)?;
    refused(xattr("l", "user.a"), Errno::NODATA)?;
    overlay.ends_as(&format!("file f {longest}=1\n symlink l f\n fifo p"), &format!("file f {longest}=1"))
}

fn those_of_others_are_not_ours_to_set(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f"])?;
    // capabilities(7): CAP_SYS_ADMIN of the host.
    refused(setxattr("f", "trusted.a", b"1", ANY), Errno::PERM)?;
    refused(xattr("f", "trusted.a"), Errno::NODATA)?;
    refused(setxattr("f", "security.other", b"1", ANY), Errno::PERM)?;
    refused(removexattr("f", "trusted.a"), Errno::PERM)?;
    overlay.unmount()
}

fn a_long_value_is_copied_up(backend: Backend) -> Result<()> {
    let value = "v".repeat(3000);
    let overlay = Overlay::new(backend, &[&format!("file f user.long={value} user.a=1")])?;
    ensure!(xattr("f", "user.long")? == value.as_bytes(), "it is another");
    calls::chmod("f", Mode::RUSR)?;
    overlay.ends_as_in_upper(&format!("file f mode=400 user.long={value} user.a=1"))
}

fn many_are_copied_up(backend: Backend) -> Result<()> {
    let all: String = (0..60).map(|number| format!(" user.number{number:02}={number}")).collect();
    let overlay = Overlay::new(backend, &[&format!("file f{all}\n dir d{all}")])?;
    calls::chmod("f", Mode::RUSR)?;
    calls::chmod("d", Mode::RUSR)?;
    overlay.ends_as_in_upper(&format!("file f mode=400{all}\n dir d mode=400{all}"))
}

fn the_overlays_own_are_not_shown(backend: Backend) -> Result<()> {
    let lower = "dir l opaque user.a=1\n dir m opaque";
    let overlay =
        Overlay::over(backend, &[lower, "file l/hidden\n file below text=1"], "dir u opaque user.a=1\n file u/f")?;
    fs::write("l/new", "")?;
    fs::write("below", "")?;
    fs::rename("below", "u/moved")?;
    for path in ["l", "m", "u", ".", "u/f", "u/moved", "l/new"] {
        let own: Vec<String> = xattrs(path)?.into_iter().filter(|name| name != "user.a").collect();
        ensure!(own.is_empty(), "{path} has {own:?}");
        refused(xattr(path, "user.overlay.opaque"), Errno::NODATA)?;
        refused(xattr(path, "user.overlay.origin"), Errno::NODATA)?;
    }
    overlay.ends_as(
        "dir l user.a=1\n file l/new\n dir m\n dir u user.a=1\n file u/f\n file u/moved",
        "dir l user.a=1\n file l/new\n dir u user.a=1 opaque\n file u/f\n file u/moved\n whiteout below",
    )
}

/// From Linux 6.7 on, such names are kept under another (Documentation/filesystems/overlayfs.rst, "Nesting overlayfs
/// mounts"), so that an overlay may be made within.
fn names_of_overlays_within_are_kept_apart(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d\n file d/f\n file g user.overlay.overlay.escaped=1"])?;
    setxattr("d", "user.overlay.opaque", b"y", ANY)?;
    setxattr("g", "user.overlay.whiteout", b"", ANY)?;
    setxattr("g", "user.overlay.overlay.x", b"2", ANY)?;
    setxattr("g", "user.overlay.gone", b"3", ANY)?;
    removexattr("g", "user.overlay.gone")?;
    let g = "file g user.overlay.escaped=1 user.overlay.whiteout= user.overlay.overlay.x=2";
    let upper = "dir d user.overlay.overlay.opaque=y
         file g user.overlay.overlay.escaped=1 user.overlay.overlay.whiteout= user.overlay.overlay.overlay.x=2";
    overlay.ends_as(&format!("dir d user.overlay.opaque=y\n file d/f\n {g}"), upper)
}

fn by_a_descriptor_of_what_was_copied_up_since(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f user.a=1 text=1"])?;
    let open = File::open("f")?;
    fs::write("f", "2")?;
    setxattr("f", "user.a", b"2", ANY)?;
    calls::fsetxattr(&open, "user.b", b"3", ANY)?;
    let mut value = [0; 1];
    calls::fgetxattr(&open, "user.a", &mut value)?;
    ensure!(value == *b"2", "it has {value:?}");
    drop(open);
    overlay.ends_as_in_upper("file f user.a=2 user.b=3 text=2")
}

fn an_acl_is_set_on_a_file_of_a_lower(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f mode=640 text=1\n dir d mode=750"])?;
    let words = "u::rw-,u:7:rw-,g::r--,m::rw-,o::---";
    setxattr("f", ACCESS, &acl(words)?, ANY)?;
    setxattr("d", ACCESS, &acl(&words.replace("rw-", "rwx"))?, ANY)?;
    // The mask is the group's bits (acl(5)).
    ensure!(fs::metadata("f")?.mode() & 0o777 == 0o660, "{:o}", fs::metadata("f")?.mode());
    let words_of_d = words.replace("rw-", "rwx");
    overlay.ends_as_in_upper(&format!("file f mode=660 text=1 acl={words}\n dir d mode=770 acl={words_of_d}"))
}

fn an_acl_says_who_may(backend: Backend) -> Result<()> {
    let lower = "file f mode=660 text=1 acl=u::rw-,u:7:r--,g::r--,g:9:rw-,m::rw-,o::---
         file m mode=640 text=1 acl=u::rw-,u:7:rw-,g::r--,m::r--,o::---";
    let overlay = Overlay::new(backend, &[lower])?;
    let may = |user, group, path: &'static str| {
        as_user(user, group, move || {
            let may = |flags| calls::opened(path, flags).is_ok();
            Ok((may(OFlags::RDONLY), may(OFlags::WRONLY)))
        })
    };
    for _ in 0..2 {
        ensure!(may(7, 7, "f")? == (true, false), "user 7 of f: {:?}", may(7, 7, "f")?);
        ensure!(may(8, 9, "f")? == (true, true), "group 9 of f: {:?}", may(8, 9, "f")?);
        ensure!(may(8, 8, "f")? == (false, false), "another of f: {:?}", may(8, 8, "f")?);
        ensure!(may(7, 7, "m")? == (true, false), "user 7 of m, which is masked: {:?}", may(7, 7, "m")?);
        // As copied up, it is the same.
        fs::write("f", "2")?;
        fs::write("m", "2")?;
    }
    overlay.ends_as_in_upper(&lower.replace("text=1", "text=2"))
}

fn a_change_of_mode_is_one_of_the_mask(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f mode=660 acl=u::rw-,u:7:rw-,g::r--,m::rw-,o::---"])?;
    calls::chmod("f", Mode::from_raw_mode(0o604))?;
    overlay.ends_as_in_upper("file f mode=604 acl=u::rw-,u:7:rw-,g::r--,m::---,o::r--")
}

fn an_acl_that_says_no_more_than_the_mode(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f mode=660 acl=u::rw-,u:7:rw-,g::r--,m::rw-,o::---\n file g"])?;
    setxattr("f", ACCESS, &acl("u::rw-,g::r--,o::r--")?, ANY)?;
    setxattr("g", ACCESS, &acl("u::rwx,g::r-x,o::---")?, ANY)?;
    refused(xattr("f", ACCESS), Errno::NODATA)?;
    overlay.ends_as_in_upper("file f\n file g mode=750")
}

fn an_acl_is_removed(backend: Backend) -> Result<()> {
    let with = "mode=770 acl=u::rwx,u:7:rwx,g::r-x,m::rwx,o::--- default=u::rwx,g::r-x,o::---";
    let overlay = Overlay::new(backend, &[&format!("dir d {with}")])?;
    removexattr("d", ACCESS)?;
    removexattr("d", DEFAULT)?;
    // The mode keeps what the mask was.
    overlay.ends_as_in_upper("dir d mode=770")
}

fn acls_that_cannot_be(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f\n dir d\n symlink l f"])?;
    refused(setxattr("f", ACCESS, &acl("u::rw-,u:7:r--,g::r--,o::---")?, ANY), Errno::INVAL)?;
    refused(setxattr("f", ACCESS, b"nonsense", ANY), Errno::OPNOTSUPP)?;
    refused(setxattr("f", DEFAULT, &acl("u::rw-,g::r--,o::---")?, ANY), Errno::ACCESS)?;
    refused(calls::lsetxattr("l", ACCESS, &acl("u::rw-,g::r--,o::---")?, ANY), Errno::OPNOTSUPP)?;
    as_user(7, 7, || {
        refused(setxattr("f", ACCESS, &acl("u::rw-,g::r--,o::---")?, ANY), Errno::PERM)?;
        refused(removexattr("f", ACCESS), Errno::PERM)
    })?;
    overlay.ends_as("file f\n dir d\n symlink l f", "")
}

/// With a default ACL the umask is nothing (umask(2)).
fn what_is_made_inherits_the_default_acl(backend: Backend) -> Result<()> {
    let default = "u::rwx,u:7:rwx,g::r-x,m::rwx,o::---";
    let overlay = Overlay::over(backend, &[&format!("dir l default={default}")], &format!("dir u default={default}"))?;
    calls::umask(Mode::from_raw_mode(0o077));
    for name in ["l", "u"] {
        drop(calls::open(format!("{name}/f"), OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o660))?);
        calls::mkdir(format!("{name}/d"), Mode::from_raw_mode(0o777))?;
        calls::mknodat(calls::CWD, format!("{name}/p"), calls::FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        calls::symlink("x", format!("{name}/l"))?;
    }
    let of = |name: &str| {
        format!(
            "dir {name} default={default}
             file {name}/f mode=660 acl=u::rw-,u:7:rwx,g::r-x,m::rw-,o::---
             dir {name}/d mode=770 acl={default} default={default}
             fifo {name}/p mode=600 acl=u::rw-,u:7:rwx,g::r-x,m::---,o::---
             symlink {name}/l x\n"
        )
    };
    overlay.ends_as_in_upper(&(of("l") + &of("u")))
}

fn what_is_made_over_a_whiteout_inherits_too(backend: Backend) -> Result<()> {
    let default = "u::rwx,u:7:rwx,g::r-x,m::rwx,o::---";
    let overlay = Overlay::new(backend, &[&format!("dir l default={default}\n file l/f\n file l/d")])?;
    calls::unlink("l/f")?;
    calls::unlink("l/d")?;
    calls::umask(Mode::from_raw_mode(0o077));
    drop(calls::open("l/f", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o660))?);
    calls::mkdir("l/d", Mode::from_raw_mode(0o777))?;
    let end = format!(
        "dir l default={default}
         file l/f mode=660 acl=u::rw-,u:7:rwx,g::r-x,m::rw-,o::---
         dir l/d mode=770 acl={default} default={default}"
    );
    overlay.ends_as(&end, &format!("{end} opaque"))
}

/// vfs_cap_data of revision 2: cap_net_raw, effective (linux/capability.h). The kernel keeps it as the namespace's.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn a_file_capability(backend: Backend) -> Result<()> {
    let capability = CAPABILITY;
    let overlay = Overlay::over(backend, &["file l text=1"], "file u text=1")?;
    for path in ["l", "u"] {
        setxattr(path, "security.capability", &capability, ANY)?;
        ensure!(xattr(path, "security.capability")? == capability, "{path}");
        overlay.remount()?;
        ensure!(xattr(path, "security.capability")? == capability, "{path}, mounted anew");
        // Whoever writes may have written something else.
        fs::write(path, "2")?;
        refused(xattr(path, "security.capability"), Errno::NODATA)?;
    }
    overlay.ends_as_in_upper("file l text=2\n file u text=2")
}

fn a_file_capability_is_copied_up(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &["file ping mode=755 text=1"], "")?;
    setxattr("0/ping", "security.capability", &CAPABILITY, ANY)?;
    let overlay = overlay.mounted()?;
    calls::chmod("ping", Mode::from_raw_mode(0o711))?;
    ensure!(xattr("ping", "security.capability")? == CAPABILITY);
    overlay.remount()?;
    ensure!(xattr("ping", "security.capability")? == CAPABILITY, "mounted anew");
    let text = r"security.capability=\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    overlay.ends_as_in_upper(&format!("file ping mode=711 {text} text=1"))
}
