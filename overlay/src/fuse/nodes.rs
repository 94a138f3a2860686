//! What the kernel knows, by number.
//!
//! It may be all that there is: whoever walks through a million files has the kernel know each of them for as long as there is
//! memory for that. So what all nodes have is in tables that have no more than need be, 28 bytes, the name, and twice 5 to 8
//! bytes to find it by; what few have, others do not pay for.

mod index;
mod names;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::layers::{Layer, Mark, UPPER};
use index::Index;
use names::{At, Names};

/// The number of a node, to the kernel and here.
pub(super) type Id = u64;
/// The root's (FUSE_ROOT_ID).
pub(super) const ROOT: Id = 1;
/// Numbers that no file has: for nodes whose own one another node has.
const EXTRA: Id = 1 << 63;

/// In which layers a file or directory is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

/// The place of a node in the table.
type Place = u32;
const NOWHERE: Place = Place::MAX;
/// The root's.
const FIRST: Place = 0;

/// What all nodes have. Without padding: half of a million of such would be that.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
struct Slot {
    /// 0 is nobody's.
    id: Id,
    /// Where it is: in which directory, and called what. [`NOWHERE`] for the root, and for what was removed. Of a slot that is
    /// nobody's, which one is so too.
    parent: Place,
    name: At,
    /// How often the kernel was told of it and has not forgotten it; and how many names are in it.
    told: u32,
    inside: u32,
    /// One of [`Nodes::kinds`].
    made_of: u32,
}

/// What few nodes have.
#[derive(Debug, Default)]
struct Odd {
    /// Where else it is.
    more: Vec<(Place, At)>,
    /// It was removed, and this is what is left.
    left: Option<Arc<OwnedFd>>,
    /// An inode number is shown that is not the node's own.
    shown: Option<u64>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Nodes {
    /// In pieces of [`PIECE`]: what is moved as it grows is there twice meanwhile.
    slots: Vec<Vec<Slot>>,
    /// How many are somebody's.
    used: usize,
    vacant: Place,
    names: Names,
    by_id: Index,
    by_name: Index,
    odd: HashMap<Place, Odd>,
    by_other_name: HashMap<(Place, Box<[u8]>), Place>,
    /// There are many nodes and few kinds.
    kinds: Vec<MadeOf>,
    by_kind: HashMap<MadeOf, u32>,
    extra: Id,
    /// Nodes whose number is not the one that was shown first.
    shown_by: HashMap<u64, Id>,
    hashes: RandomState,
}

const PIECE: usize = 1 << 12;
/// With fewer, tables are not made smaller.
const FEW: usize = 1 << 12;

/// A node as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    nodes: &'a Nodes,
    place: Place,
}

impl<'a> Node<'a> {
    /// Where it is: in which directory, and called what. None for the root, and for what was removed.
    pub(super) fn name(self) -> Option<(Id, &'a [u8])> {
        let Slot { parent, name, .. } = self.nodes.slot(self.place);
        (parent != NOWHERE).then(|| (self.nodes.slot(parent).id, self.nodes.names.get(name)))
    }

    pub(super) fn has_one_name(self) -> bool {
        self.name().is_some() && self.odd().is_none_or(|odd| odd.more.is_empty())
    }

    pub(super) fn made_of(self) -> &'a MadeOf {
        &self.nodes.kinds[self.nodes.slot(self.place).made_of as usize]
    }

    /// The inode number that is shown.
    pub(super) fn shown(self) -> u64 {
        self.odd().and_then(|odd| odd.shown).unwrap_or(self.nodes.slot(self.place).id)
    }

    /// What is left of it where it was removed.
    pub(super) fn left(self) -> Option<&'a Arc<OwnedFd>> {
        self.odd()?.left.as_ref()
    }

    fn odd(self) -> Option<&'a Odd> {
        self.nodes.odd.get(&self.place)
    }
}

