//! Where a container's cgroup goes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::LinuxResources;
use rbox_sys::cgroup;

use super::error::CONTROLLERS;
use super::limits::{self, IfMissing};
use super::mount::{Mount, is_bound_to_v1};
use super::{Error, Missing, Record, display, tree};

/// Where a container's cgroup will be; nothing is made yet.
#[derive(Debug)]
pub struct Place {
    pub(super) mount: Mount,
    /// Below the mount, without a leading `/`.
    pub(super) path: String,
    /// How many of the path's last components are not there yet.
    missing: usize,
}

impl Place {
    /// See [`Cgroup::place`](super::Cgroup::place).
    pub(super) fn choose(
        cgroups_path: Option<&str>,
        id: &str,
        resources: Option<&LinuxResources>,
        privileged: bool,
    ) -> Result<Option<Self>, Error> {
        let cgroups_path = cgroups_path.filter(|path| !path.is_empty());
        let needed = cgroups_path.is_some() || privileged || limits_asked(resources)?;
        // What is wrong with the spec is wrong on every host.
        let _ = candidates(cgroups_path, id, Some(""))?;
        let mount = match Mount::find() {
            Err(_) if !needed => return Ok(None),
            mount => mount?,
        };
        let mut refused = None;
        for path in candidates(cgroups_path, id, mount.place.as_deref())? {
            match may_make(&mount, &path) {
                Ok(missing) => return Ok(Some(Self { mount, path, missing })),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) if needed => Err(error),
            _ => Ok(None),
        }
    }

    /// What is to be written down before [`create`](Self::create), so that [`Cgroup::clear`](super::Cgroup::clear) finds
    /// what that has made if it is killed.
    pub fn record(&self) -> Record {
        Record { path: self.path.clone(), made: self.missing, inode: None }
    }

    /// The cgroup's path below the mount, as /proc/PID/cgroup will show it there: `/name`.
    pub fn path(&self) -> String {
        display(&self.path)
    }
}

/// Whether something is to be limited for which there must be a cgroup.
fn limits_asked(resources: Option<&LinuxResources>) -> Result<bool, Error> {
    resources.map_or(Ok(false), |resources| Ok(!needs(resources)?.is_empty()))
}

/// The fields that ask for something for which there must be a cgroup, each with the controller that it takes; none for what
/// every cgroup has.
pub(crate) fn needs(resources: &LinuxResources) -> Result<Vec<(String, Option<String>)>, Error> {
    let writes = limits::plan(resources, &limits::of_new)?.into_iter();
    let needed = writes.filter(|write| write.missing != IfMissing::Skip);
    Ok(needed.map(|write| (write.field.clone(), write.controller().map(str::to_owned))).collect())
}

/// The controllers that a cgroup, given without a leading `/`, has not to give, of those that limits take.
pub(crate) fn missing_in(path: &str) -> Result<Vec<String>, Error> {
    let mount = Mount::find()?;
    let there = cgroup::open(mount.dir.as_fd(), path).and_then(|dir| tree::read(dir.as_fd(), "cgroup.controllers"));
    let there = there.map_err(|source| Error::Failed { operation: "look at", path: display(path), source })?;
    let has = |name: &&str| there.split_whitespace().any(|one| one == *name);
    Ok(CONTROLLERS.split(' ').filter(|name| !has(name)).map(str::to_owned).collect())
}

/// Fails where this host has cgroup v1, for what is needed or at all.
pub(crate) fn check_host(needed: &[(String, Option<String>)]) -> Result<(), Error> {
    for (field, controller) in needed {
        if let Some(controller) = controller.clone().filter(|name| is_bound_to_v1(name)) {
            return Err(Error::NoController { field: field.clone(), controller, why: Missing::BoundToV1 });
        }
    }
    Mount::find()?;
    match ["memory", "cpu", "pids"].iter().find(|name| needed.is_empty() && is_bound_to_v1(name)) {
        Some(_) => Err(Error::NoMount("this host has its controllers in cgroup v1".into())),
        None => Ok(()),
    }
}

