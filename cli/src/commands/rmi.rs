//! `rbox rmi`

use clap::Args;
use rbox_container::{Engine, ImageQuery};

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Remove containers of the image that do not run, too; do not mind images that are not there
    #[arg(short, long)]
    force: bool,

    /// Do not mind images that are not there
    #[arg(short, long)]
    ignore: bool,

    /// All images
    #[arg(short, long, conflicts_with = "images")]
    all: bool,

    /// Names, or ids or their beginnings
    #[arg(required_unless_present = "all")]
    images: Vec<String>,
}

impl Rmi {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let names = match self.all {
            true => {
                let all = engine.list_images(&ImageQuery::default())?;
                all.into_iter().map(|image| image.reference.to_string()).collect()
            }
            false => self.images,
        };
        let ignored = self.force || self.ignore;
        super::each(names, |name| match engine.remove_image(name, self.force) {
            Err(error) if ignored && error.is_not_found() => Ok(()),
            removed => {
                let removed = removed?;
                output::line(&format!("Untagged: {}", removed.reference))?;
                if removed.collected.blobs > 0 {
                    output::line(&format!("Deleted: {}", removed.id))?;
                }
                Ok(())
            }
        })
    }
}
