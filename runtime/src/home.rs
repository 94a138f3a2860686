//! Where the processes of a container are counted and limited: which cgroup, and how its first process comes there.
//!
//! # Theory of operation
//!
//! ```text
//! Home::prepare   before there is a process     a cgroup below one that is the caller's to divide, with its limits;
//!                                               or a connection to systemd
//! Home::as_fd     the first process is made     for CLONE_INTO_CGROUP
//! Home::ask       at once                       systemd begins to make a scope around it
//! Home::join      before it does anything       the scope has it, and the limits that only the cgroup's files take
//! Record          later, by whoever             one more process, other limits, the end
//! ```
//!
//! An ordinary user may not divide the cgroup that he is in: it has processes (his shell), and so gives no controllers to
//! others below it; and moving a process from one of his sessions to another is not for him. Both can be done by a systemd
//! of his own, with a scope for each container (systemd.scope(5)), which is then his to change. Where somebody has delegated
//! a cgroup to him and left it without processes, no systemd is asked.
//!
//! Without a limit nobody is asked, and no cgroup is no failure.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use rbox_sys::flock::{self, Mode};
use rbox_sys::ids;
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Cgroup, Delegated, Place};
use crate::systemd::{self, Address, Asked, Manager, Scope};

/// What is wanted of a container's cgroup.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The container's id.
    pub id: &'a str,
    /// A slice of systemd's, or a path below the mount of cgroups.
    pub parent: Option<&'a str>,
    /// Who makes it; none: whoever can.
    pub maker: Option<Maker>,
    /// What is limited.
    pub resources: &'a LinuxResources,
    /// Memory and swap together are limited only as far as that can be had.
    pub swap_is_implied: bool,
    /// What is limited besides, where there is a cgroup anyway or one costs nothing, and nothing is said of it.
    pub usual: &'a LinuxResources,
    /// Where systemd is asked, of a process that has not its caller's variables.
    pub bus: Option<&'a Address>,
    /// What cannot be had is told, and no failure.
    pub best_effort: bool,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// systemd, as scopes.
    Systemd,
    /// This program, as directories.
    Directly,
}

/// Why a container has not the cgroup that it should have.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Its scope.
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
    /// There is a cgroup for it, which the caller is in himself.
    #[error(
        "the cgroup {path}, which is delegated to you, holds your own processes, and so gives no controllers to others \
         below it; and {systemd}"
    )]
    HoldsCaller {
        /// That cgroup.
        path: String,
        /// Why none can be had elsewhere.
        systemd: systemd::Error,
    },
    /// A parent that the maker cannot use.
    #[error("{parent:?} is {why}")]
    Parent {
        /// What was given.
        parent: String,
        /// Why it is not to be used.
        why: &'static str,
    },
}

/// What gets a user a systemd of his own.
const LINGER: &str = "a systemd of your own can be asked for limits; it is there in a login session, and always after: \
                      loginctl enable-linger (then run it in a new session, or by: systemd-run --user --scope COMMAND)";

impl Error {
    /// The field of the spec whose limit cannot be had, where it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Cgroup(error) => error.field(),
            _ => None,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cgroup(error) => error.hint(),
            Self::Systemd(error) if error.is_no_systemd() => Some(LINGER.into()),
            Self::HoldsCaller { path, .. } => Some(format!(
                "move what is in {path} to a cgroup below it, as with: mkdir /sys/fs/cgroup{path}/own && echo 0 > \
                 /sys/fs/cgroup{path}/own/cgroup.procs; or {LINGER}"
            )),
            Self::Systemd(_) | Self::Parent { .. } => None,
        }
    }
}

/// Whether a container for which nothing is asked could get a cgroup all the same, by a glance.
pub fn may_be_free() -> bool {
    cgroup::may_be_delegated()
}

/// The fields that ask for something for which there must be a cgroup, each with the controller that it takes; none for what
/// every cgroup has.
pub fn needs(resources: &LinuxResources) -> Result<Vec<(String, Option<String>)>, Error> {
    Ok(cgroup::needs(resources)?)
}

/// A container's cgroup before the container is in it. Dropped, what was made of it is removed.
#[derive(Debug)]
pub struct Home {
    /// None once it is joined.
    kind: Option<Kind>,
    limits: Limits,
}

#[derive(Debug)]
enum Kind {
    Direct(Cgroup),
    Scope(Box<Manager>, Option<Asked>),
}

#[derive(Debug)]
struct Limits {
    id: String,
    resources: LinuxResources,
    usual: LinuxResources,
    swap_is_implied: bool,
    best_effort: bool,
}

