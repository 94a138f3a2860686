//! `rbox container exists` and `rbox image exists`

use clap::Args;
use rbox_container::{Engine, Kind};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Exists {
    /// Its name, or its id or the beginning of that
    name: String,
}

impl Exists {
    /// Prints nothing.
    pub(super) fn act(self, engine: &Engine, kind: Kind) -> Result<u8, Failure> {
        match engine.inspect(&self.name, kind, false) {
            Ok(_) => Ok(0),
            Err(error) if error.is_not_found() => Ok(1),
            Err(error) => Err(error.into()),
        }
    }
}
