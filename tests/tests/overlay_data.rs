//! Overlays: what is in files, by each of the ways in which it gets there and is read again.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rbox_sys::map::{Map, Sharing};
use rbox_tests::calls::{self, CWD, Errno, FallocateFlags, FlockOperation, Mode, OFlags, refused};
use rbox_tests::command::{output, read};
use rbox_tests::overlay::{Backend, Overlay, tree};
use rbox_tests::{cases, hash};

// fuse-overlayfs says neither what is too long for a file, nor where holes are (all is data to it), and that names
// have 251 bytes at most. The kernel has mappings of the lower file that stay so ("Non-standard behavior" in its
// Documentation/filesystems/overlayfs.rst). rbox says that all is data, and what is too long for a file only when that is
// written back.
cases! {
    written_and_read_at_any_place: rbox kernel fuse_overlayfs;
    what_one_writes_another_reads_at_once: rbox kernel fuse_overlayfs;
    appended_by_several_at_once: rbox kernel fuse_overlayfs;
    an_offset_is_ignored_when_appending: rbox kernel fuse_overlayfs;
    cut_and_lengthened: rbox kernel fuse_overlayfs;
    a_file_may_be_very_long: kernel;
    allocated_before_it_is_written: rbox kernel fuse_overlayfs;
    a_hole_is_punched_and_a_range_zeroed: rbox kernel fuse_overlayfs;
    holes_are_found: kernel;
    copied_within_the_kernel: rbox kernel fuse_overlayfs;
    copied_by_programs: rbox kernel fuse_overlayfs;
    a_shared_mapping_and_calls_see_each_other: rbox kernel fuse_overlayfs;
    a_mapping_that_is_written_without_any_call: rbox kernel fuse_overlayfs;
    a_private_mapping_is_ones_own: rbox kernel fuse_overlayfs;
    a_mapping_of_a_file_that_is_gone: rbox kernel fuse_overlayfs;
    a_mapping_from_before_the_copy_up_sees_what_is_written_after: rbox fuse_overlayfs;
    a_file_without_a_name: rbox kernel fuse_overlayfs;
    the_space_is_that_of_the_upper: rbox kernel;
    all_is_written_when_it_is_said_to_be: rbox kernel fuse_overlayfs;
    past_the_page_cache: rbox kernel fuse_overlayfs;
    sent_from_a_file: rbox kernel fuse_overlayfs;
    whole_files_are_locked_between_processes: rbox kernel fuse_overlayfs;
    records_are_locked_between_processes: rbox kernel fuse_overlayfs;
    nobody_may_read_or_write_otherwise_than_it_was_opened: rbox kernel fuse_overlayfs;
}

/// Opens a file to be read and written.
fn both_ways(path: &str) -> Result<File> {
    calls::opened(path, OFlags::RDWR).context(path.to_owned())
}

/// Whether all of the file is this.
fn holds(path: &str, wanted: &[u8]) -> Result<()> {
    let found = fs::read(path)?;
    let first = found.iter().zip(wanted).position(|(found, wanted)| found != wanted);
    ensure!(found == wanted, "{path} has {} bytes of {}, and another at {first:?}", found.len(), wanted.len());
    Ok(())
}

fn written_and_read_at_any_place(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file l fill=300000"])?;
    let mut wanted = tree::filling(300_000);
    fs::write("u", &wanted)?;
    let (lower, upper) = (both_ways("l")?, both_ways("u")?);
    // At no borders of pages, over the end, and beyond it.
    for (at, length) in [(0, 1), (4095, 2), (8191, 4099), (100_001, 70_000), (299_990, 20), (400_000, 10)] {
        let bytes: Vec<u8> = (0..length).map(|byte| (byte % 199) as u8 ^ 0xaa).collect();
        if wanted.len() < at + length {
            wanted.resize(at + length, 0);
        }
        wanted[at..at + length].copy_from_slice(&bytes);
        for file in [&lower, &upper] {
            file.write_all_at(&bytes, at as u64)?;
            let mut found = vec![0; length + 2];
            let got = file.read_at(&mut found, at as u64)?;
            ensure!(found[..length.min(got)] == bytes, "{length} bytes at {at}");
        }
    }
    drop((lower, upper));
    for _ in 0..2 {
        holds("l", &wanted)?;
        holds("u", &wanted)?;
        overlay.remount()?;
    }
    overlay.unmount()
}

