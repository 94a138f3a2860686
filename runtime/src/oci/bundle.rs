//! A bundle: a directory with config.json, and the root filesystem that it names.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::{Error, spelling};
use crate::directory::DirectoryRoot;

/// An opened bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Absolute.
    pub path: PathBuf,
    /// Its config.json.
    pub spec: Spec,
}

impl Bundle {
    /// Reads the bundle in the directory `path`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let path = std::fs::canonicalize(path).map_err(Error::io("find the bundle", path))?;
        let config = path.join("config.json");
        let failed = |source| Error::Bundle { path: config.clone(), source };
        let text = std::fs::read(&config).map_err(failed)?;
        let spec: Spec = spelling::parse(&text).map_err(io::Error::other).map_err(failed)?;
        // The spec is at 1.x; what a 2.0 will mean nobody knows.
        if !spec.version().starts_with("1.") {
            let why = format!("ociVersion {:?} is not 1.x", spec.version());
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        Ok(Self { path, spec })
    }

    /// The root filesystem.
    pub fn root(&self) -> Result<DirectoryRoot, Error> {
        let Some(root) = self.spec.root() else {
            return Err(Error::Usage("config: root: there is none".into()));
        };
        let path = self.path.join(root.path());
        let path = std::fs::canonicalize(&path).map_err(Error::io("find the root filesystem", path))?;
        let process = self.spec.process().as_ref();
        let env = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
        let has_home = env.iter().any(|variable| variable.starts_with("HOME="));
        let home_of = process.filter(|_| !has_home).map(|process| process.user().uid());
        Ok(DirectoryRoot { path, home_of })
    }
}
