//! The floors: a crate uses those on the floors below it and no other, and only the lowest talks to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rbox_tests::host;

/// Lowest first. Crates on one floor never use each other.
const FLOORS: &[&[&str]] = &[
    &["types", "fuzz"],
    &["sys"],
    &["store", "rootless"],
    &["image", "overlay", "runtime", "net-slirp"],
    &["container"],
    &["cli"],
];

/// Crates that stand beside the building, and what of it they may use: they drive the binary from outside.
const BESIDE: &[(&str, &[&str])] = &[("tests", &["fuzz", "sys"]), ("xtask", &["sys", "tests"])];

#[test]
fn every_crate_keeps_to_its_floor() {
    let mut wrong = Vec::new();
    for (name, uses) in crates() {
        let allowed: BTreeSet<&str> = match BESIDE.iter().find(|(beside, _)| *beside == name) {
            Some((_, allowed)) => allowed.iter().copied().collect(),
            None => {
                let floor = FLOORS.iter().position(|floor| floor.contains(&name.as_str()));
                let floor = floor.unwrap_or_else(|| panic!("the crate {name} has no floor yet; give it one in FLOORS"));
                FLOORS[..floor].iter().flat_map(|floor| floor.iter().copied()).collect()
            }
        };
        wrong.extend(
            uses.iter().filter(|used| !allowed.contains(used.as_str())).map(|used| format!("{name} uses {used}")),
        );
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn only_sys_talks_to_the_kernel() {
    let mut wrong = Vec::new();
    let mut in_sys = 0;
    for name in crates().keys() {
        for file in sources(&host::source_root().join(name)) {
            let text = fs::read_to_string(&file).expect("readable");
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
                let raw = ["unsafe", "libc", "rustix", "nix"].iter().any(|word| words.contains(word));
                // None of these is part of what is delivered, and what the others have of nix and rustix is safe.
                let beside = ["tests/tests/layering.rs", "tests/tests/tracer/mod.rs", "tests/src/calls.rs"];
                if !raw || beside.iter().any(|path| file.ends_with(path)) {
                    continue;
                }
                if name == "sys" {
                    in_sys += 1;
                } else {
                    wrong.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(in_sys > 0, "nothing was looked at");
    assert!(wrong.is_empty(), "outside sys/:\n{}", wrong.join("\n"));
}

/// Each member of the workspace, and the members that its manifest names.
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let root = fs::read_to_string(host::source_root().join("Cargo.toml")).expect("the workspace's manifest");
    let members = root.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() >= 11, "{members:?}");
    let uses = |name: &str| {
        let manifest = host::source_root().join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).expect("a member's manifest");
        let names = manifest.lines().filter_map(|line| line.strip_prefix("rbox-"));
        names.map(|line| line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned()).collect()
    };
    members.into_iter().map(|name| (name.to_owned(), uses(name))).collect()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory of the source tree").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
