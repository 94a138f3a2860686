//! `rbox audit`

use std::io;

use clap::Args;
use oci_spec::runtime::Capability;
use rbox_container::Engine;
use rbox_container::audit::{Audit as Found, Kind, Posture};
use rbox_types::IdMap;

use crate::failure::Failure;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// A running container's name or id; else an image's, to see what it would get without flags
    name: String,

    /// A table, or JSON
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Audit {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let found = engine.audit(&self.name)?;
        match self.format {
            Format::Json => output::json(&found)?,
            Format::Table => print(&found)?,
        }
        Ok(())
    }
}

fn print(found: &Found) -> io::Result<()> {
    let posture = &found.posture;
    let what = match (found.kind, found.pid) {
        (Kind::Container, Some(pid)) => format!("container {}, process {pid}", found.name),
        (Kind::Container, None) => format!("container {}", found.name),
        (Kind::Image, _) => format!("image {}, run without flags", found.name),
    };
    let rows = [
        row("What", &what),
        row("Ids", &ids(posture)),
        row("Capabilities in force", &capabilities(&posture.capabilities.effective)),
        row("  may be raised", &capabilities(&posture.capabilities.permitted)),
        row("  inheritable", &capabilities(&posture.capabilities.inheritable)),
        row("  bounding", &capabilities(&posture.capabilities.bounding)),
        row("  ambient", &capabilities(&posture.capabilities.ambient)),
        row("Seccomp", &seccomp(posture)),
        row("no_new_privs", if posture.no_new_privileges { "set" } else { "not set" }),
        row("Label", posture.label.as_deref().unwrap_or("none")),
        row("Masked", &words(&posture.masked_paths)),
        row("Read-only", &words(&posture.readonly_paths)),
        row("Own namespaces", &namespaces(posture, true)),
        row("Host's namespaces", &namespaces(posture, false)),
    ];
    for line in output::columns(["", ""], &rows).iter().skip(1) {
        output::line(line)?;
    }
    output::line("")?;
    let mounts: Vec<[String; 4]> = posture
        .mounts
        .iter()
        .map(|mount| [&mount.destination, &mount.kind, &mount.root, &mount.options.join(",")].map(|cell| visible(cell)))
        .collect();
    output::table(["MOUNTED ON", "TYPE", "PART", "OPTIONS"], &mounts)?;
    output::line("")?;
    if found.differences.is_empty() {
        return output::line("As Docker's default.");
    }
    let differences: Vec<[String; 4]> = found
        .differences
        .iter()
        .map(|one| [one.aspect, one.effect.word(), &one.docker, &one.here].map(visible))
        .collect();
    output::table(["DIFFERENCE", "IS", "DOCKER'S DEFAULT", "HERE"], &differences)
}

fn row(name: &str, value: &str) -> [String; 2] {
    [name.to_owned(), visible(value)]
}

/// What a workload has named is not to write on the terminal in its own way.
fn visible(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn words(list: &[String]) -> String {
    if list.is_empty() { "nothing".into() } else { list.join(" ") }
}

fn capabilities(set: &[Capability]) -> String {
    if set.is_empty() { "none".into() } else { set.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ") }
}

fn ids(posture: &Posture) -> String {
    let ids = &posture.ids;
    let who = match (ids.uid, &ids.user) {
        (Some(uid), _) => format!("{uid}:{}", ids.gid.map_or_else(|| "?".into(), |gid| gid.to_string())),
        (None, Some(user)) => user.clone(),
        (None, None) => "one that the container has no id for".into(),
    };
    let map = |map: &Option<IdMap>| {
        let ranges = map.as_ref().map(IdMap::ranges).unwrap_or_default();
        let ranges: Vec<String> =
            ranges.iter().map(|range| format!("{}→{} ({})", range.inside, range.outside, range.length)).collect();
        ranges.join(", ")
    };
    format!("{who}; users {}; groups {}", map(&ids.uid_map), map(&ids.gid_map))
}

fn seccomp(posture: &Posture) -> String {
    use rbox_container::audit::SeccompMode::{Disabled, Filter, Strict};
    let seccomp = &posture.seccomp;
    match seccomp.mode {
        Disabled => "every system call".into(),
        Strict => "read, write and exit".into(),
        Filter => {
            let filters = seccomp.filters.map_or_else(
                || "a filter".into(),
                |count| match count {
                    1 => "1 filter".to_owned(),
                    count => format!("{count} filters"),
                },
            );
            seccomp.profile.as_ref().map_or_else(|| filters.clone(), |profile| format!("{filters}; profile: {profile}"))
        }
    }
}

fn namespaces(posture: &Posture, own: bool) -> String {
    let these = posture.namespaces.iter().filter(|(_, namespace)| namespace.own == own);
    words(&these.map(|(kind, _)| kind.clone()).collect::<Vec<_>>())
}