/// A container's cgroup that has the container's first process.
#[derive(Debug)]
pub struct Joined {
    /// It.
    pub cgroup: Cgroup,
    /// To be written down.
    pub record: Record,
    /// Limits that cannot be had, where that is no failure.
    pub missed: Vec<Error>,
}

/// What later invocations must know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    cgroup: cgroup::Record,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
}

impl Home {
    /// Finds out where the container's cgroup is to be, and makes it where no process is needed for that.
    ///
    /// `None`: there is none, and need not be.
    pub fn prepare(wish: &Wish<'_>) -> Result<Option<Self>, Error> {
        let needed = cgroup::needs(wish.resources)?;
        let is_asked = !needed.is_empty() || wish.parent.is_some() || wish.maker.is_some();
        if is_asked {
            cgroup::check_host(&needed)?;
        }
        let maker = wish.maker.or_else(|| wish.parent.map(Maker::of_parent));
        match maker {
            Some(Maker::Systemd) => Self::scope(wish).map(Some),
            Some(Maker::Directly) => {
                let path = direct_path(wish)?;
                Self::direct(Some(&path), Limits::of(wish)).map(Some)
            }
            None => match Delegated::of_caller() {
                Delegated::Free(parent) => {
                    let path = format!("/{parent}/{}", name(wish.id));
                    match Self::direct(Some(&path), Limits::of(wish)) {
                        Err(_) if !is_asked => Ok(None),
                        Err(error) => Self::scope(wish).map(Some).map_err(|_| error),
                        home => home.map(Some),
                    }
                }
                _ if !is_asked => Ok(None),
                Delegated::HoldsCaller(path) => match Self::scope(wish) {
                    Err(Error::Systemd(systemd)) if systemd.is_no_systemd() => {
                        Err(Error::HoldsCaller { path, systemd })
                    }
                    home => home.map(Some),
                },
                Delegated::None => Self::scope(wish).map(Some),
            },
        }
    }

    fn direct(path: Option<&str>, limits: Limits) -> Result<Self, Error> {
        let place = Cgroup::place(path, &limits.id, Some(&limits.resources), true)?;
        let cgroup = place.map(Place::create).transpose()?;
        let cgroup = cgroup.ok_or_else(|| cgroup::Error::NoMount("none can be made".into()))?;
        // An empty one that nobody holds is taken for what a killed process has left.
        let _ = flock::try_lock(&cgroup, Mode::Shared);
        let home = Self { kind: Some(Kind::Direct(cgroup)), limits };
        // What is best effort is told when the process is there.
        if let Some(Kind::Direct(cgroup)) = home.kind.as_ref().filter(|_| !home.limits.best_effort) {
            home.limits.apply(cgroup)?;
        }
        Ok(home)
    }

    fn scope(wish: &Wish<'_>) -> Result<Self, Error> {
        let privileged = ids::is_root_of_host();
        if wish.parent.is_some_and(|parent| !parent.ends_with(".slice")) {
            let parent = wish.parent.unwrap_or_default().to_owned();
            return Err(Error::Parent { parent, why: "no slice of systemd's, as in user.slice or a-b.slice" });
        }
        let address = wish.bus.cloned().map_or_else(Address::of_caller, Ok)?;
        let path = format!("{}:rbox:{}", wish.parent.unwrap_or_default(), wish.id);
        let scope = Scope::at(address, Some(&path), wish.id, privileged)?;
        Ok(Self { kind: Some(Kind::Scope(Box::new(Manager::connect(&scope)?), None)), limits: Limits::of(wish) })
    }

    /// The cgroup, where the first process can be made in it.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            Some(Kind::Direct(cgroup)) => Some(cgroup.as_fd()),
            Some(Kind::Scope(..)) | None => None,
        }
    }

    /// Says which the first process is, by its number on the host.
    pub fn ask(&mut self, pid: u32) -> Result<(), Error> {
        if let Some(Kind::Scope(manager, asked)) = &mut self.kind {
            *asked = Some(manager.ask(pid, &self.limits.id, Some(&self.limits.all()))?);
        }
        Ok(())
    }

    /// Waits until that process is in the cgroup, and limited. It may not make its cgroup namespace earlier.
    pub fn join(mut self, pid: u32) -> Result<Joined, Error> {
        let scope = match &mut self.kind {
            Some(Kind::Scope(manager, asked)) => {
                match asked.take() {
                    Some(asked) => manager.joined(asked)?,
                    None => manager.start(pid, &self.limits.id, Some(&self.limits.all()))?,
                }
                let cgroup = Cgroup::of_process(pid)?;
                manager.check(&cgroup.record().path())?;
                Some((cgroup, manager.scope().clone()))
            }
            Some(Kind::Direct(_)) | None => None,
        };
        let (cgroup, scope) = match (scope, self.kind.take()) {
            (Some((cgroup, scope)), _) => (cgroup, Some(scope)),
            (None, Some(Kind::Direct(cgroup))) => (cgroup, None),
            (None, _) => return Err(cgroup::Error::NoMount("none was made".into()).into()),
        };
        // Those of a cgroup of our own are there already.
        let applied = scope.is_none() && !self.limits.best_effort;
        let missed = if applied { Vec::new() } else { self.limits.apply(&cgroup)? };
        let record = Record { cgroup: cgroup.record().clone(), scope };
        Ok(Joined { cgroup, record, missed })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(Kind::Direct(cgroup)) = self.kind.take() {
            // A scope goes with its last process.
            let _ = cgroup.kill().and_then(|()| cgroup.delete(PATIENCE));
        }
    }
}

