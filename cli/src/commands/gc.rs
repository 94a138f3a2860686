//! `rbox gc`

use clap::Args;
use rbox_container::Engine;
use rbox_types::Exit;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// How to print
    #[arg(long, default_value = "table")]
    format: Format,
}

impl Gc {
    /// What could not be removed is told, and makes the exit status 125; the rest is removed all the same.
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let collected = engine.gc()?;
        for (path, error) in &collected.failures {
            Failure::new(format!("cannot remove {}: {error}", path.display())).print();
        }
        let status = if collected.failures.is_empty() { 0 } else { Exit::RBOX_FAILED };
        if self.format == Format::Json {
            output::json(&json!({
                "Blobs": collected.blobs,
                "Layers": collected.layers,
                "Containers": collected.containers,
                "Leases": collected.leases,
                "Bytes": collected.bytes,
            }))?;
            return Ok(status);
        }
        output::line(&format!(
            "Removed {} blobs, {} layers and the rest of {} containers and {} pulls: {}",
            collected.blobs,
            collected.layers,
            collected.containers,
            collected.leases,
            output::size(collected.bytes)
        ))?;
        Ok(status)
    }
}
