//! Debian packages that are unpacked and not installed: what a test needs of them is files, and to install them would
//! change the machine, start services or replace what is there.
//!
//! apt checks what it downloads against the archive's signatures, and takes the newest that it knows of.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{found, read, run};
use crate::fixture;

/// The files of the package `name`, in a directory of their own.
pub fn unpacked(name: &str) -> Result<PathBuf> {
    fixture::made_once(&format!("package-{name}"), |dir| unpack(&[name], dir))
}

/// The files of the package `name` and of all that it depends on and that is not installed, in one directory.
pub fn unpacked_with_dependencies(name: &str) -> Result<PathBuf> {
    fixture::made_once(&format!("packages-{name}"), |dir| {
        // Of those that were removed, dpkg may know still.
        let known =
            read(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status} ${Package}\\n"]))?;
        let installed: Vec<&str> = known.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
        let depends = read(Command::new("apt-cache").args(["depends", "--recurse", "--important", name]))?;
        // Indented is what each depends on; in angle brackets, what several stand for.
        let all = depends.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
        let missing: Vec<&str> = all.filter(|package| !package.contains(':') && !installed.contains(package)).collect();
        unpack(&missing, dir)
    })
}

/// A program of the package, in whichever of the directories for such it is.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    program_in(&unpacked(package)?, package, name)
}

/// What starts a program of the package: the machine's own, or one that is unpacked with the libraries that it needs.
pub fn command(package: &str, name: &str) -> Result<Command> {
    if let Some(path) = found(name) {
        return Ok(Command::new(path));
    }
    let files = unpacked_with_dependencies(package)?;
    let mut command = Command::new(program_in(&files, package, name)?);
    command.env("LD_LIBRARY_PATH", libraries(&files)?);
    Ok(command)
}

/// Where the loader (ld.so(8)) is to look for libraries that were unpacked.
pub fn libraries(files: &Path) -> Result<OsString> {
    let dirs = ["lib", "usr/lib"].map(|dir| files.join(dir).join(format!("{}-linux-gnu", std::env::consts::ARCH)));
    Ok(std::env::join_paths(dirs)?)
}

fn program_in(files: &Path, package: &str, name: &str) -> Result<PathBuf> {
    let mut paths = ["bin", "sbin", "usr/bin", "usr/sbin"].into_iter().map(|dir| files.join(dir).join(name));
    paths.find(|path| path.is_file()).with_context(|| format!("the package {package} has no program {name}"))
}

/// As [`unpacked`], of the package that `name`, which has no files, stands for: the first that it depends on.
pub fn unpacked_behind(name: &str) -> Result<PathBuf> {
    fixture::made_once(&format!("package-{name}"), |dir| {
        let depends = read(Command::new("apt-cache").args(["depends", "--important", name]))?;
        let first = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        unpack(&[first.with_context(|| format!("the package {name} depends on nothing"))?], dir)
    })
}

fn unpack(names: &[&str], dir: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(fixture::dir())?;
    let mut download = Command::new("apt-get");
    // Else root's apt becomes a user that may not write here.
    download.args(["-qq", "-o=APT::Sandbox::User=root", "download"]).args(names).current_dir(scratch.path());
    run(&mut download)?;
    for archive in fs::read_dir(scratch.path())? {
        run(Command::new("dpkg-deb").arg("-x").arg(archive?.path()).arg(dir))?;
    }
    Ok(())
}
