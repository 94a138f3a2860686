//! As escapes.rs: what only root's containers could lose.

use std::process::{Command, Stdio};

use anyhow::Result;
use rbox_tests::bundle::Bundle;
use rbox_tests::host;
use rbox_tests::rbox::{Outcome, Rbox, finish};

/// The caller's groups are not the workload's: with them it could read what they may.
///
/// To see it fail: take `ids::set_groups` out of `worker::become_root` (rootless) and of `exec::become_user` (runtime). It
/// then prints "4242 4343".
#[test]
fn the_callers_groups_are_dropped() -> Result<()> {
    assert_eq!(host::uid(), 0, "run by cargo xtask test as root");
    let groups =
        |outcome: Outcome| -> Vec<String> { outcome.success().split_whitespace().skip(1).map(str::to_owned).collect() };
    let bundle = Bundle::new("grep ^Groups: /proc/self/status")?;
    bundle.change(|config| {
        config["linux"]["namespaces"].as_array_mut().expect("a list").retain(|namespace| namespace["type"] != "user");
        let linux = config["linux"].as_object_mut().expect("an object");
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    })?;
    let with_groups = |arguments: &[&str]| {
        let command = bundle.command(arguments);
        let mut under = Command::new("setpriv");
        under.args(["--groups", "4242,4343"]).arg(command.get_program()).args(command.get_args());
        finish(under.current_dir(bundle.path()).stdin(Stdio::null()))
    };
    assert!(groups(with_groups(&["run", "escapes-groups"])).is_empty());
    bundle.create("escapes-created", &[])?.exits(0);
    let arguments = ["exec", "escapes-created", "grep", "^Groups:", "/proc/self/status"];
    assert!(groups(with_groups(&arguments)).is_empty());

    let (rbox, name) = Rbox::with_small_image()?;
    let under = ["setpriv", "--groups", "4242,4343"];
    let mut command = rbox.command_under(&under, ["run", "--rm", &name, "grep", "^Groups:", "/proc/self/status"]);
    // Those that the image gives its root; another one of the caller's would be shown as 65534.
    let seen = groups(finish(command.stdin(Stdio::null())));
    assert!(seen.contains(&"0".into()) && !seen.contains(&"65534".into()), "{seen:?}");
    Ok(())
}
