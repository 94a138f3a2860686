//! What the kernel knows, by number.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::layers::{Layer, Mark, UPPER};

/// The number of a node, to the kernel and here.
pub(super) type Id = u64;
/// The root's (FUSE_ROOT_ID).
pub(super) const ROOT: Id = 1;
/// Numbers that no file has: for nodes whose own one another node has.
const EXTRA: Id = 1 << 63;

/// A file or directory that the kernel knows, or that leads to one.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it is: in which directory, and called what. None for the root, and for what was removed.
    pub(super) names: Vec<(Id, Box<[u8]>)>,
    pub(super) made_of: MadeOf,
    /// The inode number that is shown.
    pub(super) shown: u64,
    /// How often the kernel was told of it and has not forgotten it; and how many nodes are in it.
    told: u64,
    inside: u64,
    /// It was removed, and this is what is left.
    pub(super) left: Option<Arc<OwnedFd>>,
}

/// In which layers it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MadeOf {
    /// A directory: each that has it, topmost first, with its mark.
    Directory(Box<[(Layer, Mark)]>),
    /// Anything else: the topmost.
    File(Layer),
}

impl MadeOf {
    /// The topmost layer.
    pub(super) fn top(&self) -> Layer {
        match self {
            Self::Directory(layers) => layers.first().map_or(UPPER, |(layer, _)| *layer),
            Self::File(layer) => *layer,
        }
    }

    /// Whether it is in the upper layer, and in no other one.
    pub(super) fn is_upper_alone(&self) -> bool {
        match self {
            Self::Directory(layers) => matches!(**layers, [(UPPER, _)]),
            Self::File(layer) => *layer == UPPER,
        }
    }

    /// The layers of a directory; none of a file.
    pub(super) fn layers(&self) -> &[(Layer, Mark)] {
        match self {
            Self::Directory(layers) => layers,
            Self::File(_) => &[],
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Nodes {
    all: HashMap<Id, Node>,
    by_name: HashMap<(Id, Box<[u8]>), Id>,
    extra: Id,
    /// Nodes whose number is not the one that was shown first.
    shown_by: HashMap<u64, Id>,
}

impl Nodes {
    pub(super) fn new(root: MadeOf, shown: u64) -> Self {
        let root = Node { names: Vec::new(), made_of: root, shown, told: 1, inside: 0, left: None };
        Self { all: HashMap::from([(ROOT, root)]), by_name: HashMap::new(), extra: EXTRA, shown_by: HashMap::new() }
    }

    pub(super) fn get(&self, id: Id) -> Option<&Node> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Node> {
        self.all.get_mut(&id)
    }

    /// The one that is called so.
    pub(super) fn named(&self, parent: Id, name: &[u8]) -> Option<Id> {
        // A key that is borrowed has another type than one that is owned.
        self.by_name.get(&(parent, name.into())).copied()
    }

    /// Tells the kernel of what is called so, once more or for the first time.
    pub(super) fn tell(&mut self, parent: Id, name: &[u8], made_of: MadeOf, shown: u64) -> Id {
        let known = self.named(parent, name);
        if let Some(node) = known.and_then(|id| self.all.get_mut(&id)) {
            node.told += 1;
            return known.unwrap_or(ROOT);
        }
        let at = self.shown_by.get(&shown).copied().unwrap_or(shown);
        let id = match self.all.get_mut(&at) {
            // One more name of it: of files in the upper layer, where they share what is written to either.
            Some(node) if made_of == MadeOf::File(UPPER) && node.made_of == made_of && node.left.is_none() => {
                node.told += 1;
                self.name(at, parent, name);
                return at;
            }
            None if (ROOT + 1..EXTRA).contains(&shown) => shown,
            _ => {
                self.extra += 1;
                self.extra
            }
        };
        self.all.insert(id, Node { names: Vec::new(), made_of, shown, told: 1, inside: 0, left: None });
        self.name(id, parent, name);
        id
    }

    /// Another number is shown of it from now on.
    pub(super) fn show(&mut self, id: Id, shown: u64) {
        if let Some(node) = self.all.get_mut(&id) {
            node.shown = shown;
            self.shown_by.insert(shown, id);
        }
    }

    /// Whether there is anything that was removed and is still in use.
    pub(super) fn has_left(&self) -> bool {
        self.all.values().any(|node| node.left.is_some())
    }

    /// Gives a node one more name.
    pub(super) fn name(&mut self, id: Id, parent: Id, name: &[u8]) {
        let Some(node) = self.all.get_mut(&id) else { return };
        node.names.push((parent, name.into()));
        self.by_name.insert((parent, name.into()), id);
        if let Some(parent) = self.all.get_mut(&parent) {
            parent.inside += 1;
        }
    }

    /// A name is nobody's any more. Gives whose it was.
    pub(super) fn unname(&mut self, parent: Id, name: &[u8]) -> Option<Id> {
        let id = self.by_name.remove(&(parent, name.into()))?;
        if let Some(node) = self.all.get_mut(&id) {
            node.names.retain(|(known, called)| (*known, &**called) != (parent, name));
        }
        self.leave(parent);
        Some(id)
    }

    /// The kernel has forgotten it so many times. Gives what neither the kernel nor another node needs any more: it, and the
    /// directories that it was in.
    pub(super) fn forget(&mut self, id: Id, times: u64) -> Vec<(Id, Node)> {
        if let Some(node) = self.all.get_mut(&id) {
            node.told = node.told.saturating_sub(times);
        }
        let (mut gone, mut left) = (Vec::new(), vec![id]);
        while let Some(id) = left.pop() {
            let is_unused = |node: &Node| id != ROOT && node.told == 0 && node.inside == 0;
            if !self.all.get(&id).is_some_and(is_unused) {
                continue;
            }
            let Some(node) = self.all.remove(&id) else { continue };
            if self.shown_by.get(&node.shown) == Some(&id) {
                self.shown_by.remove(&node.shown);
            }
            for (parent, name) in &node.names {
                self.by_name.remove(&(*parent, name.clone()));
                self.leave(*parent);
                left.push(*parent);
            }
            gone.push((id, node));
        }
        gone
    }

    fn leave(&mut self, parent: Id) {
        if let Some(node) = self.all.get_mut(&parent) {
            node.inside = node.inside.saturating_sub(1);
        }
    }
}
