//! `rbox volume create`

use std::collections::BTreeMap;

use clap::Args;
use rbox_container::Engine;
use rbox_types::VolumeName;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Note something on it
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,

    /// Take the one that is there, if there is one of this name
    #[arg(long)]
    ignore: bool,

    /// Who keeps it: local, and nobody else
    #[arg(short, long, default_value = "local", hide = true)]
    driver: String,

    /// What the driver is told: there is nothing to tell
    #[arg(short, long, hide = true)]
    opt: Vec<String>,

    /// Its name [default: 64 random hex digits]
    name: Option<VolumeName>,
}

impl Create {
    pub(super) fn act(self, engine: &Engine) -> Result<(), Failure> {
        if self.driver != "local" {
            return Err(Failure::new(format!("--driver {}: there is no driver but local", self.driver)));
        }
        if let Some(option) = self.opt.first() {
            let option = option.split('=').next().unwrap_or_default();
            return Err(Failure::new(format!("--opt {option}: the driver local has no options in this version")));
        }
        let mut labels = BTreeMap::new();
        for label in &self.label {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            if key.is_empty() {
                return Err(Failure::new(format!("--label {label:?} has no key")));
            }
            labels.insert(key.to_owned(), value.to_owned());
        }
        let name = engine.create_volume(self.name.as_ref(), labels, self.ignore)?;
        Ok(output::line(name.as_str())?)
    }
}
