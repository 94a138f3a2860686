//! Volumes: bind mounts whose files are made ready before anybody sees them.
//!
//! A new volume takes over what the image has where it is mounted, once, at its first use: content, owners, modes and
//! extended attributes, and of the directory itself too. How far that has come is one byte in a file beside the content
//! ([`FirstUse`]), which is locked meanwhile: so two containers that begin at once do not fill the same volume, and what a
//! killed one has filled in part is cleared and filled anew, since nobody can have written to it yet.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, chown};
use std::path::{Path, PathBuf};

use rbox_sys::at::{self, Kind, Status};
use rbox_sys::flock::{self, Mode};
use rbox_sys::listing::Listing;
use rbox_sys::{Errno, beneath, in_root};
use rbox_types::FirstUse;
use serde::{Deserialize, Serialize};

use crate::copy_up::copy_up;
use crate::error::{During, Failure};
use crate::plan::User;

/// What is to be done with the files of a bind mount of the spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePlan {
    /// Which mount.
    pub destination: PathBuf,
    /// The file that says how far the volume's first use has come; none where it is no volume.
    pub first_use: Option<PathBuf>,
    /// Whether a new one takes over the content of what it is mounted on, and not its owner and mode alone.
    pub copies: bool,
    /// Whether all in it is to belong to the workload's user.
    pub owned_by_user: bool,
}

/// Directories that stand in each other, each of which is kept open: fewer than a process may have by default.
const DEEPEST: usize = 900;

impl VolumePlan {
    /// Opens the file of the first use, as the caller may.
    pub(crate) fn open_first_use(&self) -> Result<Option<File>, Failure> {
        let open = |path: &PathBuf| {
            File::options().read(true).write(true).open(path).during(|| format!("open {}", path.display()))
        };
        self.first_use.as_ref().map(open).transpose()
    }

    /// Does it with `mounted`, which nobody can see yet; `root` is the container's, and `user` the workload's.
    pub(crate) fn prepare(
        &self,
        root: BorrowedFd<'_>,
        mounted: BorrowedFd<'_>,
        first_use: Option<&File>,
        user: &User,
    ) -> Result<(), Failure> {
        let destination = self.destination.display();
        if let Some(first_use) = first_use {
            let covered = covered(root, &self.destination).during(|| format!("mount on {destination}"))?;
            self.first_use(covered, mounted, first_use, user)?;
        }
        if self.owned_by_user {
            let owned = match at::status_of(mounted).map(|status| status.kind) {
                Ok(Kind::Directory) => beneath::open_dir(mounted, b"").and_then(|dir| own(dir, user)),
                // It is open as a place only (O_PATH), and no link.
                _ => chown(format!("/proc/self/fd/{}", mounted.as_raw_fd()), Some(user.uid), Some(user.gid)),
            };
            return owned.map_err(|error| {
                let failure = Failure::new(format!("give what is mounted on {destination} to its user"), &error);
                match error.kind() {
                    ErrorKind::PermissionDenied => failure.hint(
                        "U changes only the owners of files that belong to you or to your subordinate ids, and of \
                             those to which the container has (--userns=auto and --uidmap leave some out)",
                    ),
                    _ => failure,
                }
            });
        }
        Ok(())
    }

