//! `rbox ps`

use clap::Args;
use rbox_container::{
    ContainerFilters, ContainerOrder, ContainerQuery, ContainerStatus, ContainerSummary, Engine, Error,
};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::format::Format;
use crate::output;

/// Docker's and Podman's columns.
const COLUMNS: [&str; 7] = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
/// Those that are not called as their fields.
const HEADINGS: [(&str, &str); 2] = [("ID", "CONTAINER ID"), ("RunningFor", "CREATED")];

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Those that have ended, too
    #[arg(short, long)]
    all: bool,

    /// Ids alone
    #[arg(short, long)]
    quiet: bool,

    /// The newest so many, whether they run or not
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "latest")]
    last: Option<usize>,

    /// The newest, whether it runs or not
    #[arg(short, long)]
    latest: bool,

    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,

    /// No line above the columns
    #[arg(long)]
    noheading: bool,

    /// Only those that are so: ancestor=IMAGE, before=CONTAINER, exited=STATUS, health=WORD, id=ID, label=KEY[=VALUE],
    /// name=PART, network=MODE, since=CONTAINER, status=WORD, until=TIME, volume=PATH
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// By what they are ordered: created, command, id, image, names, runningfor or status
    #[arg(long, value_name = "FIELD", default_value = "created", value_parser = parse_order)]
    sort: ContainerOrder,

    /// How to print: table, json, or a template such as '{{.Names}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Ps {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let query = ContainerQuery {
            all: self.all,
            last: if self.latest { Some(1) } else { self.last },
            filters: filters(&self.filter)?,
            order: self.sort,
        };
        let containers = engine.list_containers(&query)?;
        if self.quiet {
            return Ok(output::lines(containers.iter().map(|container| self.id(container)))?);
        }
        match &self.format {
            // By itself, and not by a template: there may be thousands.
            Format::Table => {
                let heading = (!self.noheading).then(|| COLUMNS.map(str::to_owned).to_vec());
                let cells = containers.iter().map(|container| self.cells(container));
                Ok(output::aligned(&heading.into_iter().chain(cells).collect::<Vec<_>>())?)
            }
            Format::Json => Ok(output::json(&containers.iter().map(document).collect::<Vec<_>>())?),
            Format::Columns(template) => {
                template.print_columns((!self.noheading).then_some(&HEADINGS[..]), &self.rows(&containers))
            }
            Format::Each(template) => template.print_each(&self.rows(&containers)),
        }
    }

    fn rows(&self, containers: &[ContainerSummary]) -> Vec<Value> {
        containers.iter().map(|container| self.row(container)).collect()
    }

    fn cells(&self, container: &ContainerSummary) -> Vec<String> {
        let made = container.made.as_ref();
        vec![
            self.id(container).to_owned(),
            made.map(|made| made.image.to_string()).unwrap_or_default(),
            self.command(container),
            made.map(|made| output::ago(made.created)).unwrap_or_default(),
            said(container),
            String::new(),
            container.name.to_string(),
        ]
    }

    /// Quoted as by Docker; a command may hold anything, and has no lines of its own here.
    fn command(&self, container: &ContainerSummary) -> String {
        let mut command = container.made.as_ref().map(|made| made.args.join(" ")).unwrap_or_default();
        if !self.no_trunc && command.chars().count() > 20 {
            command = command.chars().take(19).chain(['…']).collect();
        }
        format!("{command:?}")
    }

    fn id<'a>(&self, container: &'a ContainerSummary) -> &'a str {
        if self.no_trunc { container.id.as_str() } else { container.id.short() }
    }

    /// What a template is given. The names are Docker's and Podman's; where the two differ in what is behind a name, it is
    /// what can be used for more.
    fn row(&self, container: &ContainerSummary) -> Value {
        let made = container.made.as_ref();
        let status = &container.status;
        let created = made.map(|made| output::ago(made.created)).unwrap_or_default();
        let mounts = made.map(|made| made.binds.iter().map(|(_, destination, _)| destination).collect::<Vec<_>>());
        json!({
            "ID": self.id(container),
            "Names": container.name,
            "Image": made.map(|made| made.image.to_string()).unwrap_or_default(),
            "ImageID": made.map(|made| made.image_id),
            "Command": self.command(container),
            "CreatedAt": made.map(|made| output::at(made.created)).unwrap_or_default(),
            "Created": created,
            "RunningFor": created,
            "StartedAt": status.started_at().map(output::at),
            "ExitedAt": status.finished_at().map(output::at),
            "Exited": matches!(status, ContainerStatus::Exited { .. } | ContainerStatus::Dead),
            "ExitCode": status.exit_code(),
            "State": status.word(),
            "Status": said(container),
            "Health": container.health_word().unwrap_or("none"),
            "Pid": status.pid(),
            "Ports": "",
            "Networks": "none",
            "Mounts": mounts.unwrap_or_default(),
            "Labels": made.map(|made| made.labels().clone()).unwrap_or_default(),
            "AutoRemove": made.is_some_and(|made| made.rm),
        })
    }
}

/// The filters that were given.
pub(crate) fn filters(given: &[String]) -> Result<ContainerFilters, Failure> {
    let mut filters = ContainerFilters::default();
    for filter in given {
        filters.add(filter).map_err(Error::from)?;
    }
    Ok(filters)
}

fn parse_order(text: &str) -> Result<ContainerOrder, &'static str> {
    Ok(match text {
        "created" => ContainerOrder::Created,
        "command" => ContainerOrder::Command,
        "id" => ContainerOrder::Id,
        "image" => ContainerOrder::Image,
        "names" | "name" => ContainerOrder::Names,
        "runningfor" => ContainerOrder::RunningFor,
        "status" => ContainerOrder::Status,
        _ => return Err("expected created, command, id, image, names, runningfor or status"),
    })
}

fn said(container: &ContainerSummary) -> String {
    match &container.status {
        ContainerStatus::Created => "Created".into(),
        ContainerStatus::Running { since, .. } | ContainerStatus::Paused { since, .. } => {
            let seconds = jiff::Timestamp::now().as_second() - since.as_second();
            let up = format!("Up {}", output::duration(seconds));
            let word = match &container.status {
                ContainerStatus::Paused { .. } => Some("Paused"),
                _ => container.health_word(),
            };
            match word {
                None => up,
                Some("starting") => format!("{up} (health: starting)"),
                Some(word) => format!("{up} ({word})"),
            }
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
        "Status": said(container),
        "Health": container.health_word().unwrap_or("none"),
        "Pid": container.status.pid(),
        "ExitCode": container.status.exit_code(),
        "StartedAt": container.status.started_at(),
        "ExitedAt": container.status.finished_at(),
        "Labels": made.map(|made| made.labels().clone()),
        "AutoRemove": made.is_some_and(|made| made.rm),
    })
}
