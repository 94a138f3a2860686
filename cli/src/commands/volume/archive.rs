//! `rbox volume export`, `rbox volume import`

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;
use rbox_container::Engine;
use rbox_sys::tty;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Export {
    /// Write to this file, and not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Its name
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// Its name
    name: String,

    /// The archive, which may be compressed by gzip or zstd; - for standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,
}

impl Export {
    pub(super) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let volume = engine.find_volume(&self.name)?.volume;
        let Some(path) = self.output.filter(|path| path.as_os_str() != "-") else {
            let stdout = io::stdout();
            if tty::is_terminal(stdout.as_fd()) {
                return Err(Failure::new("an archive is nothing for a terminal: name a file with --output"));
            }
            return Ok(engine.export_volume(&volume, stdout.as_fd())?);
        };
        let failed = |error: io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
        let mut new = path.clone().into_os_string();
        new.push(".rbox-new");
        // What is there is replaced by a whole archive or by none, unless it is no regular file.
        let replaced = !path.exists() || path.is_file();
        let (at, file) = if replaced {
            (PathBuf::from(&new), File::create(&new).map_err(failed)?)
        } else {
            (path.clone(), File::options().write(true).open(&path).map_err(failed)?)
        };
        let exported = engine.export_volume(&volume, file.as_fd());
        if replaced {
            match &exported {
                Ok(()) => std::fs::rename(&at, &path).map_err(failed)?,
                Err(_) => drop(std::fs::remove_file(&at)),
            }
        }
        Ok(exported?)
    }
}

impl Import {
    pub(super) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let volume = engine.find_volume(&self.name)?.volume;
        if self.from.as_os_str() == "-" {
            return Ok(engine.import_volume(&volume, io::stdin().as_fd())?);
        }
        let failed = |error: io::Error| Failure::new(format!("cannot read {}: {error}", self.from.display()));
        let file = File::open(&self.from).map_err(failed)?;
        Ok(engine.import_volume(&volume, file.as_fd())?)
    }
}
