//! As `killed.rs`, for the OCI runtime interface, and as root, who has cgroups to leave behind: `delete --force` and a new
//! container of the same id work after each kill.
#![cfg(target_arch = "x86_64")]

mod tracer;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rbox_tests::bundle::Bundle;

use tracer::{HERE_AND_THERE, each_point, follow};

#[test]
fn create_is_killed_here_and_there() -> Result<()> {
    create_is_killed(HERE_AND_THERE)
}

#[test]
#[ignore = "takes minutes"]
fn create_is_killed_everywhere() -> Result<()> {
    create_is_killed(1)
}

#[test]
fn start_is_killed_here_and_there() -> Result<()> {
    start_is_killed(HERE_AND_THERE)
}

#[test]
#[ignore = "takes minutes"]
fn start_is_killed_everywhere() -> Result<()> {
    start_is_killed(1)
}

#[test]
fn delete_is_killed_here_and_there() -> Result<()> {
    delete_is_killed(HERE_AND_THERE)
}

#[test]
#[ignore = "takes minutes"]
fn delete_is_killed_everywhere() -> Result<()> {
    delete_is_killed(1)
}

#[test]
fn exec_is_killed_here_and_there() -> Result<()> {
    exec_is_killed(HERE_AND_THERE)
}

#[test]
#[ignore = "takes minutes"]
fn exec_is_killed_everywhere() -> Result<()> {
    exec_is_killed(1)
}

fn create_is_killed(step: usize) -> Result<()> {
    let victim = Victim::new("create")?;
    let create = victim.bundle.command(["create", "--pid-file", "pid", &victim.id]);
    each_point("rbox oci create", step, |point| follow(&create, None, point), || victim.recover())
}

fn start_is_killed(step: usize) -> Result<()> {
    let victim = Victim::new("start")?;
    let start = victim.bundle.command(["start", &victim.id]);
    each_point("rbox oci start", step, |point| follow(&start, Some(victim.create()?), point), || victim.recover())
}

fn delete_is_killed(step: usize) -> Result<()> {
    let victim = Victim::new("delete")?;
    let delete = victim.bundle.command(["delete", "--force", &victim.id]);
    each_point(
        "rbox oci delete",
        step,
        |point| {
            victim.create()?;
            victim.bundle.runtime(["start", &victim.id]).success();
            follow(&delete, None, point)
        },
        || victim.recover(),
    )
}

fn exec_is_killed(step: usize) -> Result<()> {
    let victim = Victim::new("exec")?;
    let exec = victim.bundle.command(["exec", &victim.id, "true"]);
    each_point(
        "rbox oci exec",
        step,
        |point| {
            victim.create()?;
            victim.bundle.runtime(["start", &victim.id]).success();
            follow(&exec, None, point)
        },
        || victim.recover(),
    )
}

/// A container that has accidents.
struct Victim {
    bundle: Bundle,
    id: String,
}

impl Victim {
    fn new(verb: &str) -> Result<Self> {
        let bundle = Bundle::new("sleep 1000")?;
        // It is also the name of a cgroup, which all of the machine sees, and a test beside this one has a victim as well.
        let unique = bundle.path().file_name().unwrap_or_default().display().to_string();
        Ok(Self { id: format!("rbox-victim-{verb}-{unique}"), bundle })
    }

    /// Gives the first process.
    fn create(&self) -> Result<u32> {
        self.bundle.create(&self.id, &[])?.exits(0);
        Ok(self.bundle.state(&self.id)?["pid"].to_string().parse()?)
    }

    /// What an engine does after an accident: all of it works. Gives what is left.
    fn recover(&self) -> Result<String> {
        self.bundle.runtime(["list"]).success();
        self.bundle.runtime(["delete", "--force", &self.id]).success();
        assert_eq!(self.bundle.runtime(["list", "-q"]).success(), "");
        let left: Vec<PathBuf> = [below(&self.bundle.path().join("state")), self.cgroups()].concat();
        self.create()?;
        self.bundle.runtime(["start", &self.id]).success();
        self.bundle.runtime(["exec", &self.id, "true"]).success();
        self.bundle.runtime(["delete", "--force", &self.id]).success();
        Ok(format!("{left:?}"))
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let all = below(Path::new("/sys/fs/cgroup")).into_iter();
        all.filter(|path| path.file_name().is_some_and(|name| name == self.id.as_str())).collect()
    }
}

/// All that is below a directory, those that vanish meanwhile or not.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
    }
    found.sort();
    found
}