    fn first_use(
        &self,
        covered: Option<OwnedFd>,
        mounted: BorrowedFd<'_>,
        file: &File,
        user: &User,
    ) -> Result<(), Failure> {
        let what = || format!("begin with the volume on {}", self.destination.display());
        if state(file).during(what)? == FirstUse::Over {
            return Ok(());
        }
        flock::lock(file, Mode::Exclusive).during(what)?;
        let before = state(file).during(what)?;
        if before == FirstUse::Begun {
            clear(mounted)
                .during(|| format!("clear the volume on {}, which is filled in part", self.destination.display()))?;
        }
        // Somebody else was faster, or it was filled by hand.
        if before == FirstUse::Over || before == FirstUse::Ahead && !is_empty(mounted).during(what)? {
            return write_state(file, FirstUse::Over).during(what);
        }
        match covered {
            Some(covered) if self.copies => {
                let copies = !is_empty(covered.as_fd()).during(what)?;
                if copies {
                    write_state(file, FirstUse::Begun).during(what)?;
                }
                copy_up(covered.as_fd(), mounted, &self.destination)?;
                write_state(file, FirstUse::Over).during(what)?;
                if copies {
                    // Or a power cut could bring back a word that has what a workload wrote since then cleared.
                    file.sync_data().during(what)?;
                }
                return Ok(());
            }
            Some(covered) => {
                let Status { uid, gid, mode, .. } = at::status_of(covered.as_fd()).during(what)?;
                own_root(mounted, uid, gid).and_then(|()| at::set_mode_of(mounted, mode)).during(what)?;
            }
            // There is nothing to be like. Podman's rule, without which only root could write to it.
            None => own_root(mounted, user.uid, user.gid).during(what)?,
        }
        write_state(file, FirstUse::Over).during(what)
    }
}

/// The directory in the container that is going to be covered, if there is one yet.
fn covered(root: BorrowedFd<'_>, destination: &Path) -> io::Result<Option<OwnedFd>> {
    let covered = match in_root::open_path(root, destination) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        covered => covered?,
    };
    let (status, of_root) = (at::status_of(covered.as_fd())?, at::status_of(root)?);
    if status.kind != Kind::Directory {
        return Err(io::Error::new(ErrorKind::NotADirectory, "a volume is a directory, and what is there is none"));
    }
    if (status.device, status.inode) == (of_root.device, of_root.inode) {
        // A link of the image's own making; it would take over the whole image, and cover it.
        return Err(io::Error::new(ErrorKind::InvalidInput, "it leads to the container's root"));
    }
    Ok(Some(covered))
}

fn state(file: &File) -> io::Result<FirstUse> {
    let mut byte = [0];
    let length = file.read_at(&mut byte, 0)?;
    Ok(FirstUse::of(byte[..length].first().copied()))
}

fn write_state(file: &File, state: FirstUse) -> io::Result<()> {
    file.write_all_at(&[state.byte()], 0)
}

fn is_empty(dir: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(Listing::new(beneath::open_dir(dir, b"")?)?.next().transpose()?.is_none())
}

fn own_root(dir: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    let dir = beneath::open_dir(dir, b"")?;
    let status = at::status_of(dir.as_fd())?;
    if (status.uid, status.gid) == (uid, gid) { Ok(()) } else { at::set_owner_of(dir.as_fd(), uid, gid) }
}

