//! `rbox kill`

use clap::Args;
use rbox_container::{ContainerQuery, Engine};
use rbox_sys::signal::Signal;

use super::chosen::Chosen;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// The signal, by its name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = parse_signal)]
    signal: Signal,

    /// All containers that run
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    chosen: Chosen,
}

impl Kill {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let names = match self.all {
            true => {
                let running = engine.list_containers(&ContainerQuery::default())?;
                running.into_iter().map(|container| container.id.to_string()).collect()
            }
            false => self.chosen.names(engine, false)?,
        };
        super::each(names, |name| {
            engine.signal_container(name, self.signal)?;
            Ok(output::line(name)?)
        })
    }
}

pub(super) fn parse_signal(text: &str) -> Result<Signal, &'static str> {
    Signal::parse(text).ok_or("expected a signal's name or number, such as TERM, SIGTERM or 15")
}
