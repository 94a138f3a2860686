//! `rbox export`

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use rbox_container::Engine;
use rbox_sys::whole::NewFile;
use rbox_sys::{dir, tty};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Write the archive to this file, which appears when it is whole [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The container's name or the beginning of its id
    container: String,
}

impl Export {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let Some(path) = self.output else {
            let stdout = io::stdout();
            if tty::is_terminal(stdout.as_fd()) {
                return Err(Failure::new(
                    "refusing to export to terminal: give a file with -o, or redirect standard output",
                ));
            }
            return Ok(engine.export(&self.container, stdout.as_fd())?);
        };
        let failed = |error: io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
        // A device or a pipe is written to as it is.
        if path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            return Ok(engine.export(&self.container, file.as_fd())?);
        }
        let Some(name) = path.file_name() else {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        };
        // Through a link, and not in its place.
        let target = path.canonicalize().unwrap_or_else(|_| path.clone());
        if target.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = dir::open(parent).map_err(failed)?;
        let new = NewFile::create(parent.as_fd(), 0o600).map_err(failed)?;
        engine.export(&self.container, new.file().as_fd())?;
        new.file().flush().map_err(failed)?;
        new.publish(target.file_name().unwrap_or(name).as_bytes()).map_err(failed)
    }
}
