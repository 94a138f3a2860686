//! `rbox images`

use clap::Args;
use rbox_container::{Engine, ImageSummary};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,

    /// The digests under which the registry has them, too
    #[arg(long)]
    digests: bool,

    /// Whole ids
    #[arg(long)]
    no_trunc: bool,

    /// How to print
    #[arg(long, default_value = "table")]
    format: Format,
}

impl Images {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let images = engine.images()?;
        if self.quiet {
            return images.iter().try_for_each(|image| Ok(output::line(&self.id(image))?));
        }
        if self.format == Format::Json {
            return Ok(output::json(&images.iter().map(document).collect::<Vec<_>>())?);
        }
        let cells = |image: &ImageSummary| {
            let created = image.created.map(output::ago).unwrap_or_default();
            let size = output::size(image.size.unwrap_or(image.packed_size));
            (image.reference.name(), tag(image), self.id(image), created, size)
        };
        if self.digests {
            let rows: Vec<_> = images
                .iter()
                .map(|image| {
                    let (name, tag, id, created, size) = cells(image);
                    [name, tag, image.digest.to_string(), id, created, size]
                })
                .collect();
            return Ok(output::table(["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"], &rows)?);
        }
        let rows: Vec<_> = images
            .iter()
            .map(|image| {
                let (name, tag, id, created, size) = cells(image);
                [name, tag, id, created, size]
            })
            .collect();
        Ok(output::table(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows)?)
    }

    fn id(&self, image: &ImageSummary) -> String {
        if self.no_trunc { image.id.to_string() } else { image.id.short() }
    }
}

fn tag(image: &ImageSummary) -> String {
    image.reference.tag().unwrap_or("<none>").to_owned()
}

fn document(image: &ImageSummary) -> Value {
    json!({
        "Id": image.id,
        "Names": [image.reference],
        "Repository": image.reference.name(),
        "Tag": image.reference.tag(),
        "Digest": image.digest,
        "Platform": image.platform.to_string(),
        "Created": image.created,
        "Size": image.size,
        "PackedSize": image.packed_size,
    })
}
