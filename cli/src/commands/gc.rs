//! `rbox gc`

use clap::Args;
use rbox_container::Engine;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, Format};

/// Remove what no image and no container needs
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// How to print
    #[arg(long, default_value = "table")]
    format: Format,
}

impl Gc {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let collected = engine.gc()?;
        if self.format == Format::Json {
            return Ok(output::json(&json!({
                "Blobs": collected.blobs,
                "Layers": collected.layers,
                "Containers": collected.containers,
                "Leases": collected.leases,
                "Bytes": collected.bytes,
            }))?);
        }
        Ok(output::line(&format!(
            "Removed {} blobs, {} layers and the rest of {} containers and {} pulls: {}",
            collected.blobs,
            collected.layers,
            collected.containers,
            collected.leases,
            output::size(collected.bytes)
        ))?)
    }
}
