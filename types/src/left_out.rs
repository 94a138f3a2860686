//! What a layer's archive holds and its directory does not.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A device node that the layer's tar holds and its directory does not: no user may make one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Relative to the layer's root.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// Character or block.
    pub kind: NodeKind,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner as in the archive, which is as seen inside the container.
    pub uid: u32,
    /// Group as in the archive, which is as seen inside the container.
    pub gid: u32,
}

/// The two kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Like a terminal.
    Char,
    /// Like a disk.
    Block,
}

/// A path in JSON: a string, or its bytes where it is not UTF-8.
mod path_text {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Text {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => Text::Bytes(path.as_os_str().as_bytes().to_vec()).serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Text::deserialize(deserializer)? {
            Text::Text(text) => text.into(),
            Text::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}
