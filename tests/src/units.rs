//! What units that `rbox generate systemd` makes do in the hands of a systemd, whoever its user is.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::detached::Detached;
use crate::patience::until;
use crate::rbox::Rbox;
use crate::systemd::Systemd;

/// Has the functions below be tests of a program, which is for one kind of user.
#[macro_export]
macro_rules! units_in_the_hands_of_systemd {
    () => {
        $crate::units_in_the_hands_of_systemd! {
            a_unit_runs_and_stops_its_container
            what_fails_is_started_again_however_soon_it_does
            a_time_of_its_own_to_end
            after_a_boot_those_are_started_that_should_be
        }
    };
    ($($name:ident)+) => {
        $(
            #[test]
            #[ignore = "long: needs systemd"]
            fn $name() -> anyhow::Result<()> {
                $crate::units::$name()
            }
        )+
    };
}

const UNIT: &str = "container-box.service";
/// Prints each of its lives, ends politely when it is asked to, and badly when it finds a file.
const SCRIPT: &str = "echo life; trap 'echo asked; exit 3' TERM; \
                      while ! test -e /fail; do sleep 0.05; done; rm /fail; exit 7";

/// Gives a systemd the unit that these arguments make.
fn install(systemd: &Systemd, rbox: &Rbox, unit: &str, arguments: &[&str]) -> Result<()> {
    let text = rbox.run([&["generate", "systemd"], arguments].concat()).success();
    fs::write(systemd.units().join(unit), text)?;
    systemd.systemctl(&["daemon-reload"]).success();
    Ok(())
}

fn state(systemd: &Systemd, unit: &str) -> (String, String) {
    (systemd.shown(unit, "ActiveState"), systemd.shown(unit, "Result"))
}

fn is_in_cgroup(pid: u32, unit: &str) -> bool {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    cgroup.lines().any(|line| line.ends_with(&format!("/{unit}")))
}

fn kill(pid: u32) -> Result<()> {
    command::run(Command::new("kill").args(["-KILL", &pid.to_string()]))
}

/// A unit's life, by systemd and by hand.
pub fn a_unit_runs_and_stops_its_container() -> Result<()> {
    let systemd = Systemd::start()?;
    let (rbox, image) = Rbox::with_small_image()?;
    let container = Detached::start(&rbox, &image, "box", &[], SCRIPT);
    rbox.run(["kill", "box"]).success();
    until(|| container.status(), |status| status == "exited");
    install(&systemd, &rbox, UNIT, &["--name", "--restart-policy", "no", "box"])?;

    systemd.systemctl(&["start", UNIT]).success();
    assert_eq!(state(&systemd, UNIT), ("active".into(), "success".into()));
    assert_eq!(container.status(), "running");
    assert_eq!(systemd.shown(UNIT, "MainPID"), container.monitor().to_string());
    assert!(is_in_cgroup(container.pid(), UNIT));
    until(|| container.logs(), |logs| logs.ends_with("life\n"));

    systemd.systemctl(&["stop", UNIT]).success();
    assert_eq!(state(&systemd, UNIT), ("inactive".into(), "success".into()));
    assert_eq!(container.inspect(&["State", "ExitCode"]), 3, "it was asked, and not killed");
    assert!(container.logs().ends_with("life\nasked\n"));

    // The same by hand, which systemd did not want and which is no failure either.
    systemd.systemctl(&["start", UNIT]).success();
    rbox.run(["stop", "box"]).success();
    until(|| state(&systemd, UNIT), |state| state.0 == "inactive");
    assert_eq!(systemd.shown(UNIT, "Result"), "success");

    systemd.systemctl(&["start", UNIT]).success();
    rbox.run(["exec", "box", "touch", "/fail"]).success();
    until(|| state(&systemd, UNIT), |state| *state == ("failed".into(), "exit-code".into()));
    assert_eq!(systemd.shown(UNIT, "ExecMainStatus"), "7");
    Ok(())
}

