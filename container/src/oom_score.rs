//! `--oom-score-adj` of a process that comes into a container.
//!
//! Such a process is hidden from before it joins anything, and who is hidden cannot write its own oom_score_adj: the file is
//! root's (proc(5)). So it begins with the one that it is to have.

use std::fs;

use crate::Error;
use crate::settings::Limits;

const PATH: &str = "/proc/self/oom_score_adj";

/// Has whatever `begin` starts begin with that of `limits`, or with `least` where that is more; this process itself has its
/// own again afterwards.
pub(crate) fn begin_with<T>(
    limits: &Limits,
    least: Option<i32>,
    begin: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let Some(asked) = limits.oom_score_adj else { return begin() };
    let wanted = asked.max(least.unwrap_or(asked));
    let before = fs::read_to_string(PATH).map_err(Error::io("read", PATH))?;
    fs::write(PATH, wanted.to_string()).map_err(Error::io("set oom_score_adj in", PATH))?;
    let begun = begin();
    // As low as it was is never too low.
    fs::write(PATH, before.trim()).map_err(Error::io("set oom_score_adj in", PATH))?;
    begun
}
