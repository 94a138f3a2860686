//! What a power cut may have spoiled (docs/decisions/durability.md).
//!
//! Nothing is fsynced while a pull runs. Instead an empty file whose name says "this blob, made in this boot" is
//! put into `unsettled/<boot id>/` before the blob gets its name. A journaling file system keeps the order of
//! such changes to directories: if after a crash the blob's name is there, its mark is there too. Some time later
//! [`Store::settle`] makes one barrier for the whole file system and removes the marks. So marks of another boot
//! mean "was perhaps not on the disk when that boot ended", and a run learns that there are none from listing a
//! directory that is nearly always empty.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::Path,
};

use rbox_types::{ChainId, Digest};

use crate::{
    Error, Store,
    error::{IoContext, Result},
    files,
    layers::RECORD,
    lease::LeaseInner,
};

/// Blobs and layers of an earlier boot that may not have reached the disk whole.
///
/// A pull hashes such a blob again, then says [`Store::trust_blob`] or [`Store::discard_blob`]; such a layer it
/// discards with [`Store::discard_layer`] and unpacks again. A run treats an image with any of them as not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Blobs.
    pub blobs: BTreeSet<Digest>,
    /// Layers, as id map key and chain id.
    pub layers: BTreeSet<(String, ChainId)>,
}

impl Suspects {
    /// Whether there is nothing to suspect.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.layers.is_empty()
    }
}

/// What a mark is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    Blob(Digest),
    Layer(String, ChainId),
}

struct Mark {
    boot_id: String,
    file: String,
    thing: Thing,
    lease: String,
}

impl Store {
    /// What may not have reached the disk before the machine went down. Lists one directory if there is nothing.
    pub fn suspects(&self) -> Result<Suspects> {
        let mut suspects = Suspects::default();
        for mark in self.marks(Boots::Earlier)? {
            if self.is_there(&mark.thing)? {
                match mark.thing {
                    Thing::Blob(digest) => suspects.blobs.insert(digest),
                    Thing::Layer(map_key, chain) => suspects.layers.insert((map_key, chain)),
                };
            }
        }
        Ok(suspects)
    }

    /// The blob was hashed again since this boot and is as it should be.
    pub fn trust_blob(&self, digest: &Digest) -> Result<()> {
        self.unmark(&Thing::Blob(*digest))
    }

    /// The blob is [suspect](Suspects) and its bytes are wrong: removes it. No effect once it is suspect no more.
    pub fn discard_blob(&self, digest: &Digest) -> Result<()> {
        let _lock = self.keyed_lock(&format!("blob.{}", digest.hex()))?;
        let thing = Thing::Blob(*digest);
        if self.is_marked(&thing)? {
            files::remove(&self.blob_path(digest))?;
            self.unmark(&thing)?;
        }
        Ok(())
    }

