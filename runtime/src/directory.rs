//! A root filesystem that is there already: a bundle's directory.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_sys::{dir, in_root, mount};
use serde::{Deserialize, Serialize};

use crate::error::{During, Failure};
use crate::propagation::Propagation;
use crate::root::{HandOver, MountRoot, Prepared};

/// Which directory, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryRoot {
    /// An absolute path.
    pub path: PathBuf,
    /// The user whose home directory is looked up, unless HOME is set already.
    pub home_of: Option<u32>,
}

impl DirectoryRoot {
    /// In words for [`open_directory`].
    pub fn words(&self) -> io::Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(io::Error::other)
    }
}

/// Init's side ([`OpenRoot`](crate::OpenRoot)).
pub fn open_directory(words: &[u8]) -> Result<Box<dyn MountRoot>, Failure> {
    let root: DirectoryRoot =
        postcard::from_bytes(words).map_err(io::Error::other).during(|| "read what the root filesystem is")?;
    let what = || format!("open the root filesystem {}", root.path.display());
    let mount = mount::clone_tree(dir::cwd(), &root.path, true).during(what)?;
    Propagation::PRIVATE.apply(mount.as_fd()).during(|| "make the root filesystem private")?;
    Ok(Box::new(OpenDirectory { mount, home_of: root.home_of }))
}

struct OpenDirectory {
    mount: OwnedFd,
    home_of: Option<u32>,
}

impl MountRoot for OpenDirectory {
    fn mount(self: Box<Self>, _: &HandOver<'_>) -> Result<Prepared, Failure> {
        let env = match self.home_of {
            None => Vec::new(),
            Some(uid) => {
                let home = home(&self.mount, uid).during(|| "look up the user in the image's /etc/passwd")?;
                vec![format!("HOME={}", home.as_deref().unwrap_or("/"))]
            }
        };
        Ok(Prepared { rootfs: self.mount, user: None, env, files: Vec::new() })
    }
}

/// No honest passwd file comes near; a hostile one shall not fill our memory.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The home directory of `uid` in the root's passwd(5).
fn home(root: &OwnedFd, uid: u32) -> io::Result<Option<String>> {
    let file = match in_root::open_file(root.as_fd(), Path::new("etc/passwd")) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        file => file?,
    };
    let uid = uid.to_string();
    for line in BufReader::new(file.take(LARGEST)).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.split(':');
        if fields.nth(2) == Some(&uid) {
            return Ok(fields.nth(2).map(str::to_owned));
        }
    }
    Ok(None)
}
