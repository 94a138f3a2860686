//! Rootless Podman with rbox as its runtime.
//!
//! `RBOX_TEST_RUNTIME=crun` tries them on another runtime: crun 1.8 passes all.

mod podman;

use anyhow::Result;

#[test]
#[ignore = "long: needs podman"]
fn podman_runs_in_the_foreground() -> Result<()> {
    podman::foreground()
}

#[test]
#[ignore = "long: needs podman"]
fn podman_runs_in_the_background() -> Result<()> {
    podman::background()
}

#[test]
#[ignore = "long: needs podman"]
fn podman_has_terminals() -> Result<()> {
    podman::terminals()
}

#[test]
#[ignore = "long: needs podman"]
fn podman_checks_health() -> Result<()> {
    podman::healthchecks()
}

#[test]
#[ignore = "long: needs podman"]
fn podman_has_pods() -> Result<()> {
    podman::pods()
}

#[test]
#[ignore = "long: needs podman"]
fn podman_builds() -> Result<()> {
    podman::builds()
}

#[test]
#[ignore = "long: needs podman"]
fn podman_passes_options_on() -> Result<()> {
    podman::options()
}
