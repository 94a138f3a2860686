//! Overlays: who may do what, and whose that is which they make. Root here is root of a user namespace.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, chown};

use anyhow::{Result, ensure};
use rbox_tests::calls::{self, Access, AtFlags, CWD, Errno, FileType, Mode, OFlags, as_user, refused};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs gives directories no setgid bit, and clears bits when a file is opened to be written, not when it
// is. rbox is not told of which groups a writer is, and keeps a setgid bit of what nobody executes; and copies a file up when
// it is written to, not when it is opened for that.
cases! {
    another_user_reads_and_writes_what_the_mode_says: rbox kernel fuse_overlayfs;
    another_user_makes_and_removes_where_the_directory_lets_him: rbox kernel fuse_overlayfs;
    access_is_answered_by_mode_and_owner: rbox kernel fuse_overlayfs;
    only_the_owner_changes_mode_owner_and_times: rbox kernel fuse_overlayfs;
    in_a_sticky_directory_each_removes_his_own: rbox kernel fuse_overlayfs;
    what_is_made_is_its_makers: rbox kernel fuse_overlayfs;
    what_is_made_in_a_setgid_directory_is_its_groups: rbox kernel;
    a_group_that_is_not_ones_own_is_no_setgid: rbox kernel fuse_overlayfs;
    the_umask_is_heeded: rbox kernel fuse_overlayfs;
    a_file_made_without_rights_is_open_to_its_maker: rbox kernel fuse_overlayfs;
    set_id_bits_go_when_a_file_is_written: kernel;
    a_setgid_bit_of_what_nobody_executes_stays_for_the_group: kernel;
    set_id_bits_go_when_it_gets_another_owner: rbox kernel;
    owners_from_first_to_last: rbox kernel fuse_overlayfs;
}

fn another_user_reads_and_writes_what_the_mode_says(backend: Backend) -> Result<()> {
    let lower = "file secret mode=600 text=1\n file read mode=644 text=1\n file write mode=666 text=1
         file own mode=600 owner=7:7
         file group mode=660 owner=0:7 text=1\n dir closed mode=700\n file closed/f mode=666\n dir x mode=711
          file x/f mode=644";
    let overlay = Overlay::new(backend, &[lower])?;
    as_user(7, 7, || {
        refused(fs::read("secret"), Errno::ACCESS)?;
        refused(calls::opened("secret", OFlags::WRONLY), Errno::ACCESS)?;
        fs::read("read")?;
        refused(calls::opened("read", OFlags::WRONLY), Errno::ACCESS)?;
        refused(calls::opened("read", OFlags::RDONLY | OFlags::TRUNC), Errno::ACCESS)?;
        fs::write("write", "2")?;
        fs::write("own", "2")?;
        fs::write("group", "2")?;
        refused(fs::read("closed/f"), Errno::ACCESS)?;
        refused(calls::lstat("closed/f"), Errno::ACCESS)?;
        refused(fs::read_dir("closed").map(drop), Errno::ACCESS)?;
        refused(fs::read_dir("x").map(drop), Errno::ACCESS)?;
        fs::read("x/f")?;
        Ok(())
    })?;
    as_user(8, 8, || refused(fs::read("own"), Errno::ACCESS))?;
    // Whoever has it copied up, it stays whose it was.
    overlay.ends_as(
        &lower
            .replace("write mode=666 text=1", "write mode=666 text=2")
            .replace("owner=7:7", "owner=7:7 text=2")
            .replace("0:7 text=1", "0:7 text=2"),
        "file write mode=666 text=2\n file own mode=600 owner=7:7 text=2\n file group mode=660 owner=0:7 text=2",
    )
}

