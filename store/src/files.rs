//! Small steps that the other files share.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
};

use crate::error::{IoContext, Result};

/// Makes a directory that others may pass through but not list; fine if it is there.
///
/// The store's root is mode 0700, so "others" is only whoever got a descriptor from us: a container's root whose
/// id is not the user's own. The umask is overruled for the same reason.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    match new_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.at("create", path),
    }
}

/// As [`create_dir`]; but it must not be there.
pub(crate) fn new_dir(path: &Path) -> io::Result<()> {
    const MODE: u32 = 0o711;
    fs::DirBuilder::new().mode(MODE).create(path)?;
    // Most umasks leave it at that; and to set a mode is a write.
    match fs::metadata(path)?.mode() & 0o777 {
        MODE => Ok(()),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(MODE)),
    }
}

/// Gives `path` this content in one step. The caller holds a lock that keeps others from doing so too.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    create(new, content)?;
    fs::rename(new, path).at("create", path)
}

/// Writes a file that nobody else looks at yet.
pub(crate) fn create(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = fs::File::create(path).at("create", path)?;
    file.write_all(content).at("write", path)
}

/// The names in a directory, sorted; names that are not UTF-8 are none of ours and left out. No directory: none.
pub(crate) fn list(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", directory)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.at("list", directory)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The file's content, or nothing if it is not there.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        content => content.at("read", path).map(Some),
    }
}

/// What is in a regular file that is mostly small, with as few system calls as can be: lists read thousands.
pub fn read_small(file: &mut fs::File) -> io::Result<Vec<u8>> {
    const MOSTLY: usize = 4096;
    let mut bytes = vec![0; MOSTLY];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(read) => {
                length += read;
                // A regular file gives less than is asked for only at its end.
                if length < bytes.len() {
                    bytes.truncate(length);
                    return Ok(bytes);
                }
                bytes.resize(length * 2, 0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether something (not followed if a link) is there.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("look at", path),
    }
}

/// Removes a file; fine if it is gone already.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at("remove", path),
    }
}

/// 16 random hex digits.
pub(crate) fn random_name() -> Result<String> {
    let bytes: [u8; 8] = rbox_sys::random::bytes().at("read", Path::new("/dev/urandom"))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
