//! `rbox ps`

use clap::Args;
use rbox_container::settings::PortMapping;
use rbox_container::{
    ContainerFilters, ContainerOrder, ContainerQuery, ContainerStatus, ContainerSummary, Engine, Error, Sizes,
};
use rbox_types::Digest;
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

    /// Measure, too, what each has written, and all that it sees: a column SIZE, {{.Size}}
    #[arg(short, long)]
    size: bool,

    /// No line above the columns
    #[arg(long)]
    noheading: bool,

    /// Only those that are so: ancestor=IMAGE, before=CONTAINER, exited=STATUS, health=WORD, id=ID, label=KEY[=VALUE],
    /// name=PART, network=MODE, restart-policy=POLICY, should-start-on-boot=true|false, since=CONTAINER, status=WORD,
    /// until=TIME, volume=PATH
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
        let mut listed = Vec::with_capacity(containers.len());
        for container in containers {
            let sizes = if self.size { Some(engine.sizes(&container)?) } else { None };
            listed.push(Listed { container, sizes });
        }
        match &self.format {
            // By itself, and not by a template: there may be thousands.
            Format::Table => {
                let columns = COLUMNS.into_iter().chain(self.size.then_some("SIZE"));
                let heading = (!self.noheading).then(|| columns.map(str::to_owned).collect());
                let cells = listed.iter().map(|container| self.cells(container));
                Ok(output::aligned(&heading.into_iter().chain(cells).collect::<Vec<_>>())?)
            }
            Format::Json => Ok(output::json(&listed.iter().map(document).collect::<Vec<_>>())?),
            Format::Columns(template) => {
                template.print_columns((!self.noheading).then_some(&HEADINGS[..]), &self.rows(&listed))
            }
            Format::Each(template) => template.print_each(&self.rows(&listed)),
        }
    }

    fn rows(&self, listed: &[Listed]) -> Vec<Value> {
        listed.iter().map(|listed| self.row(listed)).collect()
    }

    fn cells(&self, listed: &Listed) -> Vec<String> {
        let container = &listed.container;
        let made = container.made.as_ref();
        let mut cells = vec![
            self.id(container).to_owned(),
            made.map(|made| made.image.to_string()).unwrap_or_default(),
            self.command(container),
            made.map(|made| output::ago(made.created)).unwrap_or_default(),
            said(container),
            ports(container),
            container.name.to_string(),
        ];
        cells.extend(listed.size());
        cells
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

    /// Podman's way, without the algorithm.
    fn image_id(&self, id: &Digest) -> String {
        if self.no_trunc { id.hex() } else { id.short() }
    }

    /// What a template is given. The names are Docker's and Podman's; where the two differ in what is behind a name, it is
    /// what can be used for more.
    fn row(&self, listed: &Listed) -> Value {
        let container = &listed.container;
        let made = container.made.as_ref();
        let status = &container.status;
        let created = made.map(|made| output::ago(made.created)).unwrap_or_default();
        let mounts = made.map(|made| {
            let volumes = made.volumes.iter().map(|volume| volume.destination.display().to_string());
            made.binds.iter().map(|(_, destination, _)| destination.clone()).chain(volumes).collect::<Vec<_>>()
        });
        json!({
            "ID": self.id(container),
            "Names": container.name,
            "Image": made.map(|made| made.image.to_string()).unwrap_or_default(),
            "ImageID": made.map(|made| self.image_id(&made.image_id)),
            "Command": self.command(container),
            "CreatedAt": made.map(|made| output::at(made.created)).unwrap_or_default(),
            "Created": created,
            "RunningFor": created,
            "StartedAt": status.started_at().map(output::at),
            "ExitedAt": status.finished_at().map(output::at),
            "Exited": matches!(status, ContainerStatus::Exited { .. } | ContainerStatus::Dead),
            "ExitCode": status.exit_code(),
            "OOMKilled": container.hits.oom_kills > 0,
            "State": status.word(),
            "Status": said(container),
            "Health": container.health_word().unwrap_or("none"),
            "Pid": status.pid(),
            "Ports": ports(container),
            "Networks": made.map_or("none", |made| made.network().word()),
            "Mounts": mounts.unwrap_or_default(),
            "Labels": made.map(|made| made.labels().clone()).unwrap_or_default(),
            "AutoRemove": made.is_some_and(|made| made.rm),
            "Size": listed.size().unwrap_or_default(),
        })
    }
}

/// Those that are published, of one that runs.
fn ports(container: &ContainerSummary) -> String {
    let made = container.made.as_ref().filter(|_| container.status.is_alive());
    made.map(|made| made.ports().iter().map(PortMapping::both_sides).collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

/// A container, and its sizes where they are asked for.
struct Listed {
    container: ContainerSummary,
    sizes: Option<Sizes>,
}

impl Listed {
    /// As Docker says it.
    fn size(&self) -> Option<String> {
        let sizes = self.sizes.as_ref()?;
        Some(format!("{} (virtual {})", output::size(sizes.written), output::size(sizes.seen)))
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
        ContainerStatus::Exited { at, exit } => {
            let killed = if container.hits.oom_kills > 0 { " (OOMKilled)" } else { "" };
            format!("Exited ({}) {}{killed}", exit.status(), output::ago(*at))
        }
        ContainerStatus::Dead => "Dead".into(),
    }
}

/// The names are Podman's.
fn document(listed: &Listed) -> Value {
    let container = &listed.container;
    let made = container.made.as_ref();
    let mut document = json!({
        "Id": container.id,
        "Names": [container.name],
        "Image": made.map(|made| made.image.clone()),
        "ImageID": made.map(|made| made.image_id.hex()),
        "Command": made.map(|made| made.args.clone()),
        "Created": made.map(|made| made.created),
        "State": container.status.word(),
        "Status": said(container),
        "Health": container.health_word().unwrap_or("none"),
        "Pid": container.status.pid(),
        "ExitCode": container.status.exit_code(),
        "OOMKilled": container.hits.oom_kills > 0,
        "StartedAt": container.status.started_at(),
        "ExitedAt": container.status.finished_at(),
        "Labels": made.map(|made| made.labels().clone()),
        "AutoRemove": made.is_some_and(|made| made.rm),
    });
    if let Some(sizes) = &listed.sizes {
        document["Size"] = json!({ "rwSize": sizes.written, "rootFsSize": sizes.seen });
    }
    document
}