/// The paths to try, in this order.
///
/// Without one in the spec: `/ID`, and where that may not be, beside the caller's own cgroup. Within his own it would
/// be of little use: that one has processes (the caller), and so cannot give controllers to those below. A relative
/// path begins at the same place.
fn candidates(cgroups_path: Option<&str>, id: &str, own: Option<&str>) -> Result<Vec<String>, Error> {
    let beside = own.map(|own| own.rsplit_once('/').map_or("", |(parent, _)| parent));
    let join = |parent: &str, path: &str| [parent, path].join("/").trim_start_matches('/').to_owned();
    let Some(path) = cgroups_path else {
        let id = checked("id", id)?;
        let beside = beside.map(|beside| join(beside, &id)).filter(|beside| *beside != id);
        return Ok([id].into_iter().chain(beside).collect());
    };
    const FIELD: &str = "linux.cgroupsPath";
    if !path.starts_with('/') && path.matches(':').count() == 2 {
        return Err(Error::refused(
            FIELD,
            format!("'{path}' asks for a scope of systemd's, which --systemd-cgroup has it make"),
        ));
    }
    let below = checked(FIELD, path)?;
    if path.starts_with('/') {
        return Ok(vec![below]);
    }
    match beside {
        Some(beside) => Ok(vec![join(beside, &below)]),
        None => Err(Error::refused(FIELD, "it is relative, and the caller's own cgroup is not in the cgroup2 mount")),
    }
}

/// The path without needless slashes, every component a name.
fn checked(field: &str, path: &str) -> Result<String, Error> {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let refuse = |why: String| Err(Error::refused(field, why));
    if names.is_empty() {
        return refuse("it names no cgroup of its own".into());
    }
    for name in &names {
        if matches!(*name, "." | "..") || name.contains(char::is_control) || name.len() > 255 {
            return refuse(format!("'{}' is no name of a cgroup", name.escape_debug()));
        }
    }
    Ok(names.join("/"))
}

/// Whether this process may make a cgroup at `path`, and have a child started in it; gives how many of the path's last
/// components it would make.
fn may_make(mount: &Mount, path: &str) -> Result<usize, Error> {
    let refused = |what: String| move |source| Error::NotPermitted { path: display(path), what, source };
    let (dir, above) = deepest(mount, path).map_err(refused("cannot look at what is there".into()))?;
    let may_write = |dir: &OwnedFd, above: &str, name: &str| {
        let what = match name {
            "." => format!("writing to the cgroup {} is not permitted", display(above)),
            _ => format!("writing to {name} of the cgroup {} is not permitted", display(above)),
        };
        cgroup::may_write(dir.as_fd(), name).map_err(refused(what))
    };
    may_write(&dir, &above, if above == path { "cgroup.procs" } else { "." })?;
    // Who moves a process must be allowed to for the nearest cgroup above both places (cgroups(7), "Cgroups
    // delegation: delegation containment").
    if let Some(own) = &mount.place {
        let common = common_ancestor(own, path);
        let dir = cgroup::open(mount.dir.as_fd(), &common).map_err(refused("cannot look at what is there".into()))?;
        may_write(&dir, &common, "cgroup.procs")?;
    }
    let depth = |path: &str| path.split('/').filter(|name| !name.is_empty()).count();
    Ok(depth(path) - depth(&above))
}

/// The deepest cgroup on the way to `path` that is there, and its path.
fn deepest(mount: &Mount, path: &str) -> io::Result<(OwnedFd, String)> {
    let mut there = path;
    loop {
        match cgroup::open(mount.dir.as_fd(), there) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !there.is_empty() => {
                there = there.rsplit_once('/').map_or("", |(parent, _)| parent);
            }
            dir => return Ok((dir?, there.to_owned())),
        }
    }
}

fn common_ancestor(one: &str, other: &str) -> String {
    let shared = one.split('/').zip(other.split('/')).take_while(|(one, other)| one == other && !one.is_empty());
    shared.map(|(name, _)| name).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_says_where_or_the_caller_does() {
        let own = Some("user.slice/app.slice/run.scope");
        for (cgroups_path, own, expected) in [
            (None, own, &["c1", "user.slice/app.slice/c1"][..]),
            (None, Some(""), &["c1"]),
            (None, Some("init.scope"), &["c1"]),
            (None, None, &["c1"]),
            (Some("/a//b/c1/"), own, &["a/b/c1"]),
            (Some("/a:b:c"), own, &["a:b:c"]),
            (Some("a/b"), own, &["user.slice/app.slice/a/b"]),
            (Some("a"), Some(""), &["a"]),
        ] {
            assert_eq!(candidates(cgroups_path, "c1", own).expect("a place"), expected, "{cgroups_path:?}, {own:?}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_mount() {
        for path in ["..", "/../x", "/a/../../x", "a/./b", "/", "a\nb", "user.slice:rbox:c1"] {
            let error = candidates(Some(path), "c1", Some("x")).expect_err(path).to_string();
            assert!(error.starts_with("config: linux.cgroupsPath: "), "{error}");
        }
        assert!(candidates(None, "..", Some("x")).is_err());
        assert!(candidates(Some("a"), "c1", None).is_err());
    }

    #[test]
    fn what_two_paths_share() {
        assert_eq!(common_ancestor("a/b/c", "a/b/d/e"), "a/b");
        assert_eq!(common_ancestor("ab", "a"), "");
        assert_eq!(common_ancestor("", "a"), "");
    }
}
