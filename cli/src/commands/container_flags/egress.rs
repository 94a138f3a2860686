//! Where a container may go.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use rbox_container::settings::{EgressOption, EgressRules};

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
}

impl EgressFlags {
    pub(super) fn take(self) -> Result<EgressRules, Failure> {
        let mut rules = EgressRules {
            options: self.egress.into_iter().map(|EgressOption(text)| text).collect(),
            files: Vec::new(),
        };
        for path in self.egress_file {
            let text = fs::read_to_string(&path)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
            let alone = EgressRules { options: Vec::new(), files: vec![text] };
            alone.policy().map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
            rules.files.extend(alone.files);
        }
        // Each may be right, and together they contradict each other.
        rules.policy().map_err(|error| Failure::new(error.to_string()))?;
        Ok(rules)
    }
}
