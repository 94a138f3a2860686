//! `rbox ps`

use clap::Args;
use rbox_container::{ContainerStatus, ContainerSummary, Engine};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Those that have ended, too
    #[arg(short, long)]
    all: bool,

    /// Ids alone
    #[arg(short, long)]
    quiet: bool,

    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,

    /// How to print
    #[arg(long, default_value = "table")]
    format: Format,
}

impl Ps {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let mut containers = engine.containers()?;
        if !self.all {
            containers.retain(|container| matches!(container.status, ContainerStatus::Running { .. }));
        }
        if self.quiet {
            return containers.iter().try_for_each(|container| Ok(output::line(self.id(container))?));
        }
        if self.format == Format::Json {
            return Ok(output::json(&containers.iter().map(document).collect::<Vec<_>>())?);
        }
        let rows: Vec<_> = containers.iter().map(|container| self.row(container)).collect();
        Ok(output::table(["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"], &rows)?)
    }

    fn id<'a>(&self, container: &'a ContainerSummary) -> &'a str {
        if self.no_trunc { container.id.as_str() } else { container.id.short() }
    }

    fn row(&self, container: &ContainerSummary) -> [String; 6] {
        let made = container.made.as_ref();
        let mut command = made.map(|made| made.args.join(" ")).unwrap_or_default();
        if !self.no_trunc && command.chars().count() > 20 {
            command = command.chars().take(19).chain(['…']).collect();
        }
        [
            self.id(container).to_owned(),
            made.map(|made| made.image.to_string()).unwrap_or_default(),
            // Quoted as by Docker; a command may hold anything, and a terminal shall not act on it.
            format!("{command:?}"),
            made.map(|made| output::ago(made.created)).unwrap_or_default(),
            status(&container.status),
            container.name.to_string(),
        ]
    }
}

fn status(status: &ContainerStatus) -> String {
    match status {
        ContainerStatus::Created => "Created".into(),
        ContainerStatus::Running { since, .. } => {
            let seconds = jiff::Timestamp::now().as_second() - since.as_second();
            format!("Up {}", output::duration(seconds))
        }
        ContainerStatus::Restarting { at, exit } => {
            format!("Restarting ({}) {}", exit.status(), output::ago(*at))
        }
        ContainerStatus::Exited { at, exit } => format!("Exited ({}) {}", exit.status(), output::ago(*at)),
        ContainerStatus::Dead => "Dead".into(),
    }
}

/// The names are Podman's.
fn document(container: &ContainerSummary) -> Value {
    let made = container.made.as_ref();
    json!({
        "Id": container.id,
        "Names": [container.name],
        "Image": made.map(|made| made.image.clone()),
        "ImageID": made.map(|made| made.image_id),
        "Command": made.map(|made| made.args.clone()),
        "Created": made.map(|made| made.created),
        "State": container.status.word(),
        "Status": status(&container.status),
        "Pid": container.status.pid(),
        "ExitCode": container.status.exit_code(),
        "StartedAt": container.status.started_at(),
        "ExitedAt": container.status.finished_at(),
    })
}
