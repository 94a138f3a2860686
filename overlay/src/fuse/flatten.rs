//! What the layers show together, as a plain directory: a root filesystem where no overlay can be had.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::stored::{self, Stat};
use rbox_sys::{Errno, at, beneath};

use super::copy_up::{dress, make_copy};
use super::layers::{Layer, Layers};
use super::listing::{Named, Place};
use super::nodes::{Id, ROOT};
use super::view::View;

/// So many names are taken from a directory at a time.
const NAMES: usize = 256;
/// `.` and `..`.
const OWN_NAMES: Place = 2;

/// Copies it into the empty directory `to`; `copied` is told how many bytes of data each file has brought. Blocks are shared
/// where the filesystem can.
pub fn flatten(layers: Layers, to: BorrowedFd<'_>, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    rbox_sys::process::set_umask(0);
    let view = View::new(layers, true)?;
    Flatten { view, to, files: HashMap::new(), copied }.run()
}

struct Flatten<'a> {
    view: View,
    to: BorrowedFd<'a>,
    /// Where those are that have more names than one, by layer, device and inode.
    files: HashMap<(Layer, u64, u64), Vec<u8>>,
    copied: &'a mut dyn FnMut(u64),
}

/// A directory that is not complete yet.
struct Open {
    id: Id,
    to: OwnedFd,
    /// Below the root, with a slash at the end; the root's is empty.
    path: Vec<u8>,
    /// Up to where its names have been copied.
    after: Place,
}

impl Flatten<'_> {
    fn run(mut self) -> io::Result<()> {
        let root = at::open_dir(self.to, b".")?;
        let mut open = vec![Open { id: ROOT, to: root, path: Vec::new(), after: OWN_NAMES }];
        while let Some(directory) = open.last_mut() {
            let names = self.view.list(directory.id, directory.after, NAMES)?;
            if names.is_empty() {
                self.close(directory)?;
                open.pop();
                continue;
            }
            let mut below = None;
            for (place, named) in names {
                directory.after = place;
                below = self.copy(directory, &named)?;
                if below.is_some() {
                    break;
                }
            }
            open.extend(below);
        }
        Ok(())
    }

    /// Copies a name; gives it where it is a directory.
    fn copy(&mut self, parent: &Open, named: &Named) -> io::Result<Option<Open>> {
        let (name, to) = (&*named.name, parent.to.as_fd());
        let entry = self.view.look_up(parent.id, name)?;
        let path = [&parent.path[..], name].concat();
        if entry.stat.is_directory() {
            at::make_dir(to, name, 0o700)?;
            let path = [&path[..], b"/"].concat();
            return Ok(Some(Open { id: entry.id, to: at::open_dir(to, name)?, path, after: OWN_NAMES }));
        }
        let layer = self.view.nodes.get(entry.id).ok_or(Errno::STALE)?.made_of().top();
        let linked = if entry.stat.links > 1 { self.link(layer, &entry.stat, to, name, path)? } else { false };
        if !linked {
            self.view.at(entry.id, layer, |from, from_name| {
                let stat = stored::stat(from, from_name)?;
                make_copy(from, from_name, &stat, None, to, name)
            })?;
            (self.copied)(entry.stat.size);
        }
        self.view.forget(entry.id, 1);
        Ok(None)
    }

    /// Makes one more name of a file that is there already, and remembers one that is not.
    fn link(&mut self, layer: Layer, stat: &Stat, to: BorrowedFd<'_>, name: &[u8], path: Vec<u8>) -> io::Result<bool> {
        let Some(first) = self.files.get(&(layer, stat.device, stat.inode)) else {
            self.files.insert((layer, stat.device, stat.inode), path);
            return Ok(false);
        };
        let (parent, first) = match first.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&first[..slash], &first[slash + 1..]),
            None => (&b"."[..], &first[..]),
        };
        let parent = beneath::open_dir_path(self.to, parent)?;
        at::link(parent.as_fd(), first, to, name)?;
        Ok(true)
    }

    /// All that is in it is there.
    fn close(&mut self, directory: &Open) -> io::Result<()> {
        let to = directory.to.as_fd();
        let layer = self.view.nodes.get(directory.id).ok_or(Errno::STALE)?.made_of().top();
        self.view.at(directory.id, layer, |from, name| {
            let stat = if name.is_empty() { stored::stat_of(from)? } else { stored::stat(from, name)? };
            dress(from, name, &stat, to, b".")
        })?;
        if directory.id != ROOT {
            self.view.forget(directory.id, 1);
        }
        Ok(())
    }
}
