//! `rbox diff`

use clap::Args;
use rbox_container::{Change, ChangeKind, Engine};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// How to print: a line for each path, with A for what was added, C for what was changed, D for what was deleted; or one
    /// JSON document
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    format: Format,

    /// The container's name or the beginning of its id
    container: String,
}

/// As Podman has it: what there is none of is left out.
#[derive(Debug, Default, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changed: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    added: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deleted: Vec<String>,
}

impl Diff {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let changes = engine.changes(&self.container)?;
        let path = |change: &Change| String::from_utf8_lossy(&change.path).into_owned();
        match self.format {
            Format::Table => {
                let letter = |kind| match kind {
                    ChangeKind::Added => 'A',
                    ChangeKind::Changed => 'C',
                    ChangeKind::Deleted => 'D',
                };
                output::lines(changes.iter().map(|change| {
                    // One line each, whatever a name has in it.
                    let path = path(change).replace('\n', "\\n");
                    format!("{} {path}", letter(change.kind))
                }))?;
            }
            Format::Json => {
                let mut report = Report::default();
                for change in &changes {
                    let list = match change.kind {
                        ChangeKind::Added => &mut report.added,
                        ChangeKind::Changed => &mut report.changed,
                        ChangeKind::Deleted => &mut report.deleted,
                    };
                    list.push(path(change));
                }
                output::json(&report)?;
            }
        }
        Ok(())
    }
}
