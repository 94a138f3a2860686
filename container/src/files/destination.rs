//! What a copy copies, and where it goes: Docker's rules for the two paths of `cp`, the same on either side.
//!
//! | the source is | and the destination | then |
//! | --- | --- | --- |
//! | a file | is not there | it is made, unless it is written as a directory (`/` at its end) |
//! | | is a file | it is replaced |
//! | | is a directory | the file comes into it |
//! | a directory | is not there | it is made, with what the source has in it |
//! | | is a file | that is refused |
//! | | is a directory | the source comes into it; what it has in it, where it is written with `/.` at its end |
//!
//! Links are followed to the destination, and to the source where that is asked for or its path says that it is a directory.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rbox_sys::at::{self, Kind, Status};
use rbox_sys::{Errno, dir, in_root};
use serde::{Deserialize, Serialize};

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    /// Whether it is one.
    pub(super) directory: bool,
    /// What it has in it, and not itself.
    pub(super) contents: bool,
    /// As its path has it; empty where that ends otherwise.
    pub(super) name: Vec<u8>,
}

/// Where a copy goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// The directory.
    pub(super) directory: PathBuf,
    /// The name that the source gets there; empty for what it has in it.
    pub(super) called: Vec<u8>,
}

/// Why there is none, but for the path that it is said of.
pub(super) type Refused = String;

/// Directories by their paths: of a container or of the host.
pub(super) trait Directories {
    /// A descriptor of the place (O_PATH). Links are followed.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd>;
}

/// Those beneath a root that is not to be left, whatever links say. Relative paths begin there.
pub(super) struct InRoot(pub(super) OwnedFd);

impl Directories for InRoot {
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        at::open_dir_path(in_root::open_path(self.0.as_fd(), path)?.as_fd(), b".")
    }
}

/// Those of this process.
pub(super) struct OnHost;

impl Directories for OnHost {
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        dir::open(if path.as_os_str().is_empty() { Path::new(".") } else { path })
    }
}

/// A name in a directory.
pub(super) struct Located {
    pub(super) parent: PathBuf,
    pub(super) name: Vec<u8>,
    /// None where there is no such name.
    status: Option<Status>,
}

/// As openat2(2) counts them.
const LINKS: usize = 40;

/// Finds what a path leads to. With `follow` it is no link, unless there are too many.
pub(super) fn locate(directories: &impl Directories, path: &Path, follow: bool) -> io::Result<Located> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Some(name) = path.file_name() else {
            let status = at::status(directories.directory(&path)?.as_fd(), b".")?;
            return Ok(Located { parent: path, name: b".".into(), status: Some(status) });
        };
        let (name, parent) = (name.as_bytes().to_vec(), path.parent().unwrap_or(Path::new("")).to_owned());
        let dir = directories.directory(&parent)?;
        let status = match at::status(dir.as_fd(), &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            status => Some(status?),
        };
        if !follow || status.is_none_or(|status| status.kind != Kind::Symlink) {
            return Ok(Located { parent, name, status });
        }
        let target = at::read_link(dir.as_fd(), &name)?;
        path = parent.join(std::ffi::OsString::from_vec(target));
    }
    Err(io::Error::from_raw_os_error(Errno::LOOP.raw_os_error()))
}

/// Finds the source of a copy.
pub(super) fn source(directories: &impl Directories, path: &Path, follow: bool) -> Result<(Located, Source), Refused> {
    let end = End::of(path);
    let located = locate(directories, path, follow || end != End::Name).map_err(|error| reason(&error))?;
    let Some(status) = located.status else { return Err("no such file or directory".into()) };
    let directory = status.kind == Kind::Directory;
    if end != End::Name && !directory {
        return Err("not a directory".into());
    }
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default().to_vec();
    Ok((located, Source { directory, contents: end == End::Contents || name.is_empty(), name }))
}

/// Finds where a copy goes.
pub(super) fn destination(
    directories: &impl Directories,
    path: &Path,
    source: &Source,
) -> Result<Destination, Refused> {
    match directories.directory(path) {
        Ok(_) => {
            let called = if source.directory && source.contents { Vec::new() } else { source.name.clone() };
            return Ok(Destination { directory: path.to_owned(), called });
        }
        Err(error) if is_no_directory(&error) => {}
        Err(error) => return Err(reason(&error)),
    }
    let located = locate(directories, path, true).map_err(|error| reason(&error))?;
    let as_directory = End::of(path) != End::Name;
    match (located.status, source.directory) {
        (Some(_), _) if as_directory => return Err("not a directory".into()),
        (Some(_), true) => return Err("cannot copy a directory to a file".into()),
        (None, false) if as_directory => return Err("no such directory".into()),
        _ => {}
    }
    Ok(Destination { directory: located.parent, called: located.name })
}

