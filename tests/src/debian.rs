//! A larger image: Debian with gcc, Python, Perl and Git, made by mmdebstrap(1) and cut into four layers of about the
//! same size: some 175 MB compressed and 440 MB unpacked.
//!
//! Each layer lists the parents of what it holds, as layers made by builders do. The uppermost also deletes a
//! directory of the layers below ([`DELETED`]) and replaces another ([`REPLACED`]).

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::command::run;
use crate::fixture;
use crate::image::{Compression, ImageBuilder};
use crate::layer::Layer;
use crate::layout::Layout;

/// The image's name in [`layout`] and in registries.
pub const TAG: &str = "bookworm";

/// A directory that the first layers hold and the uppermost deletes with a whiteout.
pub const DELETED: &str = "etc/cron.daily";

/// A directory that the uppermost layer makes opaque; it then holds the file `new` only.
pub const REPLACED: &str = "etc/skel";

const LAYERS: u64 = 4;

/// A layout with Debian 12 as `bookworm`. Making it takes about two minutes and a Debian mirror.
pub fn layout() -> Result<Layout> {
    Layout::open(&fixture::made_once("debian-12-1", make)?)
}

fn make(dir: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(fixture::dir())?;
    let whole = scratch.path().join("debian.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase", "--include=gcc,git,perl,python3", "bookworm"]);
    run(mmdebstrap.arg(&whole))?;

    let parts = split(&whole, scratch.path())?;
    let layout = Layout::create(dir)?;
    let mut image = ImageBuilder::new(&layout).set("Cmd", json!(["bash"]));
    for part in parts {
        image = image.layer_from(Compression::Gzip, |out| {
            std::io::copy(&mut File::open(&part)?, out)?;
            Ok(())
        })?;
    }
    image.finish_as(TAG)?;
    Ok(())
}

/// A tar archive being written, and the directories it has so far.
struct Part {
    path: std::path::PathBuf,
    tar: tar::Builder<BufWriter<File>>,
    dirs: HashSet<Vec<u8>>,
}

/// Headers and data as they stood in the archive: an entry and the extension records before it.
type Group = Vec<(tar::Header, Vec<u8>)>;

fn split(whole: &Path, dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let total = fs::metadata(whole)?.len();
    let mut parts = Vec::new();
    for number in 0..LAYERS {
        let path = dir.join(format!("layer-{number}.tar"));
        let tar = tar::Builder::new(BufWriter::new(File::create(&path)?));
        parts.push(Part { path, tar, dirs: HashSet::new() });
    }

    let mut dirs: HashMap<Vec<u8>, Group> = HashMap::new();
    let mut archive = tar::Archive::new(BufReader::new(File::open(whole)?));
    let mut group: Group = Vec::new();
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let number = (entry.raw_header_position() * LAYERS / total).min(LAYERS - 1);
        let header = entry.header().clone();
        let mut data = Vec::new();
        entry.read_to_end(&mut data)?;
        let kind = header.entry_type();
        let name = header.path_bytes().into_owned();
        group.push((header, data));
        if matches!(kind.as_byte(), b'x' | b'L' | b'K') {
            continue;
        }
        let group = std::mem::take(&mut group);
        // The nodes below /dev are what no unprivileged user can unpack; runtimes make their own.
        if !matches!(kind.as_byte(), b'3' | b'4') {
            if kind.is_dir() {
                dirs.insert(name.clone(), group.clone());
            }
            parts[number as usize].add(&name, &group, &dirs)?;
        }
    }
    let last = parts.last_mut().context("there are layers")?;
    for path in [DELETED, REPLACED] {
        ensure!(dirs.contains_key(format!("./{path}/").as_bytes()), "this Debian has no /{path}");
    }
    let changes = Layer::new().whiteout(DELETED).dir(REPLACED, 0o755).opaque(REPLACED);
    let changes = changes.file(&format!("{REPLACED}/new"), 0o644, "replaced\n").to_tar();
    for entry in tar::Archive::new(&changes[..]).entries()? {
        let mut entry = entry?;
        let header = entry.header().clone();
        last.tar.append(&header, &mut entry)?;
    }
    parts.into_iter().map(Part::finish).collect()
}

impl Part {
    fn add(&mut self, name: &[u8], group: &Group, dirs: &HashMap<Vec<u8>, Group>) -> Result<()> {
        for end in (0..name.len() - 1).filter(|at| name[*at] == b'/') {
            let parent = &name[..=end];
            if let Some(group) = dirs.get(parent)
                && !self.dirs.contains(parent)
            {
                self.write(parent, group)?;
            }
        }
        self.write(name, group)
    }

    fn write(&mut self, name: &[u8], group: &Group) -> Result<()> {
        if name.ends_with(b"/") {
            self.dirs.insert(name.to_vec());
        }
        for (header, data) in group {
            self.tar.append(header, &data[..])?;
        }
        Ok(())
    }

    fn finish(self) -> Result<std::path::PathBuf> {
        self.tar.into_inner()?.flush()?;
        Ok(self.path)
    }
}
