//! `rbox port`

use clap::Args;
use rbox_container::settings::PortMapping;
use rbox_container::{ContainerQuery, ContainerSummary, Engine};

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Port {
    /// Of all containers that run
    #[arg(short, long, conflicts_with = "container")]
    all: bool,

    /// The container's name or the beginning of its id
    #[arg(required_unless_present = "all")]
    container: Option<String>,

    /// Only this port of the container
    #[arg(value_name = "PORT[/PROTOCOL]", value_parser = parse_port)]
    port: Option<String>,
}

impl Port {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let Some(container) = &self.container else {
            let running = engine.list_containers(&ContainerQuery::default())?;
            return Ok(output::lines(running.iter().flat_map(lines_with_id))?);
        };
        let (name, ports) = engine.published_ports(container)?;
        let Some(port) = &self.port else { return Ok(output::lines(ports.iter().map(line))?) };
        let wanted: Vec<String> =
            ports.iter().filter(|mapping| mapping.to_string() == *port).map(PortMapping::host_side).collect();
        match wanted[..] {
            [] => Err(Failure::new(format!("no port {port} of container {name} is published"))),
            _ => Ok(output::lines(wanted.iter())?),
        }
    }
}

fn line(mapping: &PortMapping) -> String {
    format!("{mapping} -> {}", mapping.host_side())
}

fn lines_with_id(container: &ContainerSummary) -> Vec<String> {
    let ports = container.made.as_ref().map(|made| made.ports()).unwrap_or_default();
    ports.iter().map(|mapping| format!("{}\t{}", container.id.short(), line(mapping))).collect()
}

fn parse_port(text: &str) -> Result<String, &'static str> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let valid = number.parse::<u16>().is_ok_and(|number| number != 0) && matches!(protocol, "tcp" | "udp" | "sctp");
    if valid { Ok(format!("{number}/{protocol}")) } else { Err("expected a port such as 80, 80/tcp or 53/udp") }
}
