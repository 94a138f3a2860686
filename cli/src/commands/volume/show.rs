//! `rbox volume inspect`, `rbox volume exists`

use clap::Args;
use rbox_container::Engine;

use crate::commands::each;
use crate::failure::Failure;
use crate::format::Format;
use crate::output;

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
        let template = match self.format {
            Format::Json => None,
            Format::Each(template) => Some(template),
            Format::Table | Format::Columns(_) => {
                return Err(Failure::new("inspect prints no tables: --format is json, or a template"));
            }
        };
        let names = if self.all {
            engine.list_volumes(&Default::default())?.into_iter().map(|all| all.volume.name.to_string()).collect()
        } else {
            self.names
        };
        let mut documents = Vec::new();
        let status = each(names, |name| {
            let document = engine.find_volume(name)?.document();
            match &template {
                Some(template) => output::text(&format!("{}\n", template.text(&document)?))?,
                None => documents.push(document),
            }
            Ok(())
        })?;
        if template.is_none() {
            // A list even of one, as Docker and Podman print it.
            output::json(&documents)?;
        }
        Ok(status)
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