/// How long processes that have been killed may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

impl Limits {
    fn of(wish: &Wish<'_>) -> Self {
        Self {
            id: wish.id.to_owned(),
            resources: wish.resources.clone(),
            usual: without_what_is_said(wish.usual, wish.resources),
            swap_is_implied: wish.swap_is_implied,
            best_effort: wish.best_effort,
        }
    }

    /// With what is usual.
    fn all(&self) -> LinuxResources {
        let mut all = self.resources.clone();
        if let Some(pids) = self.usual.pids() {
            all.set_pids(Some(*pids));
        }
        all
    }

    fn apply(&self, cgroup: &Cgroup) -> Result<Vec<Error>, Error> {
        let resources = match self.swap_is_implied && !cgroup.limits_swap() {
            true => without_swap(&self.resources),
            false => self.resources.clone(),
        };
        // Nobody misses it.
        let _ = cgroup.apply(&self.usual);
        if self.best_effort {
            return Ok(cgroup.apply_each(&resources)?.into_iter().map(Error::from).collect());
        }
        cgroup.apply(&resources)?;
        Ok(Vec::new())
    }
}

/// Of what is usual: the number of processes.
fn without_what_is_said(usual: &LinuxResources, said: &LinuxResources) -> LinuxResources {
    let mut usual = usual.clone();
    let in_file = said.unified().iter().flatten().any(|(file, _)| file == "pids.max");
    if said.pids().is_some() || in_file {
        usual.set_pids(None);
    }
    usual
}

fn without_swap(resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    if let Some(mut memory) = *resources.memory() {
        memory.set_swap(None);
        resources.set_memory(Some(memory));
    }
    resources
}

impl Maker {
    fn of_parent(parent: &str) -> Self {
        if parent.ends_with(".slice") && !parent.contains('/') { Self::Systemd } else { Self::Directly }
    }
}

/// What a container's cgroup is called, in the way of systemd's scopes.
fn name(id: &str) -> String {
    format!("rbox-{id}")
}

fn direct_path(wish: &Wish<'_>) -> Result<String, Error> {
    let name = name(wish.id);
    match wish.parent {
        Some(parent) if Maker::of_parent(parent) == Maker::Systemd => {
            Err(Error::Parent { parent: parent.to_owned(), why: "a slice of systemd's, and no path below the mount" })
        }
        Some(parent) => Ok(format!("/{}/{name}", parent.trim_matches('/'))),
        None => match Delegated::of_caller() {
            Delegated::Free(parent) => Ok(format!("/{parent}/{name}")),
            // Beside the caller's own.
            _ => Ok(name),
        },
    }
}

impl Record {
    /// The cgroup, if it is still there.
    pub fn open(&self) -> Result<Option<Cgroup>, Error> {
        Ok(Cgroup::open(&self.cgroup)?)
    }

    /// Its path below the mount: `/name`.
    pub fn path(&self) -> String {
        self.cgroup.path()
    }

    /// Moves one more process to where the container's process `first` is. `own` is its number in the caller's pid
    /// namespace, `host` that of the host.
    pub fn attach(&self, (own, host): (u32, u32), first: u32) -> Result<(), Error> {
        let Some(cgroup) = self.open()? else { return Ok(()) };
        match (cgroup.attach_beside(own, first), &self.scope) {
            (Err(cgroup::Error::Failed { source, .. }), Some(scope))
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                // From another session than the container's.
                Ok(Manager::connect(scope)?.attach(host)?)
            }
            (result, _) => Ok(result?),
        }
    }

    /// Changes limits; what `resources` does not name stays as it is.
    pub fn update(&self, resources: &LinuxResources, swap_is_implied: bool) -> Result<(), Error> {
        let Some(cgroup) = self.open()? else { return Ok(()) };
        let (resources, usual) = (resources.clone(), LinuxResources::default());
        let limits = Limits { id: String::new(), resources, usual, swap_is_implied, best_effort: false };
        limits.apply(&cgroup)?;
        if let Some(scope) = &self.scope {
            // Or systemd would set what it knows, when it sets all of it anew.
            Manager::connect(scope)?.set(&limits.resources)?;
        }
        Ok(())
    }

    /// Ends whatever is left in it, and removes it, where systemd does not.
    pub fn remove(&self) -> Result<(), Error> {
        cgroup::Cgroup::clear(&self.cgroup)?;
        let Some(cgroup) = self.open()? else { return Ok(()) };
        if cgroup.is_populated().unwrap_or(false) {
            cgroup.kill()?;
        }
        match &self.scope {
            Some(_) => Ok(()),
            None => Ok(cgroup.delete(PATIENCE)?),
        }
    }
}