/// Gives all in `dir`, and itself, to the user. Nothing that is mounted below is entered, and no link followed.
fn own(dir: OwnedFd, user: &User) -> io::Result<()> {
    let change = |dir: BorrowedFd<'_>, name: &[u8], status: &Status| {
        // To set what is set already would clear set-id bits.
        if (status.uid, status.gid) == (user.uid, user.gid) {
            return Ok(());
        }
        at::set_owner(dir, name, user.uid, user.gid)
    };
    own_root(dir.as_fd(), user.uid, user.gid)?;
    let mut levels = vec![Listing::new(dir)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.next().transpose()? else {
            levels.pop();
            continue;
        };
        let (dir, name) = (level.dir()?, name.name.to_bytes());
        let status = at::status(dir, name)?;
        if status.kind != Kind::Directory {
            change(dir, name, &status)?;
            continue;
        }
        match beneath::open_dir_here(dir, name) {
            // Something is mounted there.
            Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => continue,
            Ok(below) if levels.len() < DEEPEST => {
                own_root(below.as_fd(), user.uid, user.gid)?;
                levels.push(Listing::new(below)?);
            }
            Ok(_) => return Err(too_deep()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes all that is in `dir`.
fn clear(dir: BorrowedFd<'_>) -> io::Result<()> {
    let mut levels = vec![(Vec::new(), Listing::new(beneath::open_dir(dir, b"")?)?)];
    while let Some((_, level)) = levels.last_mut() {
        let Some(name) = level.next().transpose()? else {
            let (name, _) = levels.pop().unwrap_or_else(|| unreachable!("there was a last one"));
            if let Some((_, parent)) = levels.last() {
                at::remove_dir(parent.dir()?, &name)?;
            }
            continue;
        };
        let (dir, name) = (level.dir()?, name.name.to_bytes());
        if at::status(dir, name)?.kind != Kind::Directory {
            at::unlink(dir, name)?;
            continue;
        }
        let below = beneath::open_dir_here(dir, name)?;
        if levels.len() >= DEEPEST {
            return Err(too_deep());
        }
        levels.push((name.to_vec(), Listing::new(below)?));
    }
    Ok(())
}

fn too_deep() -> io::Error {
    io::Error::other(format!("directories stand in each other more than {DEEPEST} deep"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        /// A root with something in /data, and an empty volume.
        fn new() -> Self {
            let place = Self(tempfile::tempdir().expect("a temporary directory"));
            fs::create_dir_all(place.at("root/data/sub")).expect("made");
            fs::create_dir(place.at("volume")).expect("made");
            fs::write(place.at("root/data/sub/file"), "of the image").expect("written");
            fs::set_permissions(place.at("root/data"), fs::Permissions::from_mode(0o1750)).expect("set");
            fs::write(place.at("first-use"), [FirstUse::Ahead.byte()]).expect("written");
            place
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn prepare(&self, destination: &str) -> Result<(), Failure> {
            let plan = VolumePlan {
                destination: destination.into(),
                first_use: Some(self.at("first-use")),
                copies: true,
                owned_by_user: false,
            };
            let first_use = plan.open_first_use()?;
            let (root, volume) = (File::open(self.at("root")), File::open(self.at("volume")));
            let (root, volume) = (root.expect("open"), volume.expect("open"));
            plan.prepare(root.as_fd(), volume.as_fd(), first_use.as_ref(), &User::default())
        }

        fn state(&self) -> FirstUse {
            FirstUse::of(fs::read(self.at("first-use")).expect("read").first().copied())
        }
    }

    #[test]
    fn filled_once() {
        let place = Place::new();
        place.prepare("/data").expect("filled");
        assert_eq!(fs::read_to_string(place.at("volume/sub/file")).expect("read"), "of the image");
        assert_eq!(fs::metadata(place.at("volume")).expect("stat").mode() & 0o7777, 0o1750);
        assert_eq!(place.state(), FirstUse::Over);
        fs::remove_dir_all(place.at("volume/sub")).expect("removed");
        place.prepare("/data").expect("nothing to do");
        assert!(!place.at("volume/sub").exists());
    }

    #[test]
    fn what_was_filled_in_part_is_filled_anew_and_what_is_there_stays() {
        let place = Place::new();
        fs::write(place.at("first-use"), [FirstUse::Begun.byte()]).expect("written");
        fs::create_dir_all(place.at("volume/half/way")).expect("made");
        fs::write(place.at("volume/half/file"), "of").expect("written");
        place.prepare("/data").expect("filled");
        assert!(place.at("volume/sub/file").exists() && !place.at("volume/half").exists());

        let place = Place::new();
        fs::write(place.at("volume/own"), "mine").expect("written");
        place.prepare("/data").expect("left alone");
        assert!(place.at("volume/own").exists() && !place.at("volume/sub").exists());
        assert_eq!(place.state(), FirstUse::Over);
    }

    #[test]
    fn no_link_leads_out() {
        let place = Place::new();
        fs::write(place.at("secret"), "of the host").expect("written");
        for (link, target) in [("up", "../.."), ("root", "/"), ("inside", "../../../data")] {
            symlink(target, place.at("root").join(link)).expect("linked");
        }
        for link in ["/up", "/root", "/data/.."] {
            let failure = place.prepare(link).expect_err("the root");
            assert!(failure.to_string().contains("root"), "{failure}");
            assert!(is_empty(File::open(place.at("volume")).expect("open").as_fd()).expect("read"));
        }
        place.prepare("/inside").expect("filled");
        assert!(place.at("volume/sub/file").exists());
    }
}
