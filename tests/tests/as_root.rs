//! Run by root: a user namespace all the same.

use anyhow::Result;
use rbox_tests::rbox::Rbox;
use rbox_tests::{alpine, host};

#[test]
fn root_outside_is_not_root_over_the_host() -> Result<()> {
    assert_eq!(host::uid(), 0, "run by cargo xtask test as root");
    let (rbox, name) = Rbox::with_image(&alpine::small()?, "latest", "t/small:1")?;
    let seen =
        rbox.run(["run", "--rm", &name, "sh", "-c", "id -u; readlink /proc/self/ns/user; cat /proc/self/uid_map"]);
    let seen = seen.success();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "0");
    let outside = std::fs::read_link("/proc/self/ns/user")?;
    assert_ne!(lines[1], outside.to_string_lossy());
    // The whole machine's ids, mapped to themselves, would be no namespace to speak of.
    assert!(!lines[2].ends_with("4294967295"), "{seen}");
    Ok(())
}

#[test]
fn alpine_runs_and_goes() -> Result<()> {
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    let script = "touch /f && chown 1000:2000 /f && stat -c '%u %g' /f; apk info -e musl";
    assert_eq!(rbox.run(["run", "--rm", &name, "sh", "-c", script]).success(), "1000 2000\nmusl\n");
    rbox.run(["rmi", &name]).success();
    rbox.run(["gc"]).success();
    assert_eq!(rbox.layers(), Vec::<String>::new());
    Ok(())
}
