//! `rbox rmi`

use clap::Args;
use rbox_container::Engine;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Remove containers of the image that do not run, too; do not mind images that are not there
    #[arg(short, long)]
    force: bool,

    /// Names, or ids or their beginnings
    #[arg(required = true)]
    images: Vec<String>,
}

impl Rmi {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        super::each(self.images, |name| match engine.remove_image(name, self.force) {
            Err(error) if self.force && error.is_not_found() => Ok(()),
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