/// What a caller can have limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// By whom.
    pub how: String,
    /// Controllers that are missing.
    pub missing: Vec<String>,
}

/// Finds out what this caller can have limited, as [`Home::prepare`] would.
pub fn available() -> Result<Available, Error> {
    cgroup::check_host(&[])?;
    let (how, path) = match Delegated::of_caller() {
        Delegated::Free(path) => (format!("can be had below /{path}, which is delegated to you"), path),
        _ => {
            let scope = Scope::at(Address::of_caller()?, None, "nobody", ids::is_root_of_host())?;
            let own = Manager::connect(&scope)?.own_cgroup()?;
            ("can be had from systemd".into(), own)
        }
    };
    Ok(Available { how, missing: cgroup::missing_in(&path)? })
}

/// Removes cgroups that killed processes have left where this caller has his made. Gives how many.
pub fn sweep() -> usize {
    match Delegated::of_caller() {
        Delegated::Free(parent) => cgroup::remove_left(&parent, &name("")),
        Delegated::HoldsCaller(_) | Delegated::None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish<'a>(resources: &'a LinuxResources, maker: Option<Maker>, parent: Option<&'a str>) -> Wish<'a> {
        Wish {
            id: "c1",
            parent,
            maker,
            resources,
            swap_is_implied: false,
            usual: resources,
            bus: None,
            best_effort: false,
        }
    }

    #[test]
    fn a_parent_says_whose_it_is() {
        for (parent, maker) in [
            ("a.slice", Maker::Systemd),
            ("a-b.slice", Maker::Systemd),
            ("/a.slice", Maker::Directly),
            ("a/b.slice", Maker::Directly),
            ("/a", Maker::Directly),
        ] {
            assert_eq!(Maker::of_parent(parent), maker, "{parent}");
        }
        let none = LinuxResources::default();
        let path = |parent| direct_path(&wish(&none, Some(Maker::Directly), parent)).map_err(|error| error.to_string());
        assert_eq!(path(Some("/a/b/")), Ok("/a/b/rbox-c1".into()));
        assert!(path(Some("a.slice")).expect_err("a slice").contains("no path below the mount"));
        let error = Home::scope(&wish(&none, Some(Maker::Systemd), Some("/a")));
        assert!(error.expect_err("a path").to_string().contains("no slice of systemd's"));
    }

    #[test]
    fn what_is_usual_gives_way_to_what_is_said() {
        let parse = |text| serde_json::from_str::<LinuxResources>(text).expect("resources");
        let usual = parse(r#"{"pids": {"limit": 2048}}"#);
        for (said, left) in [
            (r#"{}"#, Some(2048)),
            (r#"{"memory": {"limit": 5}}"#, Some(2048)),
            (r#"{"pids": {"limit": -1}}"#, None),
            (r#"{"unified": {"pids.max": "5"}}"#, None),
        ] {
            let limit = without_what_is_said(&usual, &parse(said)).pids().map(|pids| pids.limit());
            assert_eq!(limit, left, "{said}");
        }
    }

    #[test]
    fn swap_that_nobody_asked_for_can_be_left_out() {
        let resources: LinuxResources =
            serde_json::from_str(r#"{"memory": {"limit": 5, "swap": 10}}"#).expect("resources");
        let without = serde_json::to_value(without_swap(&resources)).expect("serialized");
        assert_eq!(without["memory"], serde_json::json!({"limit": 5}));
    }

    #[test]
    fn who_has_no_systemd_is_told_how_to_get_one() {
        let no_bus = || systemd::Error::NoBus("nothing is set".into());
        let hint = Error::from(no_bus()).hint().expect("a hint");
        assert!(hint.contains("loginctl enable-linger") && hint.contains("systemd-run --user"), "{hint}");
        let held = Error::HoldsCaller { path: "/a".into(), systemd: no_bus() };
        assert!(held.to_string().contains("the cgroup /a, which is delegated to you, holds your own processes"));
        assert!(held.hint().expect("a hint").contains("mkdir /sys/fs/cgroup/a/own"));
    }
}
