//! Units that `rbox generate systemd` makes, run by root's systemd; and what a logout ends.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rbox_tests::patience::until;
use rbox_tests::rbox::{Outcome, Rbox, finish};
use rbox_tests::systemd::Logind;

rbox_tests::units_in_the_hands_of_systemd!();

/// The cgroup of a login, as it is called.
const SESSION: &str = "user.slice/user-0.slice/session-1.scope";

/// Runs the words in a cgroup that is, as far as they can see, this one; with the system's bus at this address.
fn in_cgroup(rbox: &Rbox, bus: &str, cgroup: &str, words: &[&str]) -> Result<Outcome> {
    let unique = rbox.home().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let root = Path::new("/sys/fs/cgroup").join(format!("rbox-{unique}"));
    fs::create_dir_all(root.join(cgroup))?;
    let script = "echo $$ > $0/cgroup.procs && exec unshare --cgroup sh -c 'echo $$ > $0/cgroup.procs && exec \"$@\"' \
                  \"$@\"";
    let (outer, inner) = (root.display().to_string(), root.join(cgroup).display().to_string());
    let bus = format!("DBUS_SYSTEM_BUS_ADDRESS={bus}");
    Ok(finish(&mut rbox.command_under(&["sh", "-c", script, &outer, &inner, "env", &bus], words)))
}

/// Ends what is left there, and removes it.
fn remove_cgroup(rbox: &Rbox) -> Result<()> {
    let unique = rbox.home().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let root = Path::new("/sys/fs/cgroup").join(format!("rbox-{unique}"));
    fs::write(root.join("cgroup.kill"), "1")?;
    until(|| rbox_tests::systemd::remove(&root), |gone| *gone);
    Ok(())
}

#[test]
fn what_a_logout_ends_is_told_once() -> Result<()> {
    const MANAGER: &str = "user.slice/user-0.slice/user@0.service/app.slice";
    assert!(!Path::new("/var/lib/systemd/linger/root").exists(), "root lingers here");
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["create", "--name", "box", &image, "true"]).success();
    let on_no_bus = |cgroup, words: &[&str]| in_cgroup(&rbox, "unix:path=/nowhere/bus", cgroup, words);
    // Who cannot be asked is not said to end anything; and what ends with its caller needs no note.
    let quiet = [
        on_no_bus("system.slice/a.service", &["start", "box"])?,
        on_no_bus(SESSION, &["start", "box"])?,
        on_no_bus(MANAGER, &["run", "--rm", &image, "true"])?,
    ];
    for outcome in quiet {
        assert_eq!(outcome.exits(0).stderr, "");
    }
    let told = on_no_bus(MANAGER, &["run", "-d", "--rm", &image, "true"])?.exits(0);
    assert!(told.stderr.starts_with("note: ") && told.stderr.contains("loginctl enable-linger root"), "{told:?}");
    assert_eq!(told.stderr.lines().count(), 1);
    rbox.run(["gc"]).success();
    assert_eq!(on_no_bus(MANAGER, &["run", "-d", "--rm", &image, "true"])?.exits(0).stderr, "");
    remove_cgroup(&rbox)
}

#[test]
#[ignore = "long: needs systemd"]
fn what_logind_kills_at_a_logout_is_told_once() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let told = |settings| -> Result<String> {
        let logind = Logind::start(settings)?;
        let outcome = in_cgroup(&rbox, &logind.bus(), SESSION, &["run", "-d", "--rm", &image, "true"])?;
        Ok(outcome.exits(0).stderr)
    };
    for spares_root in [
        "KillUserProcesses=no\n",
        "KillUserProcesses=yes\nKillExcludeUsers=root\n",
        "KillUserProcesses=yes\nKillOnlyUsers=daemon\n",
    ] {
        assert_eq!(told(spares_root)?, "", "{spares_root}");
    }
    const KILLS_ROOT: &str = "KillUserProcesses=yes\nKillExcludeUsers=\n";
    let note = told(KILLS_ROOT)?;
    assert!(note.contains("KillUserProcesses=yes") && note.contains("loginctl enable-linger root"), "{note}");
    assert_eq!(told(KILLS_ROOT)?, "");
    remove_cgroup(&rbox)
}
