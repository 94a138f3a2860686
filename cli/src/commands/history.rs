//! `rbox history`

use clap::{ArgAction, Args};
use rbox_container::{Engine, Step};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::format::Format;
use crate::output;

const COLUMNS: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const HEADINGS: [(&str, &str); 3] = [("ID", "IMAGE"), ("CreatedSince", "CREATED"), ("CreatedBy", "CREATED BY")];
/// What is shown of a step whose image is not known, as Docker does.
const MISSING: &str = "<missing>";
/// So much of a command is shown.
const SHOWN: usize = 45;

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,

    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,

    /// Sizes and times for people; false for bytes and RFC 3339
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = ArgAction::Set)]
    human: bool,

    /// How to print: table, json, or a template such as '{{.CreatedBy}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,

    /// The image's name, or its id or the beginning of that
    image: String,
}

impl History {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let steps = engine.image_history(&self.image)?;
        if self.quiet {
            return Ok(output::lines(steps.iter().map(|step| self.id(step)))?);
        }
        let rows: Vec<Value> = steps.iter().map(|step| self.row(step)).collect();
        self.format.print(COLUMNS, &HEADINGS, true, &rows, || steps.iter().map(document).collect())
    }

    fn id(&self, step: &Step) -> String {
        match step.id {
            None => MISSING.to_owned(),
            Some(id) if self.no_trunc => id.to_string(),
            Some(id) => id.short(),
        }
    }

    /// What a template is given.
    fn row(&self, step: &Step) -> Value {
        let at = step.created.map(|time| time.to_string()).unwrap_or_default();
        let since = if self.human { step.created.map(output::ago).unwrap_or_default() } else { at.clone() };
        let size = if self.human { output::size(step.size) } else { step.size.to_string() };
        let command = if self.no_trunc { step.created_by.clone() } else { shortened(&step.created_by) };
        json!({
            "ID": self.id(step),
            "Created": since,
            "CreatedSince": since,
            "CreatedAt": at,
            "CreatedBy": command,
            "Size": size,
            "Comment": step.comment,
            "Tags": step.names,
        })
    }
}

/// A command, in one line that is not too long.
fn shortened(command: &str) -> String {
    let line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        None => line,
        Some(_) => line.chars().take(SHOWN - 1).chain(['…']).collect(),
    }
}

fn document(step: &Step) -> Value {
    json!({
        "id": step.id.map_or_else(|| MISSING.to_owned(), |id| id.hex().to_owned()),
        "created": step.created,
        "createdBy": step.created_by,
        "size": step.size,
        "comment": step.comment,
        "tags": step.names,
    })
}
