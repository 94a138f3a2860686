//! The names in a directory, of all its layers together.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;

use rbox_sys::listing::Listing as Stored;
use rbox_sys::stored::{self, kind};
use rbox_sys::{Errno, at};

use super::layers::{Layer, Mark, UPPER, is_whiteout};
use super::nodes::Id;
use super::view::View;

/// Where each name stands. It does so for as long as the name is there, whatever becomes of others meanwhile, so that whoever
/// reads the directory by and by finds it once.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By place.
    names: Vec<(Place, Named)>,
    /// Something has changed since.
    stale: bool,
}

/// Those that follow have larger ones.
pub(super) type Place = u64;

/// One name.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: Box<[u8]>,
    /// Its type, one of [`kind`].
    pub(super) kind: u32,
    /// The number that is shown.
    pub(super) shown: u64,
    /// No layer above this one has it.
    pub(super) layer: Layer,
}

impl View {
    /// The names of a directory that stand after `after`, at most so many. The first two are `.` and `..`.
    pub(super) fn list(&mut self, id: Id, after: Place, most: usize) -> io::Result<Vec<(Place, Named)>> {
        let is_known = self.listings.get(id).is_some_and(|listing| !listing.stale || after > 0);
        if !is_known {
            let found = self.gather(id)?;
            let mut listing = self.listings.remove(id).unwrap_or_default();
            listing.update(found);
            let weight = listing.names.len();
            self.listings.put_weighing(id, listing, weight);
        }
        let listing = self.listings.get(id).ok_or(Errno::STALE)?;
        let first = listing.names.partition_point(|(place, _)| *place <= after);
        let mut names: Vec<(Place, Named)> = listing.names[first..].iter().take(most).cloned().collect();
        if listing.stale {
            names.iter_mut().for_each(|(_, named)| named.layer = UPPER);
        }
        Ok(names)
    }

    /// Whether there is nothing in a directory.
    pub(super) fn is_empty(&mut self, id: Id) -> io::Result<bool> {
        Ok(self.gather(id)?.len() <= 2)
    }

    /// A name has come or gone.
    pub(super) fn relist(&mut self, id: Id) {
        if let Some(listing) = self.listings.get(id) {
            listing.stale = true;
        }
    }

    /// Reads the directory in each of its layers.
    fn gather(&mut self, id: Id) -> io::Result<Vec<Named>> {
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        let layers: Box<[(Layer, Mark)]> =
            if node.left().is_some() { [].into() } else { node.made_of().layers().into() };
        let parent = node.name().and_then(|(parent, _)| self.nodes.get(parent));
        let dot = |name: &[u8], shown| Named { name: name.into(), kind: kind::DIRECTORY, shown, layer: UPPER };
        let mut found = vec![dot(b".", node.shown()), dot(b"..", parent.map_or(node.shown(), |parent| parent.shown()))];
        // What a layer has, those below it have not.
        let mut above: HashSet<Box<[u8]>> = HashSet::new();
        let is_merged = layers.len() > 1;
        for (layer, mark) in layers {
            let place = self.directory(layer, id)?;
            for name in Stored::new(at::open_dir(place.as_fd(), b".")?)? {
                let name = name?;
                let bytes = name.name.to_bytes();
                if is_merged && !above.insert(bytes.into()) {
                    continue;
                }
                let known = self.nodes.named(id, bytes).and_then(|id| self.nodes.get(id));
                let shown = known.map_or(name.inode, |node| node.shown());
                let mut named = Named { name: bytes.into(), kind: name.kind, shown, layer };
                // A character device may be a whiteout; an empty file, where it is said that it may.
                if matches!(name.kind, kind::CHARACTER | 0) || mark == Mark::HasWhiteouts {
                    let stat = stored::stat(place.as_fd(), bytes)?;
                    if is_whiteout(place.as_fd(), bytes, &stat, mark) {
                        continue;
                    }
                    named.kind = stat.kind();
                }
                found.push(named);
            }
        }
        Ok(found)
    }
}

impl Listing {
    /// Takes over what is there now: what was there before keeps its place.
    fn update(&mut self, found: Vec<Named>) {
        let mut last = self.names.last().map_or(0, |(place, _)| *place);
        let places: HashMap<&[u8], Place> = self.names.iter().map(|(place, named)| (&*named.name, *place)).collect();
        let mut names = Vec::with_capacity(found.len());
        for named in found {
            let place = places.get(&*named.name).copied().unwrap_or_else(|| {
                last += 1;
                last
            });
            names.push((place, named));
        }
        names.sort_unstable_by_key(|(place, _)| *place);
        *self = Self { names, stale: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_places() {
        let named = |names: &[&str]| -> Vec<Named> {
            names.iter().map(|name| Named { name: name.as_bytes().into(), kind: 0, shown: 0, layer: UPPER }).collect()
        };
        let mut listing = Listing::default();
        listing.update(named(&["a", "b", "c"]));
        let at = |listing: &Listing, name: &str| {
            listing.names.iter().find(|(_, named)| *named.name == *name.as_bytes()).map(|(place, _)| *place)
        };
        let (b, c) = (at(&listing, "b"), at(&listing, "c"));
        listing.update(named(&["new", "b", "c"]));
        assert_eq!((at(&listing, "b"), at(&listing, "c"), at(&listing, "a")), (b, c, None));
        assert!(at(&listing, "new") > c, "who has read up to c finds it, and who begins does not find it twice");
    }
}
