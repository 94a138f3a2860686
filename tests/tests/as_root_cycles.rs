//! What thousands of containers leave behind: nothing. By root, who has cgroups to leave.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use rbox_tests::bundle::Bundle;
use rbox_tests::patience::until;
use rbox_tests::{host, processes};
use serde_json::json;

/// Of all containers together.
const CYCLES: usize = 5000;

/// How many of them are there at once.
const AT_ONCE: usize = 2;

#[test]
#[ignore = "takes minutes"]
fn thousands_of_containers_leave_nothing() -> Result<()> {
    let mark = std::process::id().to_string();
    let bundles = (0..AT_ONCE).map(|_| bundle(&mark)).collect::<Result<Vec<_>>>()?;
    // What the first use of anything leaves open or makes for good is not what is looked for.
    bundles.iter().try_for_each(|bundle| cycle(bundle, "rbox-cycle-first"))?;
    let look = || Seen::now(&mark);
    let before = look()?;
    assert_eq!((before.processes.len(), before.cgroups.len()), (0, 0));

    thread::scope(|scope| {
        let works = bundles.iter().enumerate().map(|(at, bundle)| {
            scope.spawn(move || {
                (0..CYCLES / AT_ONCE).try_for_each(|cycles| {
                    cycle(bundle, &format!("rbox-cycle-{at}-{cycles}")).with_context(|| format!("cycle {cycles}"))
                })
            })
        });
        let works: Vec<_> = works.collect();
        works.into_iter().try_for_each(|work| work.join().expect("it does not panic"))
    })?;
    // Whoever was killed may take a moment to be gone.
    until(|| look().ok(), |after| after.as_ref() == Some(&before));
    Ok(())
}

/// The variable by which these containers' processes, and the runtime's, are told from all others.
const MARK: &str = "RBOX_TEST_CYCLES";

fn bundle(mark: &str) -> Result<Bundle> {
    let bundle = Bundle::new("exec sleep 600")?.env(MARK, mark);
    bundle.change(|config| {
        config["process"]["env"].as_array_mut().expect("a list").push(json!(format!("{MARK}={mark}")));
    })?;
    Ok(bundle)
}

fn cycle(bundle: &Bundle, id: &str) -> Result<()> {
    bundle.create(id, &[])?.exits(0);
    bundle.runtime(["start", id]).success();
    bundle.runtime(["kill", id, "KILL"]).success();
    // It is refused as long as the process is dying.
    until(|| bundle.runtime(["delete", id]).status, |status| *status == 0);
    Ok(())
}

/// All that a container could leave.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    processes: Vec<u32>,
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
    /// Those of the bundles, among which are the states and whatever is locked.
    files: BTreeSet<PathBuf>,
    /// This process's.
    descriptors: usize,
}

impl Seen {
    fn now(mark: &str) -> Result<Self> {
        let cgroups = below(Path::new("/sys/fs/cgroup")).into_iter();
        let is_ours =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rbox-cycle-"));
        Ok(Self {
            processes: processes::with_variable(&format!("{MARK}={mark}")),
            mounts: fs::read_to_string("/proc/self/mountinfo")?.lines().map(str::to_owned).collect(),
            cgroups: cgroups.filter(is_ours).collect(),
            files: below(&host::scratch_base()),
            descriptors: fs::read_dir("/proc/self/fd")?.count(),
        })
    }
}

/// All that is below a directory.
fn below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
        found.insert(entry.path());
    }
    found
}
