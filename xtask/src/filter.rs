//! Whether a filter stands for any test: of one that is misspelt, "all passed" would be true and mean nothing.

use std::process::Command;

use anyhow::{Result, bail};
use rbox_tests::command::read;

/// Fails where no test has a name that holds `filter`, or none that would run without `--long`.
///
/// `listings` are commands to which libtest's own options can be added.
pub(crate) fn check(filter: &str, long: bool, listings: &mut [Command]) -> Result<()> {
    let (mut all, mut long_ones) = (0, 0);
    for listing in listings {
        all += count(&read(listing.args(["--list", "--format=terse"]))?);
        // Once more, with what is ignored alone.
        long_ones += count(&read(listing.arg("--ignored"))?);
    }
    match all {
        0 => bail!("no test's name holds {filter:?}"),
        _ if all == long_ones && !long => bail!("all tests whose names hold {filter:?} take long: add --long"),
        _ => Ok(()),
    }
}

/// How many tests are listed, a line each: `name: test`.
fn count(list: &str) -> usize {
    list.lines().filter(|line| line.ends_with(": test")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists one test, which is a long one or not.
    fn listing(long: bool) -> Command {
        let mut command = Command::new("sh");
        let of_ignored = if long { "echo b: test" } else { "true" };
        command.args([
            "-c",
            &format!("case \"$*\" in *--ignored) {of_ignored};; *) echo b: test; echo c: benchmark;; esac"),
        ]);
        command.arg("sh");
        command
    }

    #[test]
    fn a_filter_must_stand_for_a_test_that_runs() -> Result<()> {
        check("b", false, &mut [listing(true), listing(false)])?;
        check("b", true, &mut [listing(true)])?;
        let none = check("typo", true, &mut [Command::new("true")]).expect_err("nothing is listed");
        assert_eq!(none.to_string(), "no test's name holds \"typo\"");
        let long = check("b", false, &mut [listing(true)]).expect_err("only a long one is listed");
        assert!(long.to_string().ends_with("take long: add --long"), "{long}");
        Ok(())
    }
}
