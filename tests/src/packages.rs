//! Debian packages that are unpacked and not installed: what a test needs of them is files, and to install them would
//! change the machine, start services or replace what is there.
//!
//! apt checks what it downloads against the archive's signatures, and takes the newest that it knows of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{read, run};
use crate::fixture;

/// The files of the package `name`, in a directory of their own.
pub fn unpacked(name: &str) -> Result<PathBuf> {
    fixture::made_once(&format!("package-{name}"), |dir| unpack(name, dir))
}

/// A program of the package, in whichever of the directories for such it is.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    let files = unpacked(package)?;
    let mut paths = ["bin", "sbin", "usr/bin", "usr/sbin"].into_iter().map(|dir| files.join(dir).join(name));
    paths.find(|path| path.is_file()).with_context(|| format!("the package {package} has no program {name}"))
}

/// As [`unpacked`], of the package that `name`, which has no files, stands for: the first that it depends on.
pub fn unpacked_behind(name: &str) -> Result<PathBuf> {
    fixture::made_once(&format!("package-{name}"), |dir| {
        let depends = read(Command::new("apt-cache").args(["depends", "--important", name]))?;
        let first = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        unpack(first.with_context(|| format!("the package {name} depends on nothing"))?, dir)
    })
}

fn unpack(name: &str, dir: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(fixture::dir())?;
    let mut download = Command::new("apt-get");
    // Else root's apt becomes a user that may not write here.
    download.args(["-qq", "-o=APT::Sandbox::User=root", "download", name]).current_dir(scratch.path());
    run(&mut download)?;
    let archive = fs::read_dir(scratch.path())?.next().context("apt-get has downloaded nothing")??.path();
    run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(dir))
}