impl Nodes {
    pub(super) fn new(root: MadeOf, shown: u64) -> Self {
        let mut nodes = Self {
            slots: Vec::new(),
            used: 0,
            vacant: NOWHERE,
            names: Names::default(),
            by_id: Index::default(),
            by_name: Index::default(),
            odd: HashMap::new(),
            by_other_name: HashMap::new(),
            kinds: Vec::new(),
            by_kind: HashMap::new(),
            extra: EXTRA,
            shown_by: HashMap::new(),
            hashes: RandomState::new(),
        };
        let root = nodes.add(ROOT, root);
        nodes.odd.entry(root).or_default().shown = Some(shown);
        nodes
    }

    pub(super) fn get(&self, id: Id) -> Option<Node<'_>> {
        Some(Node { nodes: self, place: self.place(id)? })
    }

    /// The one that is called so.
    pub(super) fn named(&self, parent: Id, name: &[u8]) -> Option<Id> {
        Some(self.slot(self.place_named(self.place(parent)?, name)?).id)
    }

    /// Tells the kernel of what is called so, once more or for the first time.
    pub(super) fn tell(&mut self, parent: Id, name: &[u8], made_of: MadeOf, shown: u64) -> Id {
        let known = self.place(parent).and_then(|parent| self.place_named(parent, name));
        if let Some(place) = known {
            return self.tell_again(place);
        }
        let at = self.shown_by.get(&shown).copied().unwrap_or(shown);
        let id = match self.get(at) {
            // One more name of it: of files in the upper layer, where they share what is written to either.
            Some(node) if made_of == MadeOf::File(UPPER) && *node.made_of() == made_of && node.left().is_none() => {
                let place = node.place;
                self.name(at, parent, name);
                return self.tell_again(place);
            }
            None if (ROOT + 1..EXTRA).contains(&shown) => shown,
            _ => {
                self.extra += 1;
                self.extra
            }
        };
        let place = self.add(id, made_of);
        if shown != id {
            self.odd.entry(place).or_default().shown = Some(shown);
        }
        self.name(id, parent, name);
        id
    }

    fn tell_again(&mut self, place: Place) -> Id {
        let slot = self.slot_mut(place);
        slot.told = { slot.told }.saturating_add(1);
        slot.id
    }

    /// It is in other layers from now on.
    pub(super) fn set_made_of(&mut self, id: Id, made_of: MadeOf) {
        let kind = self.kind(made_of);
        if let Some(place) = self.place(id) {
            self.slot_mut(place).made_of = kind;
        }
    }

    /// It was removed, or is about to be, and this is what is left.
    pub(super) fn set_left(&mut self, id: Id, left: Arc<OwnedFd>) {
        if let Some(place) = self.place(id) {
            self.odd.entry(place).or_default().left = Some(left);
        }
    }

    /// Another number is shown of it from now on.
    pub(super) fn show(&mut self, id: Id, shown: u64) {
        if let Some(place) = self.place(id) {
            self.odd.entry(place).or_default().shown = Some(shown);
            self.shown_by.insert(shown, id);
        }
    }

    /// Whether there is anything that was removed and is still in use.
    pub(super) fn has_left(&self) -> bool {
        self.odd.values().any(|odd| odd.left.is_some())
    }

    /// Gives a node one more name.
    pub(super) fn name(&mut self, id: Id, parent: Id, name: &[u8]) {
        let (Some(place), Some(directory)) = (self.place(id), self.place(parent)) else { return };
        // Nothing has two nodes.
        self.unname(parent, name);
        let at = self.names.add(name);
        if self.slot(place).parent == NOWHERE {
            let slot = self.slot_mut(place);
            (slot.parent, slot.name) = (directory, at);
            self.index_name(place);
        } else {
            self.odd.entry(place).or_default().more.push((directory, at));
            self.by_other_name.insert((directory, name.into()), place);
        }
        self.slot_mut(directory).inside += 1;
    }

    /// A name is nobody's any more. Gives whose it was.
    pub(super) fn unname(&mut self, parent: Id, name: &[u8]) -> Option<Id> {
        let directory = self.place(parent)?;
        let place = self.place_named(directory, name)?;
        let slot = self.slot(place);
        let is_first = slot.parent == directory && self.names.get(slot.name) == name;
        if is_first {
            self.unindex_name(place);
            self.names.discard(slot.name);
            let next = self.odd.get_mut(&place).and_then(|odd| odd.more.pop());
            let (next_parent, next_name) = next.unwrap_or((NOWHERE, 0));
            let slot = self.slot_mut(place);
            (slot.parent, slot.name) = (next_parent, next_name);
            if next.is_some() {
                let key = (next_parent, self.names.get(next_name).into());
                self.by_other_name.remove(&key);
                self.index_name(place);
            }
        } else {
            self.by_other_name.remove(&(directory, name.into()));
            let (odd, names) = (self.odd.get_mut(&place)?, &mut self.names);
            let number = odd.more.iter().position(|(known, at)| (*known, names.get(*at)) == (directory, name))?;
            names.discard(odd.more.swap_remove(number).1);
        }
        self.leave(directory);
        Some(slot.id)
    }

    /// The kernel has forgotten it so many times. Gives what neither the kernel nor another node needs any more: it, and the
    /// directories that it was in.
    pub(super) fn forget(&mut self, id: Id, times: u64) -> Vec<(Id, MadeOf)> {
        let (mut gone, mut left) = (Vec::new(), Vec::from_iter(self.place(id)));
        if let [place] = left[..] {
            let slot = self.slot_mut(place);
            slot.told = { slot.told }.saturating_sub(u32::try_from(times).unwrap_or(u32::MAX));
        }
        while let Some(place) = left.pop() {
            let slot = self.slot(place);
            if place == FIRST || slot.id == 0 || (slot.told, slot.inside) != (0, 0) {
                continue;
            }
            let made_of = self.kinds[slot.made_of as usize].clone();
            if slot.parent != NOWHERE {
                self.unindex_name(place);
                self.names.discard(slot.name);
                self.leave(slot.parent);
                left.push(slot.parent);
            }
            let odd = self.odd.remove(&place).unwrap_or_default();
            for (parent, at) in odd.more {
                let key = (parent, self.names.get(at).into());
                self.by_other_name.remove(&key);
                self.names.discard(at);
                self.leave(parent);
                left.push(parent);
            }
            if let Some(shown) = odd.shown
                && self.shown_by.get(&shown) == Some(&{ slot.id })
            {
                self.shown_by.remove(&shown);
            }
            self.vacate(place);
            gone.push((slot.id, made_of));
        }
        let slots = self.slots.len() * PIECE;
        if slots > FEW && self.used < slots / 4 || self.names.is_mostly_unused() {
            self.pack();
        }
        gone
    }

    fn leave(&mut self, directory: Place) {
        let slot = self.slot_mut(directory);
        slot.inside = { slot.inside }.saturating_sub(1);
    }

    /// A node that has no name yet, and that the kernel is told of.
    fn add(&mut self, id: Id, made_of: MadeOf) -> Place {
        let made_of = self.kind(made_of);
        let place = self.occupy(Slot { id, parent: NOWHERE, name: 0, told: 1, inside: 0, made_of });
        let mut by_id = std::mem::take(&mut self.by_id);
        by_id.insert(place, |place| self.hash_of_id(place));
        self.by_id = by_id;
        place
    }

    fn kind(&mut self, made_of: MadeOf) -> u32 {
        if let Some(kind) = self.by_kind.get(&made_of) {
            return *kind;
        }
        let kind = self.kinds.len() as u32;
        self.kinds.push(made_of.clone());
        self.by_kind.insert(made_of, kind);
        kind
    }

    fn occupy(&mut self, slot: Slot) -> Place {
        self.used += 1;
        if self.vacant != NOWHERE {
            let place = self.vacant;
            self.vacant = self.slot(place).parent;
            *self.slot_mut(place) = slot;
            return place;
        }
        if self.slots.last().is_none_or(|piece| piece.len() == PIECE) {
            let room = if self.slots.is_empty() { 0 } else { PIECE };
            self.slots.push(Vec::with_capacity(room));
        }
        let last = self.slots.len() - 1;
        self.slots[last].push(slot);
        (last * PIECE + self.slots[last].len() - 1) as Place
    }

    fn vacate(&mut self, place: Place) {
        let mut by_id = std::mem::take(&mut self.by_id);
        by_id.remove(place, |place| self.hash_of_id(place));
        self.by_id = by_id;
        let next = self.vacant;
        *self.slot_mut(place) = Slot { id: 0, parent: next, name: 0, told: 0, inside: 0, made_of: 0 };
        self.vacant = place;
        self.used -= 1;
    }

    fn slot(&self, place: Place) -> Slot {
        self.slots[place as usize / PIECE][place as usize % PIECE]
    }

    fn slot_mut(&mut self, place: Place) -> &mut Slot {
        &mut self.slots[place as usize / PIECE][place as usize % PIECE]
    }

    fn place(&self, id: Id) -> Option<Place> {
        if id == ROOT {
            return Some(FIRST);
        }
        self.by_id.find(self.hashes.hash_one(id), |place| { self.slot(place).id } == id)
    }

    fn place_named(&self, parent: Place, name: &[u8]) -> Option<Place> {
        let is_it = |place| {
            let slot = self.slot(place);
            slot.parent == parent && self.names.get(slot.name) == name
        };
        let first = self.by_name.find(self.hashes.hash_one((parent, name)), is_it);
        // A key that is borrowed has another type than one that is owned.
        let other = || self.by_other_name.get(&(parent, name.into())).copied();
        first.or_else(|| if self.by_other_name.is_empty() { None } else { other() })
    }

    fn hash_of_id(&self, place: Place) -> u64 {
        let Slot { id, .. } = self.slot(place);
        self.hashes.hash_one(id)
    }

    fn hash_of_name(&self, place: Place) -> u64 {
        let Slot { parent, name, .. } = self.slot(place);
        self.hashes.hash_one((parent, self.names.get(name)))
    }

    fn index_name(&mut self, place: Place) {
        let mut by_name = std::mem::take(&mut self.by_name);
        by_name.insert(place, |place| self.hash_of_name(place));
        self.by_name = by_name;
    }

    fn unindex_name(&mut self, place: Place) {
        let mut by_name = std::mem::take(&mut self.by_name);
        by_name.remove(place, |place| self.hash_of_name(place));
        self.by_name = by_name;
    }

    /// Moves all together, into tables that are as small as they can be.
    fn pack(&mut self) {
        let old_slots = std::mem::take(&mut self.slots);
        let old_names = std::mem::take(&mut self.names);
        let old_kinds = std::mem::take(&mut self.kinds);
        self.by_kind = HashMap::new();
        let mut new_places = HashMap::with_capacity(self.used);
        let all = || old_slots.iter().flatten().zip(0..).filter(|(slot, _): &(&Slot, Place)| slot.id != 0);
        for ((_, old), new) in all().zip(0..) {
            new_places.insert(old, new);
        }
        let moved = |place: Place| new_places.get(&place).copied().unwrap_or(NOWHERE);
        (self.used, self.vacant) = (0, NOWHERE);
        for (slot, _) in all() {
            let mut slot = *slot;
            if slot.parent != NOWHERE {
                (slot.parent, slot.name) = (moved(slot.parent), self.names.add(old_names.get(slot.name)));
            }
            slot.made_of = self.kind(old_kinds[slot.made_of as usize].clone());
            self.occupy(slot);
        }
        self.by_other_name = HashMap::new();
        for (place, mut odd) in std::mem::take(&mut self.odd) {
            for (parent, at) in &mut odd.more {
                let name = old_names.get(*at);
                (*parent, *at) = (moved(*parent), self.names.add(name));
                self.by_other_name.insert((*parent, name.into()), moved(place));
            }
            self.odd.insert(moved(place), odd);
        }
        let (mut by_id, mut by_name) = (Index::with_room(self.used), Index::with_room(self.used));
        for place in 0..self.used as Place {
            by_id.insert(place, |place| self.hash_of_id(place));
            if self.slot(place).parent != NOWHERE {
                by_name.insert(place, |place| self.hash_of_name(place));
            }
        }
        (self.by_id, self.by_name) = (by_id, by_name);
        drop((old_slots, old_names));
        rbox_sys::heap::give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = 20_000;

    fn file(number: u64) -> (Id, Vec<u8>, u64) {
        // Those in the second half are in a directory of the first.
        (if number < MANY / 2 { ROOT } else { 1000 }, format!("file {number}").into_bytes(), 1000 + number)
    }

    #[test]
    fn what_is_known_is_found_whatever_was_forgotten() {
        let directory = || MadeOf::Directory([(1, Mark::Plain)].into());
        let mut nodes = Nodes::new(directory(), 77);
        let made_of = |number| if number == 0 { directory() } else { MadeOf::File(1) };
        for number in 0..MANY {
            let (parent, name, shown) = file(number);
            assert_eq!(nodes.tell(parent, &name, made_of(number), shown), shown);
        }
        let kept = |number: u64| number % 100 == 3 || number == MANY - 1;
        for number in (0..MANY).filter(|number| !kept(*number)) {
            nodes.forget(1000 + number, 1);
        }
        assert!(nodes.slots.len() <= 1, "{} pieces", nodes.slots.len());
        for number in 0..MANY {
            let (parent, name, shown) = file(number);
            // The kernel has forgotten the directory, and not what is in it.
            let is_known = kept(number) || number == 0;
            assert_eq!(nodes.named(parent, &name), is_known.then_some(shown));
            assert_eq!(nodes.get(shown).and_then(Node::name), is_known.then_some((parent, &name[..])));
        }
        for number in (0..MANY).filter(|number| kept(*number)) {
            nodes.forget(1000 + number, 1);
        }
        assert_eq!((nodes.used, nodes.get(ROOT).map(Node::shown)), (1, Some(77)));
    }

    #[test]
    fn a_node_has_each_of_its_names_until_that_goes() {
        let mut nodes = Nodes::new(MadeOf::Directory([(UPPER, Mark::Plain)].into()), 77);
        for name in [b"a", b"b", b"c"] {
            assert_eq!(nodes.tell(ROOT, name, MadeOf::File(UPPER), 10), 10);
        }
        nodes.pack();
        assert_eq!(nodes.unname(ROOT, b"a"), Some(10));
        assert_eq!(
            (nodes.named(ROOT, b"a"), nodes.named(ROOT, b"b"), nodes.named(ROOT, b"c")),
            (None, Some(10), Some(10))
        );
        assert_eq!((nodes.unname(ROOT, b"b"), nodes.get(10).map(Node::has_one_name)), (Some(10), Some(true)));
        nodes.name(10, ROOT, b"d");
        assert_eq!(nodes.forget(10, 3), [(10, MadeOf::File(UPPER))]);
        assert_eq!((nodes.named(ROOT, b"c"), nodes.named(ROOT, b"d"), nodes.used), (None, None, 1));
    }

    #[test]
    fn two_with_one_number_are_two() {
        let mut nodes = Nodes::new(MadeOf::Directory([(1, Mark::Plain)].into()), 77);
        // Lower files of several names.
        let first = nodes.tell(ROOT, b"a", MadeOf::File(1), 10);
        let second = nodes.tell(ROOT, b"b", MadeOf::File(1), 10);
        assert_ne!(first, second);
        assert_eq!(nodes.get(second).map(Node::shown), Some(10));
        nodes.forget(first, 1);
        assert_eq!(nodes.named(ROOT, b"b"), Some(second));
    }
}
