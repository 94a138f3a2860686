//! `rbox inspect`

use clap::{Args, ValueEnum};
use rbox_container::{Engine, Kind};
use serde_json::Value;

use crate::failure::Failure;
use crate::format::Format;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// What to look for
    #[arg(long = "type", value_name = "KIND", default_value = "all")]
    kind: Type,

    #[command(flatten)]
    what: What,
}

/// The flags of `rbox container inspect` and `rbox image inspect`, which know the kind.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// How to print: json, or a template such as '{{.State.Pid}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    format: Format,

    /// Measure, too, what a container has written, and all that it sees
    #[arg(short, long)]
    size: bool,

    /// Names, or ids or their beginnings; a container's comes before an image's
    #[arg(required = true)]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Type {
    /// A container, or else an image
    All,
    /// A container
    Container,
    /// An image
    Image,
}

impl Inspect {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let kind = match self.kind {
            Type::All => Kind::Any,
            Type::Container => Kind::Container,
            Type::Image => Kind::Image,
        };
        self.what.act(engine, kind)
    }
}

impl What {
    pub(crate) fn act(self, engine: &Engine, kind: Kind) -> Result<u8, Failure> {
        documents(self.names, self.format, |name, by_template| {
            let mut document = engine.inspect(name, kind, self.size)?;
            if by_template {
                // Go's name of the field, which templates of Docker's and Podman's may use as well.
                document["ID"] = document["Id"].clone();
            }
            Ok(document)
        })
    }
}

/// Prints a document of each name, as JSON or by a template: `document` is told which.
pub(super) fn documents(
    names: Vec<String>,
    format: Format,
    document: impl Fn(&str, bool) -> Result<Value, Failure>,
) -> Result<u8, Failure> {
    let template = match format {
        Format::Json => None,
        Format::Each(template) => Some(template),
        Format::Table | Format::Columns(_) => {
            return Err(Failure::new("inspect prints no tables: --format is json, or a template"));
        }
    };
    let mut documents = Vec::new();
    let status = super::each(names, |name| {
        let document = document(name, template.is_some())?;
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