fn what_one_writes_another_reads_at_once(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=lower"])?;
    let (one, other) = (both_ways("f")?, both_ways("f")?);
    for round in 0..100u8 {
        one.write_all_at(&[round; 5000], u64::from(round) * 100)?;
        let mut found = [0xff; 5000];
        other.read_exact_at(&mut found, u64::from(round) * 100)?;
        ensure!(found == [round; 5000], "round {round}");
        other.write_all_at(&[round ^ 0xff], 0)?;
        one.read_exact_at(&mut found[..1], 0)?;
        ensure!(found[0] == round ^ 0xff, "back, round {round}");
    }
    drop((one, other));
    overlay.unmount()
}

fn appended_by_several_at_once(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file log text=begin\\n"])?;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|who| {
                scope.spawn(move || -> Result<()> {
                    let mut file = calls::opened("log", OFlags::WRONLY | OFlags::APPEND)?;
                    // Each line in one call.
                    (0..200).try_for_each(|line| file.write_all(format!("{who} {line:04}\n").as_bytes()))?;
                    Ok(())
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("it does not panic"))
    })?;
    let text = fs::read_to_string("log")?;
    ensure!(text.starts_with("begin\n") && text.len() == 6 + 800 * 7, "{} bytes", text.len());
    for who in 0..4 {
        let lines = text.lines().filter(|line| line.starts_with(&format!("{who} ")));
        ensure!(lines.eq((0..200).map(|line| format!("{who} {line:04}"))), "the lines of {who}");
    }
    overlay.unmount()
}

fn an_offset_is_ignored_when_appending(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=lower"])?;
    let mut file = calls::opened("f", OFlags::RDWR | OFlags::APPEND)?;
    file.seek(SeekFrom::Start(1))?;
    file.write_all(b"+")?;
    ensure!(file.stream_position()? == 6, "at {}", file.stream_position()?);
    // pwrite(2), "BUGS".
    file.write_all_at(b"++", 0)?;
    let status = calls::fcntl_getfl(&file)?;
    calls::fcntl_setfl(&file, status - OFlags::APPEND)?;
    file.write_all_at(b"L", 0)?;
    drop(file);
    overlay.ends_as_in_upper("file f text=Lower+++")
}

fn cut_and_lengthened(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file l fill=10000"])?;
    let file = both_ways("l")?;
    file.set_len(5000)?;
    file.set_len(9000)?;
    let mut wanted = tree::filling(5000);
    wanted.resize(9000, 0);
    holds("l", &wanted)?;
    // What was cut does not come back.
    file.write_all_at(b"x", 9999)?;
    wanted.resize(9999, 0);
    wanted.push(b'x');
    drop(file);
    holds("l", &wanted)?;
    overlay.remount()?;
    holds("l", &wanted)?;
    refused(File::open("l")?.set_len(1), Errno::INVAL)?;
    overlay.unmount()
}

fn a_file_may_be_very_long(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=lower"])?;
    let file = both_ways("f")?;
    file.write_all_at(b"end", 5 << 30)?;
    ensure!(file.metadata()?.len() == (5 << 30) + 3, "its length");
    let mut found = [1; 5];
    ensure!(file.read_at(&mut found, (5 << 30) - 1)? == 4 && found == *b"\0end\x01", "{found:?}");
    refused(file.set_len(i64::MAX as u64), Errno::FBIG)?;
    refused(file.write_all_at(b"x", i64::MAX as u64 - 1), Errno::FBIG)?;
    drop(file);
    overlay.unmount()
}

fn allocated_before_it_is_written(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file keep text=lower\n file grow text=lower"])?;
    let keep = both_ways("keep")?;
    calls::fallocate(&keep, FallocateFlags::KEEP_SIZE, 0, 1 << 20)?;
    ensure!(keep.metadata()?.len() == 5, "it has grown");
    ensure!(keep.metadata()?.blocks() >= (1 << 20) / 512, "it has {} blocks", keep.metadata()?.blocks());
    let grow = both_ways("grow")?;
    calls::fallocate(&grow, FallocateFlags::empty(), 0, 20)?;
    refused(calls::fallocate(&grow, FallocateFlags::empty(), 0, 0), Errno::INVAL)?;
    refused(calls::fallocate(&grow, FallocateFlags::PUNCH_HOLE, 0, 1), Errno::OPNOTSUPP)?;
    refused(calls::fallocate(File::open("grow")?, FallocateFlags::empty(), 0, 1), Errno::BADF)?;
    drop((keep, grow));
    let zeros = "\\x00".repeat(15);
    overlay.ends_as_in_upper(&format!("file keep text=lower\n file grow text=lower{zeros}"))
}

