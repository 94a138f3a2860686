//! The floor under `rbox run --rm IMAGE true`: the system calls that any such runtime has to make, and nothing else.
//!
//! `rbox-floor ranges|single LOWER SCRATCH COMMAND…` runs the command over the directory LOWER: new namespaces, the id
//! map (of `newuidmap` and `newgidmap` at once, or of one id), an overlay mount, /proc, /sys, /dev, pivot_root, exec.
//! Nothing is parsed, recorded, filtered or dropped. The benchmark `start` shows how far rbox is above it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use rbox_sys::clone::{Ended, Forked, Namespaces, fork_into};
use rbox_sys::mount::{self, Attributes, Filesystem, Propagation};
use rbox_sys::{exec, ids, process};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("rbox-floor: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [map, lower, scratch, command @ ..] = &arguments[..] else {
        bail!("usage: rbox-floor MAP LOWER SCRATCH COMMAND…")
    };
    let dir = Path::new(scratch).join(std::process::id().to_string());
    for name in ["", "upper", "work", "root"] {
        fs::create_dir(dir.join(name))?;
    }
    let (uid, gid) = (ids::uid(), ids::gid());
    let ranges = if map == "ranges" { Some((range("/etc/subuid", uid)?, range("/etc/subgid", uid)?)) } else { None };

    let (mut mapped, map_done) = std::io::pipe()?;
    let all =
        [Namespaces::MOUNT, Namespaces::PID, Namespaces::NET, Namespaces::UTS, Namespaces::IPC, Namespaces::CGROUP];
    let child = match fork_into(all.into_iter().fold(Namespaces::USER, Namespaces::and))? {
        Forked::Child => {
            drop(map_done);
            let error = enter(&mut mapped, lower, &dir, command).err().context("exec returned");
            eprintln!("rbox-floor: {error:?}");
            std::process::exit(125);
        }
        Forked::Parent(child) => child,
    };
    write_maps(child.pid(), (uid, gid), ranges.as_ref(), map_done)?;
    let ended = child.wait()?;
    // overlayfs makes them with mode 000; not even their owner can open them.
    for name in ["work/work", "work/work/incompat", "work/work/incompat/volatile"] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o700))?;
    }
    fs::remove_dir_all(&dir)?;
    Ok(match ended {
        Ended::Exited(code) => code,
        Ended::Signaled(signal) => 128 + signal as u8,
    })
}

/// `start count` of the first range of this user.
fn range(file: &str, uid: u32) -> Result<(String, String)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let uid = uid.to_string();
    let name = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid)).and_then(|line| line.split(':').next());
    let name = name.context("no line of /etc/passwd is ours")?;
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_once(':'));
    let (start, count) = line.with_context(|| format!("{file} has no range for {name}"))?;
    Ok((start.to_owned(), count.to_owned()))
}

type Range = (String, String);

fn write_maps(pid: u32, own: (u32, u32), ranges: Option<&(Range, Range)>, mut done: PipeWriter) -> Result<()> {
    match ranges {
        Some((uids, gids)) => {
            let helper = |name: &str, own: u32, (start, count): &Range| -> Result<Child> {
                let own = own.to_string();
                let pid = pid.to_string();
                Ok(Command::new(name).args([&pid, "0", &own, "1", "1", start, count]).spawn()?)
            };
            let both = [helper("newuidmap", own.0, uids)?, helper("newgidmap", own.1, gids)?];
            for mut helper in both {
                ensure!(helper.wait()?.success(), "an id map was refused");
            }
        }
        None => {
            fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            fs::write(format!("/proc/{pid}/uid_map"), format!("0 {} 1", own.0))?;
            fs::write(format!("/proc/{pid}/gid_map"), format!("0 {} 1", own.1))?;
        }
    }
    Ok(done.write_all(b"x")?)
}

/// In the new namespaces: becomes the command.
fn enter(mapped: &mut PipeReader, lower: &str, dir: &Path, command: &[String]) -> Result<()> {
    mapped.read_exact(&mut [0])?;
    process::new_session()?;
    ids::become_user(0, 0)?;
    mount::set_root_propagation(Propagation::Slave)?;

    let root = dir.join("root");
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    let options =
        format!("lowerdir={lower},upperdir={},workdir={},userxattr,volatile", upper.display(), work.display());
    mount::mount_old("overlay", &root, &CString::new(options)?).context("overlay")?;

    let restricted = Attributes::NOSUID.and(Attributes::NOEXEC).and(Attributes::NODEV);
    attach(Filesystem::open("proc")?, restricted, &root.join("proc")).context("/proc")?;
    let sys = Filesystem::open("sysfs")?;
    attach(sys, restricted.and(Attributes::READ_ONLY), &root.join("sys")).context("/sys")?;
    attach(Filesystem::open("cgroup2")?, restricted.and(Attributes::READ_ONLY), &root.join("sys/fs/cgroup"))
        .context("cgroup")?;

    let dev = root.join("dev");
    let devices = Filesystem::open("tmpfs")?;
    devices.set("mode", "755")?;
    attach(devices, Attributes::NOSUID, &dev).context("/dev")?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let node = mount::clone_tree(File::open("/dev")?.as_fd(), Path::new(name), false)?;
        mount::attach(node.as_fd(), File::create(dev.join(name))?.as_fd()).with_context(|| name.to_owned())?;
    }
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir(dev.join(name))?;
    }
    let pts = Filesystem::open("devpts")?;
    pts.set("ptmxmode", "666")?;
    attach(pts, Attributes::NOSUID.and(Attributes::NOEXEC), &dev.join("pts")).context("devpts")?;
    attach(Filesystem::open("tmpfs")?, restricted, &dev.join("shm")).context("shm")?;
    attach(Filesystem::open("mqueue")?, restricted, &dev.join("mqueue")).context("mqueue")?;
    for (link, target) in [("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")] {
        std::os::unix::fs::symlink(target, dev.join(link))?;
    }

    process::set_hostname("floor")?;
    process::change_directory(&root)?;
    mount::pivot_to_current_directory()?;
    let words = command.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>()?;
    let program = words.first().context("no command")?;
    Err(exec::execve(program, &words, &[c"PATH=/usr/bin:/bin".to_owned()]).into())
}

fn attach(filesystem: Filesystem, attributes: Attributes, target: &Path) -> Result<()> {
    let mount = filesystem.mount(attributes)?;
    Ok(mount::attach(mount.as_fd(), File::open(target)?.as_fd())?)
}
