//! A Debian mirror in a directory: some packages with all that they depend on, and the source of a program in C.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command::{read, run};
use crate::fixture;

/// The packages that are there to be installed.
pub const PACKAGES: [&str; 30] = [
    "bc",
    "bison",
    "bzip2",
    "dc",
    "ed",
    "file",
    "flex",
    "gawk",
    "htop",
    "jq",
    "less",
    "libc6-dev",
    "lsof",
    "m4",
    "make",
    "man-db",
    "nano",
    "patch",
    "psmisc",
    "rsync",
    "screen",
    "sqlite3",
    "strace",
    "stress-ng",
    "time",
    "tmux",
    "tree",
    "unzip",
    "xz-utils",
    "zip",
];

/// The source, below the mirror: an archive of Lua's.
pub const SOURCE: &str = "lua.tar.gz";

/// The mirror: `deb [trusted=yes] file:/… ./` is its line in sources.list(5). Making it takes a Debian mirror, and a minute.
pub fn directory() -> Result<PathBuf> {
    fixture::made_once("debian-mirror-1", make)
}

fn make(dir: &Path) -> Result<()> {
    const NOT: [&str; 6] =
        ["--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"];
    let scratch = tempfile::tempdir_in(fixture::dir())?;
    let of = |name: &str| scratch.path().join(name);
    // apt(8) with lists of its own: what the machine has installed, and since when it has not looked, does not matter.
    let apt = |program: &str, within: &Path| {
        let mut apt = Command::new(program);
        for (option, value) in [("State::status", "status"), ("State::lists", "lists"), ("Cache", "cache")] {
            apt.arg(format!("-o=Dir::{option}={}", of(value).display()));
        }
        // Else root's apt becomes a user that may not write here.
        apt.args(["-qq", "-o=APT::Sandbox::User=root"]).current_dir(within);
        apt
    };
    fs::write(of("status"), "")?;
    fs::create_dir_all(of("lists/partial"))?;
    fs::create_dir_all(of("cache/archives/partial"))?;
    run(apt("apt-get", dir).arg("update"))?;
    let said = read(apt("apt-cache", dir).args(["depends", "--recurse"]).args(NOT).args(PACKAGES))?;
    // A package stands at the beginning of its line; what only stands for others has a bracket there.
    let names = said.lines().filter(|line| line.starts_with(|first: char| first.is_alphanumeric()));
    run(apt("apt-get", dir).arg("download").args(names))?;
    fs::write(dir.join("Packages"), read(Command::new("dpkg-scanpackages").arg(".").current_dir(dir))?)?;

    fs::write(of("list"), "deb-src [trusted=yes] http://deb.debian.org/debian bookworm main\n")?;
    let list = [format!("-o=Dir::Etc::sourcelist={}", of("list").display()), "-o=Dir::Etc::sourceparts=-".to_owned()];
    run(apt("apt-get", scratch.path()).args(&list).arg("update"))?;
    run(apt("apt-get", scratch.path()).args(&list).args(["source", "--download-only", "lua5.4"]))?;
    for entry in fs::read_dir(scratch.path())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".orig.tar.gz") {
            fs::copy(entry.path(), dir.join(SOURCE))?;
        }
    }
    ensure!(dir.join(SOURCE).exists(), "the archive has no source of lua5.4");
    Ok(())
}
