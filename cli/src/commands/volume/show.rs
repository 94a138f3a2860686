//! `rbox volume inspect`, `rbox volume exists`

use clap::Args;
use rbox_container::Engine;

use crate::commands::inspect::documents;
use crate::failure::Failure;
use crate::format::Format;

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// How to print: json, or a template such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    format: Format,

    /// All volumes
    #[arg(short, long)]
    all: bool,

    /// Their names
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Exists {
    /// Its name
    name: String,
}

impl Inspect {
    pub(super) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let names = if self.all {
            engine.list_volumes(&Default::default())?.into_iter().map(|all| all.volume.name.to_string()).collect()
        } else {
            self.names
        };
        documents(names, self.format, |name, _| Ok(engine.find_volume(name)?.document()))
    }
}

impl Exists {
    /// Prints nothing.
    pub(super) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        match engine.find_volume(&self.name) {
            Ok(_) => Ok(0),
            Err(error) if error.is_not_found() => Ok(1),
            Err(error) => Err(error.into()),
        }
    }
}
