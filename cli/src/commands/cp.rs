//! `rbox cp`

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;
use rbox_container::{CopyOptions, Engine, Local};
use rbox_sys::tty;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// Keep owners, extended attributes and set-id bits; else files that come into a container are its root's, and those
    /// that come out are yours
    #[arg(short, long)]
    archive: bool,

    /// Copy what a link leads to, where SOURCE is one
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// Say nothing, which is what this does anyhow
    #[arg(short, long, hide = true)]
    quiet: bool,

    /// CONTAINER:PATH, or a path of this host's; - for a tar archive on standard input
    source: OsString,

    /// Likewise; - for a tar archive on standard output
    #[arg(value_name = "DESTINATION")]
    destination: OsString,
}

/// One of the two words.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Local(PathBuf),
    Stream,
    In(String, PathBuf),
}

impl Cp {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let options = CopyOptions { archive: self.archive, follow: self.follow_link };
        let local = |place: &Place| match place {
            Place::Local(path) if path.as_os_str().is_empty() => Err(Failure::new("a path of the host's is empty")),
            _ => Ok(()),
        };
        let (source, destination) = (Place::of(&self.source), Place::of(&self.destination));
        local(&source).and_then(|()| local(&destination))?;
        let placed = match (&source, &destination) {
            (Place::In(container, path), Place::Local(to)) => {
                engine.copy_out(container, path, Local::Path(to), options)?
            }
            (Place::In(container, path), Place::Stream) => {
                let stdout = io::stdout();
                if tty::is_terminal(stdout.as_fd()) {
                    return Err(Failure::new("refusing to write a tar archive to a terminal"));
                }
                engine.copy_out(container, path, Local::Stream(stdout.as_fd()), options)?
            }
            (Place::Local(from), Place::In(container, path)) => {
                engine.copy_in(Local::Path(from), container, path, options)?
            }
            (Place::Stream, Place::In(container, path)) => {
                let stdin = io::stdin();
                engine.copy_in(Local::Stream(stdin.as_fd()), container, path, options)?
            }
            (Place::In(..), Place::In(..)) => {
                return Err(Failure::new("copying between containers is not supported"));
            }
            _ => return Err(Failure::new("must specify at least one container: CONTAINER:PATH")),
        };
        if placed.devices > 0 {
            eprintln!("rbox: {} devices were left out: only the host's root can make them", placed.devices);
        }
        Ok(())
    }
}

impl Place {
    /// As Docker reads it: what begins with `/` or `.` is a path of the host's, whatever colons it has.
    fn of(word: &OsStr) -> Self {
        let bytes = word.as_bytes();
        if bytes == b"-" {
            return Self::Stream;
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        match colon {
            Some(at @ 1..) if !matches!(bytes[0], b'/' | b'.') => match std::str::from_utf8(&bytes[..at]) {
                Ok(container) => {
                    let path = OsString::from_vec(bytes[at + 1..].to_vec());
                    // Docker's: nothing stands for the root.
                    let path = if path.is_empty() { Path::new("/").into() } else { path.into() };
                    Self::In(container.to_owned(), path)
                }
                Err(_) => Self::Local(word.into()),
            },
            _ => Self::Local(word.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let of = |word: &str| Place::of(OsStr::new(word));
        let inside = |container: &str, path: &str| Place::In(container.into(), path.into());
        assert_eq!(of("box:/a:b"), inside("box", "/a:b"));
        assert_eq!(of("box:"), inside("box", "/"));
        assert_eq!(of("-"), Place::Stream);
        for local in ["./box:/a", "/box:/a", "box", "../x:y", ":x"] {
            assert_eq!(of(local), Place::Local(local.into()));
        }
    }
}
