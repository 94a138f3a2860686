//! What is mounted in a container, when it is known where on the host that is.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use rbox_rootless::attempt_with;
use rbox_runtime::VolumePlan;
use rbox_store::{Store, VolumeRecord};
use rbox_sys::at;
use rbox_sys::clone::Namespaces;
use rbox_types::{FirstUse, IdMaps, VolumeName};
use serde::{Deserialize, Serialize};

use super::{Volume, VolumeSource};
use crate::names::random_volume_name;
use crate::{Engine, Error, Unfit};

/// A file or directory of the host, or a volume, that is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// As it was asked for.
    pub(crate) asked: Volume,
    /// On the host.
    pub(crate) source: PathBuf,
    /// Of a volume.
    of_volume: Option<OfVolume>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OfVolume {
    name: VolumeName,
    first_use: PathBuf,
}

/// A volume in a container's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedVolume {
    /// Its name.
    pub name: VolumeName,
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    /// Nothing can be written through it.
    #[serde(default)]
    pub read_only: bool,
    /// Whether nobody has named it.
    #[serde(default)]
    pub anonymous: bool,
}

impl Placed {
    /// Finds what is asked for. A volume need not be there yet, and is not made here.
    ///
    /// Podman's rule for the rest: what is to be bound must be there. Docker makes a directory that then belongs to nobody
    /// expected.
    pub(crate) fn find(store: &Store, asked: Volume) -> Result<Self, Error> {
        let name = match &asked.source {
            VolumeSource::Host(path) => {
                let found: io::Result<PathBuf> = fs::canonicalize(path);
                let source = found.map_err(Error::io("find the volume", path.display()))?;
                if asked.options.owned_by_user && is_of_the_host(&source, home().as_deref()) {
                    return Err(Unfit::NotToGiveAway(source).into());
                }
                return Ok(Self { asked, source, of_volume: None });
            }
            VolumeSource::Named(name) => name.clone(),
            VolumeSource::Anonymous => random_volume_name()?,
        };
        let of_volume = OfVolume { first_use: store.volume_first_use(&name), name };
        Ok(Self { asked, source: store.volume_data(&of_volume.name), of_volume: Some(of_volume) })
    }

    /// Nowhere on a host that is looked at.
    #[cfg(test)]
    pub(crate) fn somewhere(asked: Volume) -> Self {
        Self { asked, source: "/somewhere".into(), of_volume: None }
    }

    /// The volume's name, where it is one.
    pub(crate) fn name(&self) -> Option<&VolumeName> {
        self.of_volume.as_ref().map(|volume| &volume.name)
    }

    /// What there is to do before it is mounted.
    pub(crate) fn plan(&self) -> Option<VolumePlan> {
        let owned_by_user = self.asked.options.owned_by_user;
        (owned_by_user || self.of_volume.is_some()).then(|| VolumePlan {
            destination: self.asked.destination.clone(),
            first_use: self.of_volume.as_ref().map(|volume| volume.first_use.clone()),
            copies: !self.asked.options.empty,
            owned_by_user,
        })
    }

    /// What a container's record has of it: of what is no volume, source, destination and whether it is read-only.
    pub(crate) fn record(&self) -> Result<MountedVolume, (String, String, bool)> {
        let Volume { destination, read_only, source: asked, .. } = &self.asked;
        match self.name() {
            Some(name) => Ok(MountedVolume {
                name: name.clone(),
                source: self.source.clone(),
                destination: destination.clone(),
                read_only: *read_only,
                anonymous: *asked == VolumeSource::Anonymous,
            }),
            None => Err((self.source.display().to_string(), destination.display().to_string(), *read_only)),
        }
    }
}