fn another_user_makes_and_removes_where_the_directory_lets_him(backend: Backend) -> Result<()> {
    let lower = "file closed/f mode=666 owner=7:7\n dir open mode=777\n file open/f mode=600\n dir open/d
         dir own mode=700 owner=7:7\n file own/f";
    let overlay = Overlay::new(backend, &[lower])?;
    as_user(7, 7, || {
        refused(fs::write("closed/new", ""), Errno::ACCESS)?;
        refused(calls::mkdir("closed/new", Mode::RWXU), Errno::ACCESS)?;
        refused(calls::unlink("closed/f"), Errno::ACCESS)?;
        refused(calls::rename("closed/f", "open/x"), Errno::ACCESS)?;
        refused(calls::symlink("x", "closed/l"), Errno::ACCESS)?;
        refused(calls::mknodat(CWD, "closed/p", FileType::Fifo, Mode::RWXU, 0), Errno::ACCESS)?;
        fs::write("open/new", "1")?;
        fs::rename("open/f", "open/moved")?;
        fs::remove_dir("open/d")?;
        fs::remove_file("own/f")?;
        fs::create_dir("own/d")?;
        calls::symlink("x", "own/l")?;
        Ok(())
    })?;
    let upper = "dir open mode=777\n file open/new text=1 owner=7:7\n file open/moved mode=600
         dir own mode=700 owner=7:7\n dir own/d owner=7:7\n symlink own/l x owner=7:7";
    overlay.ends_as(
        &format!("file closed/f mode=666 owner=7:7\n {upper}"),
        &format!("{upper}\n whiteout open/f\n whiteout open/d\n whiteout own/f"),
    )
}

fn access_is_answered_by_mode_and_owner(backend: Backend) -> Result<()> {
    let lower = "file f mode=640 owner=7:9\n file x mode=711\n file none mode=0\n dir d mode=750 owner=7:9";
    let overlay = Overlay::new(backend, &[lower])?;
    let may = |path: &str| {
        let may = |access| calls::access(path, access).is_ok();
        [Access::READ_OK, Access::WRITE_OK, Access::EXEC_OK].map(may)
    };
    let seen_by = |user, group| as_user(user, group, move || Ok(["f", "x", "none", "d"].map(may)));
    let (yes, no) = (true, false);
    let by_owner = seen_by(7, 7)?;
    ensure!(by_owner == [[yes, yes, no], [no, no, yes], [no; 3], [yes; 3]], "the owner: {by_owner:?}");
    let by_group = seen_by(8, 9)?;
    ensure!(by_group == [[yes, no, no], [no, no, yes], [no; 3], [yes, no, yes]], "the group: {by_group:?}");
    let by_other = seen_by(8, 8)?;
    ensure!(by_other == [[no; 3], [no, no, yes], [no; 3], [no; 3]], "others: {by_other:?}");
    let by_root = seen_by(0, 0)?;
    ensure!(by_root == [[yes, yes, no], [yes; 3], [yes, yes, no], [yes; 3]], "root: {by_root:?}");
    refused(calls::access("missing", Access::EXISTS), Errno::NOENT)?;
    overlay.ends_as(lower, "")
}

fn only_the_owner_changes_mode_owner_and_times(backend: Backend) -> Result<()> {
    let lower = "file f mode=666 text=1\n file own mode=644 owner=7:7\n dir d mode=777";
    let overlay = Overlay::new(backend, &[lower])?;
    as_user(7, 7, || {
        for path in ["f", "d"] {
            refused(calls::chmod(path, Mode::RWXU), Errno::PERM)?;
            refused(chown(path, Some(7), None), Errno::PERM)?;
            refused(calls::utimensat(CWD, path, &at(5), AtFlags::empty()), Errno::PERM)?;
        }
        calls::chmod("own", Mode::from_raw_mode(0o600))?;
        calls::utimensat(CWD, "own", &at(5), AtFlags::empty())?;
        refused(chown("own", Some(8), None), Errno::PERM)?;
        refused(chown("own", None, Some(8)), Errno::PERM)?;
        chown("own", Some(7), Some(7))?;
        // What may be written may be said to have been written now (utimensat(2)).
        calls::utimensat(CWD, "f", &now(), AtFlags::empty())?;
        refused(calls::opened("f", OFlags::RDONLY | OFlags::NOATIME), Errno::PERM)?;
        calls::opened("own", OFlags::RDONLY | OFlags::NOATIME)?;
        Ok(())
    })?;
    as_user(8, 8, || refused(calls::utimensat(CWD, "own", &now(), AtFlags::empty()), Errno::ACCESS))?;
    let upper = "file f mode=666 text=1\n file own mode=600 owner=7:7 mtime=5.000000000";
    overlay.ends_as(&format!("{upper}\n dir d mode=777"), upper)
}

/// Both times at this second.
fn at(second: i64) -> calls::Timestamps {
    let time = calls::Timespec { tv_sec: second, tv_nsec: 0 };
    calls::Timestamps { last_access: time, last_modification: time }
}

