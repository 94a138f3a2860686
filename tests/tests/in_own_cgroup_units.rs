//! Units that `rbox generate systemd` makes, run by the systemd of an ordinary user.

use anyhow::Result;
use rbox_tests::units;

#[test]
#[ignore = "long: needs systemd"]
fn a_unit_runs_and_stops_its_container() -> Result<()> {
    units::a_unit_runs_and_stops_its_container()
}

#[test]
#[ignore = "long: needs systemd"]
fn what_fails_is_started_again_however_soon_it_does() -> Result<()> {
    units::what_fails_is_started_again_however_soon_it_does()
}

#[test]
#[ignore = "long: needs systemd"]
fn a_time_of_its_own_to_end() -> Result<()> {
    units::a_time_of_its_own_to_end()
}

#[test]
#[ignore = "long: needs systemd"]
fn after_a_boot_those_are_started_that_should_be() -> Result<()> {
    units::after_a_boot_those_are_started_that_should_be()
}
