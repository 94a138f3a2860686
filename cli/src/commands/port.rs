//! `rbox port`

use clap::Args;
use rbox_container::Engine;

use crate::failure::Failure;

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
    /// Prints nothing: in this version no container has a network, and so none a port that is published.
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let Some(container) = self.container else { return Ok(()) };
        let name = engine.find_container(&container)?.name;
        match self.port {
            None => Ok(()),
            Some(port) => Err(Failure::new(format!("no port {port} of container {name} is published"))),
        }
    }
}

fn parse_port(text: &str) -> Result<String, &'static str> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let valid = number.parse::<u16>().is_ok_and(|number| number != 0) && matches!(protocol, "tcp" | "udp" | "sctp");
    if valid { Ok(format!("{number}/{protocol}")) } else { Err("expected a port such as 80, 80/tcp or 53/udp") }
}