/// Both times as they are when the call is made.
fn now() -> calls::Timestamps {
    let time = calls::Timespec { tv_sec: 0, tv_nsec: calls::UTIME_NOW };
    calls::Timestamps { last_access: time, last_modification: time }
}

fn in_a_sticky_directory_each_removes_his_own(backend: Backend) -> Result<()> {
    let lower = "dir t mode=1777\n file t/root\n file t/own owner=7:7\n file t/moved owner=7:7
         dir t/d owner=8:8\n dir open mode=777\n file open/f owner=7:7";
    let overlay = Overlay::over(backend, &[lower], "file t/upper\n dir t mode=1777")?;
    as_user(7, 7, || {
        for path in ["t/root", "t/upper"] {
            refused(calls::unlink(path), Errno::PERM)?;
            refused(calls::rename(path, "open/x"), Errno::PERM)?;
            refused(calls::rename("open/f", path), Errno::PERM)?;
            refused(calls::rename2("t/own", path, calls::RenameFlags::EXCHANGE), Errno::PERM)?;
        }
        refused(calls::rmdir("t/d"), Errno::PERM)?;
        calls::unlink("t/own")?;
        calls::rename("t/moved", "open/moved")?;
        fs::write("t/new", "")?;
        Ok(())
    })?;
    as_user(8, 8, || refused(calls::unlink("t/new"), Errno::PERM))?;
    overlay.ends_as(
        "dir t mode=1777\n file t/root\n file t/upper\n file t/new owner=7:7\n dir t/d owner=8:8\n dir open mode=777
         file open/f owner=7:7\n file open/moved owner=7:7",
        "dir t mode=1777\n file t/upper\n file t/new owner=7:7\n whiteout t/own\n whiteout t/moved\n dir open mode=777
         file open/moved owner=7:7",
    )
}

fn what_is_made_is_its_makers(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d mode=777\n file d/gone"])?;
    as_user(7, 9, || {
        fs::write("d/f", "")?;
        fs::create_dir("d/d")?;
        calls::symlink("x", "d/l")?;
        calls::mknodat(CWD, "d/p", FileType::Fifo, Mode::from_raw_mode(0o666), 0)?;
        fs::remove_file("d/gone")?;
        fs::write("d/gone", "again")?;
        Ok(())
    })?;
    overlay.ends_as_in_upper(
        "dir d mode=777\n file d/f owner=7:9\n dir d/d owner=7:9\n symlink d/l x owner=7:9\n fifo d/p owner=7:9
         file d/gone text=again owner=7:9",
    )
}

fn what_is_made_in_a_setgid_directory_is_its_groups(backend: Backend) -> Result<()> {
    let lower = "dir d mode=2777 owner=0:9\n file d/file\n dir d/dir";
    let overlay = Overlay::over(backend, &[lower], "dir u mode=2777 owner=0:9")?;
    fs::remove_file("d/file")?;
    fs::remove_dir("d/dir")?;
    as_user(7, 7, || {
        for dir in ["d", "u"] {
            fs::write(format!("{dir}/file"), "")?;
            fs::create_dir(format!("{dir}/dir"))?;
            calls::symlink("x", format!("{dir}/l"))?;
        }
        Ok(())
    })?;
    let of = |dir: &str| {
        format!(
            "dir {dir} mode=2777 owner=0:9\n file {dir}/file owner=7:9\n dir {dir}/dir mode=2755 owner=7:9 OPAQUE
             symlink {dir}/l x owner=7:9\n"
        )
    };
    overlay.ends_as(
        &(of("d") + &of("u")).replace("OPAQUE", ""),
        &(of("d").replace("OPAQUE", "opaque") + &of("u").replace("OPAQUE", "")),
    )
}

fn a_group_that_is_not_ones_own_is_no_setgid(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f owner=7:9\n file own owner=7:7"])?;
    as_user(7, 7, || {
        calls::chmod("f", Mode::from_raw_mode(0o2755))?;
        calls::chmod("own", Mode::from_raw_mode(0o2755))?;
        Ok(())
    })?;
    overlay.ends_as_in_upper("file f owner=7:9 mode=755\n file own owner=7:7 mode=2755")
}