fn a_hole_is_punched_and_a_range_zeroed(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file punched fill=100000\n file zeroed fill=100000"])?;
    let (punched, zeroed) = (both_ways("punched")?, both_ways("zeroed")?);
    // What is in the page cache is punched too.
    let mut found = vec![0; 100_000];
    punched.read_exact_at(&mut found, 0)?;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    calls::fallocate(&punched, hole, 10_000, 50_000)?;
    calls::fallocate(&punched, hole, 99_000, 50_000)?;
    calls::fallocate(&zeroed, FallocateFlags::ZERO_RANGE, 90_000, 20_000)?;
    let mut wanted = tree::filling(100_000);
    wanted[10_000..60_000].fill(0);
    wanted[99_000..].fill(0);
    let mut wanted_of_zeroed = tree::filling(90_000);
    wanted_of_zeroed.resize(110_000, 0);
    drop((punched, zeroed));
    for _ in 0..2 {
        holds("punched", &wanted)?;
        holds("zeroed", &wanted_of_zeroed)?;
        overlay.remount()?;
    }
    overlay.unmount()
}

fn holes_are_found(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &["file lower size=10000000"], "")?;
    File::options().write(true).open("0/lower")?.write_all_at(b"data", 5_000_000)?;
    let overlay = overlay.mounted()?;
    fs::copy("lower", "upper")?;
    let upper = both_ways("upper")?;
    upper.set_len(0)?;
    upper.set_len(10_000_000)?;
    upper.write_all_at(b"data", 5_000_000)?;
    for path in ["lower", "upper"] {
        let file = File::open(path)?;
        let data = calls::seek(&file, calls::SeekFrom::Data(0))?;
        ensure!((4_000_000..=5_000_000).contains(&data), "data of {path} at {data}");
        let hole = calls::seek(&file, calls::SeekFrom::Hole(5_000_000))?;
        ensure!((5_000_004..6_000_000).contains(&hole), "a hole of {path} at {hole}");
        ensure!(calls::seek(&file, calls::SeekFrom::Hole(0))? == 0, "it begins with one");
        refused(calls::seek(&file, calls::SeekFrom::Data(9_000_000)), Errno::NXIO)?;
        refused(calls::seek(&file, calls::SeekFrom::Hole(10_000_000)), Errno::NXIO)?;
    }
    drop(upper);
    overlay.unmount()
}

fn copied_within_the_kernel(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file from fill=100000\n file to fill=5000"])?;
    let (from, to, new) = (File::open("from")?, both_ways("to")?, File::create("new")?);
    let copied = |from: &File, from_at: u64, to: &File, to_at: u64, length: usize| -> Result<usize> {
        let (mut from_at, mut to_at) = (from_at, to_at);
        Ok(calls::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), length)?)
    };
    ensure!(copied(&from, 50_000, &to, 4000, 20_000)? == 20_000, "to another of the lower");
    ensure!(copied(&from, 0, &new, 0, 200_000)? == 100_000, "to a new one");
    ensure!(copied(&to, 0, &to, 30_000, 4000)? == 4000, "within one");
    ensure!(copied(&from, 100_000, &new, 0, 10)? == 0, "from beyond the end");
    refused(calls::copy_file_range(&to, Some(&mut 0), &to, Some(&mut 10), 20), Errno::INVAL)?;
    let mut wanted = tree::filling(4000);
    wanted.extend(&tree::filling(100_000)[50_000..70_000]);
    wanted.resize(30_000, 0);
    wanted.extend(tree::filling(4000));
    drop((from, to, new));
    for _ in 0..2 {
        holds("to", &wanted)?;
        holds("new", &tree::filling(100_000))?;
        overlay.remount()?;
    }
    overlay.unmount()
}

fn copied_by_programs(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f fill=3000000 mode=640 owner=1:2 user.a=b mtime=5.000000006"])?;
    read(Command::new("cp").args(["--archive", "f", "copied"]))?;
    read(Command::new("dd").args(["if=f", "of=dd", "bs=777", "conv=notrunc,fsync", "status=none"]))?;
    read(Command::new("tar").args(["--create", "--file=archive", "f"]))?;
    overlay.remount()?;
    holds("dd", &tree::filling(3_000_000))?;
    ensure!(fs::metadata("archive")?.len() > 3_000_000, "the archive");
    fs::remove_file("archive")?;
    let file = |name: &str| format!("file {name} fill=3000000 mode=640 owner=1:2 user.a=b mtime=5.000000006\n");
    let upper = file("copied") + "file dd fill=3000000";
    overlay.ends_as(&(file("f") + &upper), &upper)
}