/// As the environment says. The user database is not asked: static glibc would load the host's NSS modules for that.
fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// Whether a directory is one that the host, or the whole of its user's account, cannot do without: to give all that is in
/// it to a container's user is never meant, and root could.
fn is_of_the_host(path: &Path, home: Option<&Path>) -> bool {
    const TOPMOST: [&str; 17] = [
        "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "opt", "proc", "root", "run", "sbin", "srv",
        "sys", "usr", "var",
    ];
    // With all that is below them.
    const ALL_BELOW: [&str; 10] = ["bin", "boot", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr"];
    let mut components = path.components().skip(1).map(Component::as_os_str);
    let below = |names: &[&str], first: &OsStr| names.iter().any(|name| first == *name);
    let system = match (components.next(), components.next()) {
        (None, _) => true,
        (Some(first), None) => below(&TOPMOST, first) || first == "tmp",
        (Some(first), Some(second)) => {
            below(&ALL_BELOW, first) && !(first == "usr" && second == "local")
                || first == "var" && components.next().is_none() && second != "tmp"
        }
    };
    system || home.is_some_and(|home| fs::canonicalize(home).is_ok_and(|home| home.starts_with(path)))
}

impl Engine {
    /// Makes the volumes that are not there yet, of a container whose record in the store says already that it has them;
    /// `ids`: it has only some of its user's.
    pub(crate) fn make_volumes(&self, placed: &[Placed], ids: Option<&IdMaps>) -> Result<(), Error> {
        for placed in placed {
            self.make_volume(placed)?;
            if let (Some(volume), Some(ids)) = (&placed.of_volume, ids) {
                self.give_unused(&placed.source, volume, ids)?;
            }
        }
        Ok(())
    }

    fn make_volume(&self, placed: &Placed) -> Result<(), Error> {
        let Some(name) = placed.name() else { return Ok(()) };
        if self.store.volume(name)?.is_none() {
            let record = VolumeRecord::new(Default::default(), placed.asked.source == VolumeSource::Anonymous);
            match self.store.create_volume(name, &record, self.identity.foreign_root()) {
                // Somebody else was faster.
                Err(rbox_store::Error::VolumeExists(_)) => {}
                made => drop(made?),
            }
        }
        Ok(())
    }

    /// Gives a volume that nobody has had yet to the root of a container with these ids: that one makes it ready, and could
    /// not if it were somebody's whom he has no id for.
    fn give_unused(&self, data: &Path, volume: &OfVolume, ids: &IdMaps) -> Result<(), Error> {
        let failed = || Error::io("change the owner of", data.display());
        let word = fs::read(&volume.first_use).map_err(failed())?;
        let there = fs::metadata(data).map_err(failed())?;
        let root = (ids.uid.root(), ids.gid.root());
        if FirstUse::of(word.first().copied()) == FirstUse::Over || (there.uid(), there.gid()) == root {
            return Ok(());
        }
        let maps = &self.identity.maps;
        let (Some(uid), Some(gid)) = (maps.uid.inside(root.0), maps.gid.inside(root.1)) else { return Ok(()) };
        let (open, give) = (|| fs::File::open(data), |dir: fs::File| at::set_owner_of(dir.as_fd(), uid, gid));
        attempt_with(&self.identity, Namespaces::NONE, open, give)?.map_err(failed())
    }

    /// Removes those of the volumes that a container has left which nobody has named and nobody uses. What cannot be
    /// removed is left to a pruning: the container is gone.
    pub(crate) fn remove_anonymous(&self, volumes: &[VolumeName]) {
        for name in volumes {
            if let Ok(Some(volume)) = self.store.volume(name)
                && volume.record.anonymous
            {
                let _ = self.store.remove_volume(name, &|path| self.remove_tree(path));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_host_is_given_to_nobody() {
        let is = |path: &str| is_of_the_host(Path::new(path), None);
        for path in
            ["/", "/etc", "/etc/ssl/private", "/usr", "/usr/share/x", "/home", "/var", "/var/lib", "/tmp", "/root"]
        {
            assert!(is(path), "{path}");
        }
        for path in ["/home/me", "/srv/data", "/var/lib/mine", "/tmp/x", "/usr/local/x", "/data", "/var/tmp"] {
            assert!(!is(path), "{path}");
        }
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let home = temporary.path().canonicalize().expect("there");
        assert!(is_of_the_host(&home, Some(&home)) && is_of_the_host(home.parent().expect("one"), Some(&home)));
        assert!(!is_of_the_host(&home.join("x"), Some(&home)));
    }

    #[test]
    fn only_what_needs_it_is_prepared() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path().join("store")).expect("a store");
        let placed = |text: &str| Placed::find(&store, text.parse().expect("valid")).expect("found");
        assert_eq!(placed("/:/x").plan(), None);
        let own = format!("{}:/x:U", directory.path().display());
        assert!(placed(&own).plan().is_some_and(|plan| plan.owned_by_user && plan.first_use.is_none()));
        let named = placed("data:/x:nocopy").plan().expect("a volume");
        assert!(!named.copies && named.first_use.is_some());
        let (one, other) = (placed("/x"), placed("/x"));
        assert_ne!(one.name(), other.name());
        assert!(one.record().is_ok_and(|record| record.anonymous));
    }
}
