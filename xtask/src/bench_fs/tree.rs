//! The layers: some directories full of files of all sizes, as the layers of an image are.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use rbox_sys::node;
use rbox_tests::command::run;
use rbox_tests::overlay::tree::filling;

/// How many.
pub(super) const LAYERS: usize = 4;

/// Of each layer. Every second directory is in another one too.
const DIRECTORIES: usize = 300;
/// Of each directory.
const FILES: usize = 11;

/// An archive of the lowest layer, beside them.
pub(super) const ARCHIVE: &str = "archive.tar";

/// Makes the layers `0`, the topmost, to `3`; gives how many files they have and how many MB these are.
pub(super) fn make(dir: &Path) -> Result<(usize, f64)> {
    let content = filling(512 << 10);
    let (mut files, mut bytes) = (0, 0);
    for layer in 0..LAYERS {
        let root = dir.join(layer.to_string());
        for number in 0..DIRECTORIES {
            // Those that are shared by all layers, and a layer's own.
            let name =
                if number % 2 == 0 { format!("usr/shared{number}") } else { format!("usr/lib{layer}/{number}/deep") };
            let place = root.join(name);
            fs::create_dir_all(&place)?;
            for file in 0..FILES {
                let size = size(files);
                // Each eleventh file is the one of another layer, once more.
                let name = if file == 0 { "the-same".to_owned() } else { format!("file{layer}-{file}") };
                File::create(place.join(name))?.write_all(&content[..size])?;
                (files, bytes) = (files + 1, bytes + size);
            }
            std::os::unix::fs::symlink("file0-1", place.join(format!("link{layer}")))?;
        }
        if layer == 0 {
            // What the layers below have, and nobody sees.
            for number in (0..DIRECTORIES).step_by(10) {
                let place = rbox_sys::dir::open(&root.join(format!("usr/shared{number}")))?;
                node::make_whiteout(std::os::fd::AsFd::as_fd(&place), b"file3-1")?;
            }
        }
    }
    let lowest = dir.join((LAYERS - 1).to_string());
    run(Command::new("tar").arg("-cf").arg(dir.join(ARCHIVE)).arg("-C").arg(lowest).arg("."))?;
    Ok((files, bytes as f64 / 1e6))
}

/// Most files are small, and most bytes are in large ones.
fn size(number: usize) -> usize {
    match number % 20 {
        0 => 256 << 10,
        1 | 2 => 100_000,
        3..=6 => 30_000,
        rest => 700 * (rest - 4),
    }
}