fn a_shared_mapping_and_calls_see_each_other(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f fill=20000"])?;
    let file = both_ways("f")?;
    let mut map = Map::new(&file, 20_000, Sharing::Shared, true)?;
    let another = Map::new(File::open("f")?, 20_000, Sharing::Shared, false)?;
    ensure!(map.read(0, 20_000) == tree::filling(20_000), "what is mapped");
    file.write_all_at(b"by a call", 4090)?;
    ensure!(map.read(4090, 9) == b"by a call" && another.read(4090, 9) == b"by a call", "not seen in the mappings");
    map.write(12_000, b"by a mapping");
    let mut found = [0; 12];
    file.read_exact_at(&mut found, 12_000)?;
    ensure!(&found == b"by a mapping" && another.read(12_000, 12) == found, "not seen by calls");
    map.sync()?;
    let mut wanted = tree::filling(20_000);
    wanted[4090..4099].copy_from_slice(b"by a call");
    wanted[12_000..12_012].copy_from_slice(b"by a mapping");
    drop((file, map, another));
    holds("f", &wanted)?;
    overlay.remount()?;
    holds("f", &wanted)?;
    overlay.unmount()
}

fn a_mapping_that_is_written_without_any_call(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f fill=20000"])?;
    let mut map = Map::new(both_ways("f")?, 20_000, Sharing::Shared, true)?;
    map.write(5000, b"mapped");
    drop(map);
    let mut wanted = tree::filling(20_000);
    wanted[5000..5006].copy_from_slice(b"mapped");
    overlay.remount()?;
    holds("f", &wanted)?;
    overlay.unmount()
}

fn a_private_mapping_is_ones_own(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f fill=20000"])?;
    let mut map = Map::new(File::open("f")?, 20_000, Sharing::Private, true)?;
    map.write(5000, b"private");
    ensure!(map.read(5000, 7) == b"private", "what was written");
    holds("f", &tree::filling(20_000))?;
    refused(Map::new(File::open("f")?, 20_000, Sharing::Shared, true), Errno::ACCESS)?;
    drop(map);
    overlay.ends_as("file f fill=20000", "")
}

fn a_mapping_of_a_file_that_is_gone(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file l fill=20000"], "file u fill=20000")?;
    for path in ["l", "u"] {
        let file = both_ways(path)?;
        let mut map = Map::new(&file, 20_000, Sharing::Shared, true)?;
        drop(file);
        fs::remove_file(path)?;
        map.write(0, b"gone");
        ensure!(map.read(0, 4) == b"gone" && map.read(10_000, 9) == tree::filling(20_000)[10_000..10_009], "{path}");
    }
    overlay.ends_as("", "whiteout l")
}

fn a_mapping_from_before_the_copy_up_sees_what_is_written_after(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f fill=20000"])?;
    let map = Map::new(File::open("f")?, 20_000, Sharing::Shared, false)?;
    ensure!(map.read(5000, 3) == tree::filling(20_000)[5000..5003], "what is mapped");
    both_ways("f")?.write_all_at(b"new", 5000)?;
    ensure!(map.read(5000, 3) == b"new", "it has {:?}", map.read(5000, 3));
    drop(map);
    overlay.unmount()
}

fn a_file_without_a_name(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d\n file gone text=lower"])?;
    fs::remove_file("gone")?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = match calls::open("d", flags, Mode::from_raw_mode(0o640)) {
        // Programs do without where there are none (open(2)).
        Err(error) => {
            refused(Err::<(), _>(error), Errno::OPNOTSUPP)?;
            return overlay.ends_as("dir d", "whiteout gone");
        }
        Ok(file) => File::from(file),
    };
    (&file).write_all(b"text")?;
    ensure!(file.metadata()?.nlink() == 0 && fs::read_dir("d")?.count() == 0, "it has a name");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    calls::linkat(CWD, &path, CWD, "d/f", calls::AtFlags::SYMLINK_FOLLOW)?;
    calls::linkat(CWD, &path, CWD, "gone", calls::AtFlags::SYMLINK_FOLLOW)?;
    drop(file);
    overlay.ends_as_in_upper("file d/f text=text mode=640\n link gone d/f")
}

fn the_space_is_that_of_the_upper(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f"])?;
    let (upper, merged) = (calls::statvfs(overlay.upper())?, calls::statvfs("f")?);
    let sizes = |status: &calls::StatVfs| (status.f_frsize, status.f_blocks, status.f_files, status.f_namemax);
    ensure!(sizes(&merged) == sizes(&upper), "{:?}, and not {:?}", sizes(&merged), sizes(&upper));
    // Others use it as well.
    let free = |status: &calls::StatVfs| [status.f_bfree, status.f_bavail];
    let (found, wanted) = (free(&merged), free(&upper));
    let near = found.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) < upper.f_blocks / 10);
    ensure!(near, "{found:?}, and not {wanted:?}");
    overlay.unmount()
}

