//! Things that are made once and kept below `target/fixtures/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host;

/// The directory of fixtures: `RBOX_FIXTURES`, or `target/fixtures`.
pub fn dir() -> PathBuf {
    std::env::var_os("RBOX_FIXTURES").map_or_else(|| host::target_dir().join("fixtures"), PathBuf::from)
}

/// The directory `name` of the fixtures; `make` fills it if it is not there yet.
///
/// It is filled under another name and renamed, under a lock: what is there is whole, and is made by one process
/// while the others wait. A change of what `make` makes needs a new name.
pub fn made_once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let (dir, path) = (dir(), dir().join(name));
    if path.exists() {
        return Ok(path);
    }
    let hint = || format!("cannot make the fixture {name} in {}; make it with: cargo xtask setup", dir.display());
    fs::create_dir_all(&dir).with_context(hint)?;
    let lock = fs::File::create(dir.join(format!(".{name}.lock"))).with_context(hint)?;
    rbox_sys::flock::lock(&lock, rbox_sys::flock::Mode::Exclusive).with_context(hint)?;
    if !path.exists() {
        let unfinished = tempfile::Builder::new().prefix(&format!(".{name}.")).tempdir_in(&dir).with_context(hint)?;
        make(unfinished.path()).with_context(hint)?;
        // Made as a private directory; other users read fixtures too.
        fs::set_permissions(unfinished.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        fs::rename(unfinished.keep(), &path).with_context(hint)?;
    }
    Ok(path)
}