    /// The layer is [suspect](Suspects): removes it. No effect once it is suspect no more.
    pub fn discard_layer(
        &self,
        map_key: &str,
        chain: ChainId,
        remove_tree: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<()> {
        let lock = self.layer_lock(map_key, chain)?;
        let thing = Thing::Layer(map_key.to_owned(), chain);
        if !self.is_marked(&thing)? {
            return Ok(());
        }
        let path = self.layer_path(map_key, chain);
        // First, in case there is no room to move the layer aside: without its record a layer is none.
        files::remove(&path.join(RECORD))?;
        let doomed = match self.move_aside(&path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return self.unmark(&thing),
            doomed => doomed?,
        };
        self.unmark(&thing)?;
        if doomed != path {
            drop(lock);
        }
        self.delete(&doomed, remove_tree)
    }

    /// Waits until all that is there has reached the disk, and remembers that; nothing to do if that is known.
    ///
    /// Takes as long as the file system has dirty data. No lock is held meanwhile.
    pub fn settle(&self) -> Result<()> {
        let mut settled = Vec::new();
        for mark in self.marks(Boots::This)? {
            // A mark comes before its thing: what is not there yet will not be in this barrier.
            if self.is_there(&mark.thing)? {
                settled.push(mark);
            }
        }
        if settled.is_empty() {
            return Ok(());
        }
        let root = File::open(&self.root).at("read", &self.root)?;
        rbox_sys::syncfs::syncfs(&root).at("write", &self.root)?;
        self.remove_marks(&settled)
    }

    /// Removes marks of things that are gone and will not come from the lease that made the mark.
    pub(crate) fn remove_vain_marks(&self) -> Result<()> {
        let mut vain = Vec::new();
        for mark in self.marks(Boots::All)? {
            // In this order: the lease's last act may have been to make the thing.
            if !files::exists(&self.path("tmp").join(&mark.lease))? && !self.is_there(&mark.thing)? {
                vain.push(mark);
            }
        }
        self.remove_marks(&vain)?;
        for boot_id in files::list(&self.path("unsettled"))? {
            // Only if empty; whoever makes a mark makes the directory again.
            let _ = fs::remove_dir(self.path("unsettled").join(boot_id));
        }
        Ok(())
    }

    fn is_there(&self, thing: &Thing) -> Result<bool> {
        match thing {
            Thing::Blob(digest) => self.has_blob(digest),
            Thing::Layer(map_key, chain) => files::exists(&self.layer_path(map_key, *chain)),
        }
    }

    fn is_marked(&self, thing: &Thing) -> Result<bool> {
        Ok(self.marks(Boots::Earlier)?.iter().any(|mark| mark.thing == *thing))
    }

    fn unmark(&self, thing: &Thing) -> Result<()> {
        let mut marks = self.marks(Boots::Earlier)?;
        marks.retain(|mark| mark.thing == *thing);
        self.remove_marks(&marks)
    }

    fn remove_marks(&self, marks: &[Mark]) -> Result<()> {
        for mark in marks {
            let directory = self.path("unsettled").join(&mark.boot_id);
            files::remove(&directory.join(&mark.file))?;
        }
        if let Some(mark) = marks.first() {
            let _ = fs::remove_dir(self.path("unsettled").join(&mark.boot_id));
        }
        Ok(())
    }

    fn marks(&self, boots: Boots) -> Result<Vec<Mark>> {
        let unsettled = self.path("unsettled");
        let mut boot_ids = files::list(&unsettled)?;
        if !boot_ids.is_empty() && boots != Boots::All {
            let this = boot_id()?;
            boot_ids.retain(|boot_id| (*boot_id == this) == (boots == Boots::This));
        }
        let mut marks = Vec::new();
        for boot_id in boot_ids {
            for file in files::list(&unsettled.join(&boot_id))? {
                if let Some((thing, lease)) = parse(&file) {
                    marks.push(Mark { boot_id: boot_id.clone(), thing, lease: lease.to_owned(), file });
                }
            }
        }
        Ok(marks)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Boots {
    This,
    Earlier,
    All,
}

impl LeaseInner {
    /// Notes that the thing is about to get its name without being on the disk for sure.
    ///
    /// The mark carries the lease's id, so that no settling that saw an older mark of the same thing removes it.
    pub(crate) fn mark_unsettled(&self, thing: &Thing) -> Result<()> {
        let boot_id = match self.boot_id.get() {
            Some(boot_id) => boot_id.clone(),
            None => {
                let boot_id = boot_id()?;
                self.boot_id.get_or_init(|| boot_id).clone()
            }
        };
        let directory = self.store.path("unsettled").join(boot_id);
        let path = directory.join(match thing {
            Thing::Blob(digest) => format!("blob.{}.{}", digest.hex(), self.id),
            Thing::Layer(map_key, chain) => format!("layer.{map_key}.{}.{}", chain.0.hex(), self.id),
        });
        loop {
            match File::create(&path) {
                // Not made yet, or just removed because it was empty; that may happen again before the next try.
                Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::create_dir(&directory) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    made => made.at("create", &directory)?,
                },
                file => return file.map(drop).at("create", &path),
            }
        }
    }
}

fn parse(mark: &str) -> Option<(Thing, &str)> {
    let (rest, lease) = mark.rsplit_once('.')?;
    let (kind, hex) = rest.rsplit_once('.')?;
    let digest = Digest::from_hex(hex).ok()?;
    let thing = match kind.split_once('.') {
        None if kind == "blob" => Thing::Blob(digest),
        Some(("layer", map_key)) => Thing::Layer(map_key.to_owned(), ChainId(digest)),
        _ => return None,
    };
    Some((thing, lease))
}

/// Differs from boot to boot (random(4)); containers see their host's.
pub(crate) fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::File::open(path).and_then(|mut file| files::read_small(&mut file)).at("read", path)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}
