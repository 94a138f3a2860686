//! Where a container may go.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use rbox_container::settings::{Egress, EgressLog, EgressOption};

use crate::failure::Failure;

#[derive(Debug, Default, Args)]
pub(super) struct EgressFlags {
    /// Where the container may go, by name or address: allow=example.com,*.example.org:443,192.0.2.0/24, deny=…, or none
    /// (docs/egress.md)
    #[arg(long, value_name = "RULES")]
    egress: Vec<EgressOption>,

    /// The same from a file, with a rule in each line: allow NAME, deny NAME
    #[arg(long, value_name = "FILE")]
    egress_file: Vec<PathBuf>,

    /// Write a line of JSON for each connection that the container makes or is refused; -: to the standard error
    #[arg(long, value_name = "FILE|-")]
    egress_log: Option<EgressLog>,
}

impl EgressFlags {
    pub(super) fn take(self) -> Result<Egress, Failure> {
        let mut rules = Egress {
            options: self.egress.into_iter().map(|EgressOption(text)| text).collect(),
            log: self.egress_log,
            ..Egress::default()
        };
        if let Some(EgressLog::File(path)) = &mut rules.log {
            // A monitor is in another directory.
            *path = std::path::absolute(&*path)
                .map_err(|error| Failure::new(format!("--egress-log {}: {error}", path.display())))?;
        }
        for path in self.egress_file {
            let text = fs::read_to_string(&path)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
            let alone = Egress { files: vec![text], ..Egress::default() };
            alone.policy().map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
            rules.files.extend(alone.files);
        }
        // Each may be right, and together they contradict each other.
        rules.policy().map_err(|error| Failure::new(error.to_string()))?;
        Ok(rules)
    }
}
