//! Unprivileged users, for when we are root or can be.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rbox_sys::flock;
use rbox_tests::command::read;

use crate::admin::Admin;

/// Says in /etc/passwd whose the user is: one that is there already is removed only if it says so.
const COMMENT: &str = "made by cargo xtask";

/// What ends at the death of its parent may take a moment, seconds on a machine with more to do than processors.
const ENDS_BY_ITSELF: Duration = Duration::from_secs(5);

/// A user of this machine.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Users who are removed, with all their processes, when this is dropped.
pub(crate) struct Users {
    admin: Admin,
    users: Vec<User>,
    _lock: File,
}

impl Users {
    /// Waits until no other xtask has such users.
    pub(crate) fn lock(admin: Admin) -> Result<Self> {
        // A directory can be locked as well as a file, and this one is there for everybody to open.
        let lock = File::open("/etc/skel").or_else(|_| File::open("/etc")).context("cannot open /etc")?;
        if !flock::try_lock(&lock, flock::Mode::Exclusive)? {
            eprintln!("Waiting for another cargo xtask to end");
            flock::lock(&lock, flock::Mode::Exclusive)?;
        }
        Ok(Self { admin, users: Vec::new(), _lock: lock })
    }

    /// Makes a user with subordinate ids, as useradd does on Debian and Ubuntu.
    pub(crate) fn add(&mut self, name: &str, home: &Path) -> Result<User> {
        let user = add(self.admin, name, home, &[])?;
        self.users.push(user.clone());
        Ok(user)
    }

    /// Makes a user without subordinate ids.
    pub(crate) fn add_without_ranges(&mut self, name: &str, home: &Path) -> Result<User> {
        // System users get none.
        let user = add(self.admin, name, home, &["--system"])?;
        self.users.push(user.clone());
        Ok(user)
    }

    /// Ends all processes of those users, and of their subordinate ids; gives the command lines of those found.
    pub(crate) fn end_processes(&self, users: &[&User]) -> Vec<String> {
        let mut found = Vec::new();
        let started = Instant::now();
        while started.elapsed() < ENDS_BY_ITSELF * 2 {
            let running = processes(users);
            if running.is_empty() {
                break;
            }
            if started.elapsed() > ENDS_BY_ITSELF {
                for (pid, line) in &running {
                    found.push(line.clone());
                    if let Some(mut kill) = self.admin.command("kill") {
                        let _ = kill.args(["-KILL", pid]).stderr(Stdio::null()).status();
                    }
                }
            }
            sleep(Duration::from_millis(50));
        }
        found.sort();
        found.dedup();
        found
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.end_processes(&self.users.iter().collect::<Vec<_>>());
        for user in &self.users {
            remove(self.admin, &user.name);
        }
    }
}

fn processes(users: &[&User]) -> Vec<(String, String)> {
    let theirs =
        |uid: u32| users.iter().any(|user| user.uid == uid || ranges(&user.name).any(|range| range.contains(&uid)));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
        let zombie = status.contains("State:\tZ");
        if uid.is_some_and(theirs) && !zombie {
            let line = fs::read_to_string(path.join("cmdline")).unwrap_or_default().replace('\0', " ");
            found.push((entry.file_name().to_string_lossy().into_owned(), line.trim_end().to_owned()));
        }
    }
    found
}

/// The user of this name; made if it is not there, with subordinate ids, and kept.
pub(crate) fn keep(admin: Admin, name: &str, home: &Path) -> Result<User> {
    match find(name)? {
        Some((user, _)) => Ok(user),
        None => {
            eprintln!("Making the unprivileged user {name}");
            add(admin, name, home, &["--create-home", "--shell", "/bin/sh"])
        }
    }
}

fn add(admin: Admin, name: &str, home: &Path, options: &[&str]) -> Result<User> {
    match find(name)? {
        Some((_, comment)) if comment == COMMENT => remove(admin, name),
        Some(_) => bail!("there is a user {name} already, who was not made by us; remove or rename it"),
        None => {}
    }
    let mut useradd = admin.command("useradd").context("only root can make users")?;
    useradd.args(["--comment", COMMENT, "--home-dir"]).arg(home).args(options);
    // A note about the range of ids of system users, if anything.
    read(useradd.arg(name))?;
    let (user, _) = find(name)?.with_context(|| format!("useradd made no user {name}"))?;
    if !options.contains(&"--system") && ranges(name).next().is_none() {
        bail!("useradd gave {name} no subordinate ids; is the package uidmap installed?");
    }
    Ok(user)
}

fn remove(admin: Admin, name: &str) {
    if let Some(mut userdel) = admin.command("userdel")
        && let Err(error) = read(userdel.arg(name))
    {
        eprintln!("warning: the user {name} is still there: {error:#}");
    }
}

/// A user and the comment in /etc/passwd.
fn find(name: &str) -> Result<Option<(User, String)>> {
    let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let Some(line) = passwd.lines().find(|line| line.split(':').next() == Some(name)) else { return Ok(None) };
    let fields: Vec<&str> = line.split(':').collect();
    let [_, _, uid, gid, comment, ..] = fields[..] else { bail!("a line of /etc/passwd is too short: {line}") };
    Ok(Some((User { name: name.to_owned(), uid: uid.parse()?, gid: gid.parse()? }, comment.to_owned())))
}

/// The ranges that /etc/subuid gives a user.
fn ranges(name: &str) -> impl Iterator<Item = std::ops::Range<u32>> {
    let text = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [who, start, count] = fields[..]
            && who == name
            && let (Ok(start), Ok(count)) = (start.parse::<u32>(), count.parse::<u32>())
        {
            found.push(start..start.saturating_add(count));
        }
    }
    found.into_iter()
}

/// `command`'s words after these, which make it run as `user` with exactly this environment.
pub(crate) fn become_user(user: &User, environment: &[(String, String)], command: &mut Command) {
    command.args(["setpriv", "--reuid", &user.uid.to_string(), "--regid", &user.gid.to_string(), "--clear-groups"]);
    command.args(["--", "env", "-i"]).args(environment.iter().map(|(name, value)| format!("{name}={value}")));
}