/// What the end of a path says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing.
    Name,
    /// `/`, `..`: that it is a directory.
    Directory,
    /// `/.`: what the directory has in it.
    Contents,
}

impl End {
    fn of(path: &Path) -> Self {
        let bytes = path.as_os_str().as_bytes();
        match bytes.rsplit(|byte| *byte == b'/').next() {
            Some(b".") => Self::Contents,
            Some(b"" | b"..") => Self::Directory,
            _ => Self::Name,
        }
    }
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The system's words.
pub(super) fn reason(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::NotADirectory => "not a directory".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, InRoot) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("dir/inner")).expect("made");
        fs::write(at("file"), "").expect("written");
        symlink("/dir", at("to-dir")).expect("linked");
        symlink("/dir/new", at("dangling")).expect("linked");
        symlink("../../../file", at("to-file")).expect("linked");
        symlink("round", at("round")).expect("linked");
        let root = File::open(dir.path()).expect("opened");
        (dir, InRoot(root.into()))
    }

    #[test]
    fn sources() {
        let (_dir, root) = tree();
        let of = |path: &str, follow| {
            let (located, source) = source(&root, Path::new(path), follow)?;
            Ok::<_, Refused>((located.name, source.directory, source.contents, source.name))
        };
        let text = |text: &str| text.as_bytes().to_vec();
        assert_eq!(of("file", false), Ok((text("file"), false, false, text("file"))));
        assert_eq!(of("/dir/inner/../", false), Ok((text("."), true, true, text(""))));
        assert_eq!(of("dir/", false), Ok((text("dir"), true, false, text("dir"))));
        assert_eq!(of("to-dir", false), Ok((text("to-dir"), false, false, text("to-dir"))));
        assert_eq!(of("to-dir", true), Ok((text("dir"), true, false, text("to-dir"))));
        assert_eq!(of("to-dir/.", false), Ok((text("dir"), true, true, text("to-dir"))));
        assert_eq!(of("/", false), Ok((text("."), true, true, text(""))));
        assert_eq!(of("file/", false), Err("not a directory".into()));
        assert_eq!(of("missing", false), Err("no such file or directory".into()));
        assert!(of("round", true).is_err());
    }

    #[test]
    fn destinations() {
        let (_dir, root) = tree();
        let of = |path: &str, source: &Source| {
            let Destination { directory, called } = destination(&root, Path::new(path), source)?;
            Ok::<_, Refused>((directory.display().to_string(), String::from_utf8_lossy(&called).into_owned()))
        };
        let goes = |directory: &str, called: &str| Ok((directory.to_owned(), called.to_owned()));
        let file = Source { directory: false, contents: false, name: b"x".into() };
        let directory = Source { directory: true, contents: false, name: b"x".into() };
        let contents = Source { contents: true, ..directory.clone() };
        assert_eq!(of("/new", &file), goes("/", "new"));
        assert_eq!(of("/new/", &file), Err("no such directory".into()));
        assert_eq!(of("/new/", &directory), goes("/", "new"));
        assert_eq!(of("/file", &file), goes("/", "file"));
        assert_eq!(of("/file/", &file), Err("not a directory".into()));
        assert_eq!(of("/file", &directory), Err("cannot copy a directory to a file".into()));
        for to in ["/dir", "/dir/", "to-dir", "dir/inner/.."] {
            assert_eq!(of(to, &file), goes(to, "x"));
            assert_eq!(of(to, &directory), goes(to, "x"));
            assert_eq!(of(to, &contents), goes(to, ""));
        }
        assert_eq!(of("new", &contents), goes("", "new"));
        assert_eq!(of("to-file", &file), goes("../../..", "file"));
        assert_eq!(of("dangling", &file), goes("/dir", "new"));
        assert_eq!(of("/missing/new", &file), Err("no such file or directory".into()));
        assert!(of("round", &file).is_err());
    }
}