fn the_umask_is_heeded(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file gone"])?;
    fs::remove_file("gone")?;
    calls::umask(Mode::from_raw_mode(0o027));
    let all = Mode::from_raw_mode(0o777);
    for name in ["f", "gone"] {
        drop(calls::open(name, OFlags::CREATE | OFlags::WRONLY, all)?);
    }
    calls::mkdir("d", all)?;
    calls::mknodat(CWD, "p", FileType::Fifo, all, 0)?;
    calls::umask(Mode::empty());
    drop(calls::open("all", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o4777))?);
    overlay.ends_as_in_upper(
        "file f mode=750\n file gone mode=750\n dir d mode=750\n fifo p mode=750\n file all mode=4777",
    )
}

fn a_file_made_without_rights_is_open_to_its_maker(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d mode=777"])?;
    as_user(7, 7, || {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        let mut file: File = calls::open("d/f", flags, Mode::empty())?.into();
        file.write_all(b"text")?;
        ensure!(file.metadata()?.mode() & 0o777 == 0, "its mode");
        refused(fs::read("d/f"), Errno::ACCESS)
    })?;
    overlay.ends_as_in_upper("dir d mode=777\n file d/f mode=0 owner=7:7 text=text")
}

/// Also root's of a user namespace: only root of the host may keep them.
fn set_id_bits_go_when_a_file_is_written(backend: Backend) -> Result<()> {
    let lower = "file l mode=6777 text=1\n file cut mode=6777 text=1\n file open mode=6777 text=1
         file append mode=6777 text=1";
    let overlay = Overlay::over(backend, &[lower], "file u mode=6777 text=1")?;
    calls::opened("l", OFlags::WRONLY)?.write_at(b"2", 0)?;
    calls::opened("u", OFlags::WRONLY)?.write_at(b"2", 0)?;
    calls::opened("append", OFlags::WRONLY | OFlags::APPEND)?.write_all(b"2")?;
    drop(calls::opened("open", OFlags::WRONLY)?);
    as_user(7, 7, || Ok(calls::opened("cut", OFlags::WRONLY)?.set_len(0)?))?;
    overlay.ends_as_in_upper(
        "file l mode=777 text=2\n file u mode=777 text=2\n file append mode=777 text=12\n file open mode=6777 text=1
         file cut mode=777",
    )
}

/// Without the group's right to execute it meant mandatory locking once, and goes only when a stranger writes.
fn a_setgid_bit_of_what_nobody_executes_stays_for_the_group(backend: Backend) -> Result<()> {
    let overlay =
        Overlay::over(backend, &["file l mode=2666 text=1\n file other mode=2666 text=1"], "file u mode=2666 text=1")?;
    for path in ["l", "u"] {
        calls::opened(path, OFlags::WRONLY)?.write_at(b"2", 0)?;
    }
    as_user(7, 7, || Ok(calls::opened("other", OFlags::WRONLY)?.write_all(b"2")?))?;
    overlay.ends_as_in_upper("file l mode=2666 text=2\n file u mode=2666 text=2\n file other mode=666 text=2")
}

fn set_id_bits_go_when_it_gets_another_owner(backend: Backend) -> Result<()> {
    let layer = |name: &str| format!("file {name} mode=6755\n file {name}-no-x mode=6644\n dir {name}-dir mode=6755\n");
    let overlay = Overlay::over(backend, &[&layer("l")], &layer("u"))?;
    for name in ["l", "u"] {
        for suffix in ["", "-no-x", "-dir"] {
            chown(format!("{name}{suffix}"), Some(7), Some(7))?;
        }
    }
    let of = |name: &str| {
        format!(
            "file {name} mode=755 owner=7:7\n file {name}-no-x mode=NOX owner=7:7
             dir {name}-dir mode=6755 owner=7:7\n"
        )
    };
    let both = (of("l") + &of("u")).replace("NOX", "2644");
    overlay.ends_as_in_upper(&both)
}

fn owners_from_first_to_last(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f owner=65535:65535\n file g"])?;
    chown("g", Some(65535), Some(1))?;
    chown("g", None, Some(65535))?;
    chown("f", Some(0), None)?;
    // What the namespace has no id for.
    refused(chown("f", Some(65536), None), Errno::INVAL)?;
    overlay.ends_as_in_upper("file f owner=0:65535\n file g owner=65535:65535")
}
