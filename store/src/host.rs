//! What was found out about the host that the store is on, which takes longer than to read it here.

use std::fs;

use crate::Store;
use crate::error::{IoContext, Result};
use crate::files::{create, read_if_there};

const FILE: &str = "host.json";

impl Store {
    /// What was [remembered](Self::remember_host), by whoever did so last.
    pub fn host(&self) -> Result<Option<Vec<u8>>> {
        read_if_there(&self.root.join(FILE))
    }

    /// Remembers what was found out. Those who come to it at the same time find the same.
    pub fn remember_host(&self, text: &[u8]) -> Result<()> {
        let (path, new) = (self.root.join(FILE), self.root.join(format!("{FILE}.{}", std::process::id())));
        let written = create(&new, text).and_then(|()| fs::rename(&new, &path).at("create", &path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }
}