/// `Restart=`.
pub fn what_fails_is_started_again_however_soon_it_does() -> Result<()> {
    let systemd = Systemd::start()?;
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["create", "--name", "box", &image, "false"]).success();
    install(&systemd, &rbox, UNIT, &["--name", "--restart-policy", "no", "box"])?;
    // It ends before systemd can have been told that it runs.
    for _ in 0..10 {
        systemd.systemctl(&["start", UNIT]);
        until(|| state(&systemd, UNIT), |state| *state == ("failed".into(), "exit-code".into()));
        assert_eq!(systemd.shown(UNIT, "ExecMainStatus"), "1");
        systemd.systemctl(&["reset-failed", UNIT]).success();
    }
    rbox.run(["rm", "--force", "box"]).success();

    let container = Detached::start(&rbox, &image, "box", &[], SCRIPT);
    rbox.run(["stop", "box"]).success();
    install(&systemd, &rbox, UNIT, &["--name", "box"])?;
    systemd.systemctl(&["start", UNIT]).success();
    rbox.run(["exec", "box", "touch", "/fail"]).success();
    until(|| systemd.shown(UNIT, "NRestarts"), |restarts| restarts == "1");
    until(|| state(&systemd, UNIT), |state| state.0 == "active");
    // And what takes the monitor away.
    kill(container.monitor())?;
    until(|| systemd.shown(UNIT, "NRestarts"), |restarts| restarts == "2");
    until(|| state(&systemd, UNIT), |state| state.0 == "active");
    assert_eq!(container.status(), "running");
    systemd.systemctl(&["stop", UNIT]).success();
    assert_eq!(state(&systemd, UNIT), ("inactive".into(), "success".into()));
    Ok(())
}

/// `--stop-timeout`.
pub fn a_time_of_its_own_to_end() -> Result<()> {
    let systemd = Systemd::start()?;
    let (rbox, image) = Rbox::with_small_image()?;
    let stubborn = Detached::start(&rbox, &image, "box", &["--stop-timeout", "-1"], "exec sleep 1000");
    rbox.run(["kill", "box"]).success();
    until(|| stubborn.status(), |status| status == "exited");
    install(&systemd, &rbox, UNIT, &["--name", "--stop-timeout", "1", "box"])?;
    systemd.systemctl(&["start", UNIT]).success();
    systemd.systemctl(&["stop", UNIT]).success();
    assert_eq!(state(&systemd, UNIT), ("inactive".into(), "success".into()));
    assert_eq!(stubborn.inspect(&["State", "ExitCode"]), 137);
    Ok(())
}

/// `generate systemd --all`.
pub fn after_a_boot_those_are_started_that_should_be() -> Result<()> {
    const UNIT: &str = "rbox-restart.service";
    let systemd = Systemd::start()?;
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "trap 'echo asked; exit 3' TERM; echo life; while :; do sleep 0.05; done";
    let made = |name: &str, policy: &str| Detached::start(&rbox, &image, name, &["--restart", policy], script);
    let [always, unless_stopped, stopped, no] = [
        made("always", "always"),
        made("unless-stopped", "unless-stopped"),
        made("stopped", "unless-stopped"),
        made("no", "no"),
    ];
    for name in ["always", "stopped"] {
        rbox.run(["stop", name]).success();
    }
    for container in [&unless_stopped, &no] {
        kill(container.monitor())?;
        until(|| container.status(), |status| status == "dead");
    }
    install(&systemd, &rbox, UNIT, &["--all"])?;
    let statuses = || [&always, &unless_stopped, &stopped, &no].map(Detached::status);
    // A boot, a shutdown, and another boot.
    for _ in 0..2 {
        systemd.systemctl(&["start", UNIT]).success();
        assert_eq!(statuses(), ["running", "running", "exited", "dead"]);
        assert!([&always, &unless_stopped].iter().all(|container| is_in_cgroup(container.pid(), UNIT)));
        until(|| unless_stopped.logs(), |logs| logs.ends_with("life\n"));
        systemd.systemctl(&["stop", UNIT]).success();
        assert_eq!(state(&systemd, UNIT), ("inactive".into(), "success".into()));
        assert_eq!(statuses(), ["exited", "exited", "exited", "dead"]);
        assert!(unless_stopped.logs().ends_with("life\nasked\n"), "it was asked, and not killed");
    }
    Ok(())
}
