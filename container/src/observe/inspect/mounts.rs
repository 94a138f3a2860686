//! What is mounted in a container besides its own.

use serde_json::{Value, json};

use crate::record::Made;

/// Each in Docker's shape and names.
pub(super) fn of(made: &Made) -> Vec<Value> {
    let binds = made.binds.iter().map(|(source, destination, read_only)| {
        json!({
            "Type": "bind",
            "Source": source,
            "Destination": destination,
            "RW": !read_only,
        })
    });
    let volumes = made.volumes.iter().map(|volume| {
        json!({
            "Type": "volume",
            "Name": volume.name,
            "Source": volume.source,
            "Destination": volume.destination,
            "Driver": "local",
            "Mode": "",
            "RW": !volume.read_only,
            "Propagation": "rprivate",
        })
    });
    binds.chain(volumes).collect()
}

/// As `--volume` has them; what nobody has named, nobody has said.
pub(super) fn flags(made: &Made) -> Vec<String> {
    let flag = |source: &str, destination: &str, read_only: bool| {
        format!("{source}:{destination}{}", if read_only { ":ro" } else { "" })
    };
    let binds = made.binds.iter().map(|(source, destination, read_only)| flag(source, destination, *read_only));
    let named = made.volumes.iter().filter(|volume| !volume.anonymous);
    binds
        .chain(named.map(|volume| flag(volume.name.as_str(), &volume.destination.to_string_lossy(), volume.read_only)))
        .collect()
}
