//! `rbox volume ls`

use clap::Args;
use rbox_container::{Engine, Error, VolumeFilters, VolumeSummary};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::format::Format;
use crate::output;

const COLUMNS: &str = "{{.Driver}}\t{{.Name}}";
const HEADINGS: [(&str, &str); 1] = [("Name", "VOLUME NAME")];

#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Names alone
    #[arg(short, long)]
    quiet: bool,

    /// No line above the columns
    #[arg(short, long)]
    noheading: bool,

    /// Only those that are so: anonymous=BOOL, dangling=BOOL (no container uses it), driver=DRIVER, label=KEY[=VALUE],
    /// label!=KEY[=VALUE], name=NAME, until=TIME
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// How to print: table, json, or a template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Ls {
    pub(super) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let mut filters = VolumeFilters::default();
        for filter in &self.filter {
            filters.add(filter).map_err(Error::from)?;
        }
        let volumes = engine.list_volumes(&filters)?;
        if self.quiet {
            return Ok(output::lines(volumes.iter().map(|listed| listed.volume.name.as_str()))?);
        }
        let rows: Vec<Value> = volumes.iter().map(row).collect();
        let documents = || volumes.iter().map(VolumeSummary::document).collect();
        self.format.print(COLUMNS, &HEADINGS, !self.noheading, &rows, documents)
    }
}

/// What a template is given.
fn row(listed: &VolumeSummary) -> Value {
    let mut row = listed.document();
    row["CreatedAt"] = json!(output::at(listed.volume.record.created));
    row["Anonymous"] = json!(listed.volume.record.anonymous);
    row
}
