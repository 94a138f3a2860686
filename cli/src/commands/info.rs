//! `rbox info`, `rbox version`, `rbox doctor`

use std::path::PathBuf;

use clap::Args;
use rbox_container::Engine;
use rbox_rootless::Choice;
use rbox_types::{IdMap, Platform, ProbeState, StorageDriver};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::format::Format;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Info {
    /// How to print: table, json, or a template such as '{{.Root}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Info {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let info = engine.info()?;
        let document = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "Platform": Platform::host().to_string(),
            "Root": info.root,
            "Identity": info.identity,
            "SubidSource": info.ranges.to_string(),
            "UidMap": info.maps.uid,
            "GidMap": info.maps.gid,
            // Docker's word, and Podman's.
            "Driver": info.driver,
            "Store": { "GraphDriverName": info.driver, "GraphRoot": info.root },
            "DriverLacks": info.lacking.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "Images": info.images,
            "Containers": info.containers.0,
            "Running": info.containers.1,
            "ContainersRunning": info.containers.1,
            "ContainersStopped": info.containers.0 - info.containers.1,
        });
        if print_one(&self.format, "info", &document)? {
            return Ok(());
        }
        let map = |map: &IdMap| {
            let ranges: Vec<String> = map
                .ranges()
                .iter()
                .map(|range| format!("{}+{} → {}", range.inside, range.length, range.outside))
                .collect();
            ranges.join(", ")
        };
        let rows = [
            ["version", env!("CARGO_PKG_VERSION")].map(str::to_owned),
            ["platform".into(), Platform::host().to_string()],
            ["store".into(), info.root.display().to_string()],
            ["identity".into(), identity(&info)],
            ["uids".into(), map(&info.maps.uid)],
            ["gids".into(), map(&info.maps.gid)],
            ["storage".into(), storage(&info)],
            ["images".into(), info.images.to_string()],
            ["containers".into(), format!("{}, {} running", info.containers.0, info.containers.1)],
        ];
        Ok(output::table(["WHAT", "VALUE"], &rows)?)
    }
}

/// Whose ids, and who says so where somebody is asked.
fn identity(info: &rbox_container::Info) -> String {
    match info.identity {
        "subid" => format!("subid, from {}", info.ranges),
        other => other.to_owned(),
    }
}

/// Which driver, and why no better one.
fn storage(info: &rbox_container::Info) -> String {
    let why = |(driver, why): &(StorageDriver, String)| format!("; no {driver}: {why}");
    format!("{}{}", info.driver, info.lacking.iter().map(why).collect::<String>())
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// How to print: table, json, or a template such as '{{.Version}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Version {
    pub(crate) fn act(self) -> Result<(), Failure> {
        let (version, platform) = (env!("CARGO_PKG_VERSION"), Platform::host());
        let document = json!({
            "Version": version,
            "Platform": platform.to_string(),
            // As Docker and Podman have it, which may talk to a server somewhere else.
            "Client": {
                "Version": version,
                "Os": platform.os,
                "Arch": platform.architecture,
                "OsArch": platform.to_string(),
            },
        });
        if !print_one(&self.format, "version", &document)? {
            output::line(&format!("rbox {version} {platform}"))?;
        }
        Ok(())
    }
}

/// Prints one document, unless that is to be done as a table.
fn print_one(format: &Format, of: &str, document: &Value) -> Result<bool, Failure> {
    match format {
        Format::Table => return Ok(false),
        Format::Json => output::json(document)?,
        Format::Each(template) => output::text(&format!("{}\n", template.text(document)?))?,
        Format::Columns(_) => return Err(Failure::new(format!("{of} is no list, and has no columns to choose"))),
    }
    Ok(true)
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How to print
    #[arg(long, default_value = "table")]
    format: output::Format,
}

impl Doctor {
    /// Exit status 1 where something that every container needs is missing.
    pub(crate) fn act(self, root: Option<PathBuf>, choice: Choice) -> Result<u8, Failure> {
        let findings = rbox_container::doctor(root, choice);
        if self.format == output::Format::Json {
            output::json(&findings)?;
        } else {
            for finding in &findings {
                let sign = match finding.state {
                    ProbeState::Works => "ok      ",
                    ProbeState::Degraded => "degraded",
                    ProbeState::Missing => "MISSING ",
                };
                output::line(&format!("{sign}  {}: {}", finding.facility, finding.detail))?;
                if let Some(remedy) = &finding.remedy {
                    output::line(&format!("          mend: {remedy}"))?;
                }
            }
        }
        Ok(u8::from(findings.iter().any(|finding| finding.state == ProbeState::Missing)))
    }
}
