//! The words that every other crate speaks: pure data and parsing, no I/O.
//!
//! A value of one of these types is valid by construction; nothing below this crate checks it again.

mod container;
mod digest;
mod exit;
mod idmap;
mod left_out;
pub mod mountinfo;
mod platform;
mod probe;
mod reference;
mod storage_driver;
mod volume;

pub use container::{ContainerId, ContainerName, InvalidContainerId, InvalidContainerName};
pub use digest::{ChainId, DiffId, Digest, InvalidDigest, chain_ids};
pub use exit::Exit;
pub use idmap::{IdMap, IdMaps, IdRange, InvalidIdMap};
pub use left_out::{LeftOut, NodeKind};
pub use platform::{InvalidPlatform, Platform};
pub use probe::{Finding, ProbeState};
pub use reference::{InvalidReference, Reference};
pub use storage_driver::StorageDriver;
pub use volume::{FirstUse, InvalidVolumeName, VolumeName};
