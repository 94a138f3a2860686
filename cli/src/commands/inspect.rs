//! `rbox inspect`

use clap::Args;
use rbox_container::Engine;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Names, or ids or their beginnings; a container's comes before an image's
    #[arg(required = true)]
    names: Vec<String>,
}

impl Inspect {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let mut documents = Vec::new();
        let status = super::each(self.names, |name| {
            documents.push(engine.inspect(name)?);
            Ok(())
        })?;
        // A list even of one, as Docker and Podman print it.
        output::json(&documents)?;
        Ok(status)
    }
}