fn all_is_written_when_it_is_said_to_be(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file l text=1"])?;
    for path in ["l", "u"] {
        let mut file = File::create(path)?;
        file.write_all(b"synced")?;
        file.sync_all()?;
        file.sync_data()?;
        let upper = fs::read(overlay.upper().join(path))?;
        ensure!(upper == b"synced", "{path} has {upper:?} in the upper directory");
        rbox_sys::syncfs::syncfs(&file)?;
    }
    File::open(".")?.sync_all()?;
    overlay.ends_as_in_upper("file l text=synced\n file u text=synced")
}

fn past_the_page_cache(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f fill=16384"])?;
    let file = calls::opened("f", OFlags::RDWR | OFlags::DIRECT)?;
    // A buffer on a page of its own.
    let mut buffer = vec![0u8; 3 * 4096];
    let start = buffer.as_ptr().align_offset(4096);
    let page = &mut buffer[start..start + 4096];
    file.read_exact_at(page, 4096)?;
    ensure!(*page == tree::filling(16384)[4096..8192], "what is read");
    page.fill(7);
    file.write_all_at(page, 8192)?;
    drop(file);
    let mut wanted = tree::filling(16384);
    wanted[8192..12288].fill(7);
    holds("f", &wanted)?;
    overlay.remount()?;
    holds("f", &wanted)?;
    overlay.unmount()
}

fn sent_from_a_file(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f fill=200000"])?;
    let (from, to) = (File::open("f")?, File::create("to")?);
    let mut at = 100;
    while calls::sendfile(&to, &from, Some(&mut at), 1 << 20)? > 0 {}
    holds("to", &tree::filling(200_000)[100..])?;
    let sum = read(Command::new("sha256sum").arg("f"))?;
    ensure!(hash::digest(&tree::filling(200_000)).ends_with(sum.trim_end_matches("  f\n")), "{sum}");
    drop((from, to));
    overlay.unmount()
}

/// Whether a lock is to be had by another process.
fn another_may_lock(how: &str, path: &str) -> Result<bool> {
    let program = format!("import fcntl; fcntl.{how}(open('{path}', 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)");
    let said = output(Command::new("python3").args(["-c", &program]))?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.status.success() || text.contains("BlockingIOError"), "{text}");
    Ok(said.status.success())
}

fn whole_files_are_locked_between_processes(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1\n file g"])?;
    // Locked before it is copied up.
    let file = File::open("f")?;
    for path in ["f", "g"] {
        let file = if path == "f" { file.try_clone()? } else { both_ways("g")? };
        calls::flock(&file, FlockOperation::LockExclusive)?;
        ensure!(!another_may_lock("flock", path)?, "{path} is locked twice");
        refused(calls::flock(both_ways(path)?, FlockOperation::NonBlockingLockShared), Errno::WOULDBLOCK)?;
        ensure!(another_may_lock("lockf", path)?, "{path}: the two kinds are one");
        calls::flock(&file, FlockOperation::Unlock)?;
        ensure!(another_may_lock("flock", path)?, "{path} is locked still");
    }
    drop(file);
    overlay.unmount()
}

fn records_are_locked_between_processes(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=12345"])?;
    let file = both_ways("f")?;
    calls::fcntl_lock(&file, FlockOperation::LockExclusive)?;
    ensure!(!another_may_lock("lockf", "f")?, "it is locked twice");
    ensure!(another_may_lock("flock", "f")?, "the two kinds are one");
    // Any descriptor of the file that this process closes lets go of it (fcntl_locking(2)).
    drop(File::open("f")?);
    ensure!(another_may_lock("lockf", "f")?, "it is locked still");
    drop(file);
    overlay.unmount()
}

fn nobody_may_read_or_write_otherwise_than_it_was_opened(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1\n dir d"])?;
    refused(File::open("f")?.write_at(b"x", 0), Errno::BADF)?;
    refused(calls::opened("f", OFlags::WRONLY)?.read_at(&mut [0], 0), Errno::BADF)?;
    refused(File::open("d")?.read(&mut [0]), Errno::ISDIR)?;
    let path_only = calls::open("f", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    refused(calls::read(path_only.as_fd(), &mut [0u8; 1]), Errno::BADF)?;
    ensure!(calls::fstat(&path_only)?.st_size == 1, "it can be looked at");
    drop(path_only);
    overlay.unmount()
}
