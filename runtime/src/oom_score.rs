//! `process.oomScoreAdj`: who goes first when memory runs out (proc(5), "/proc/pid/oom_score_adj").

use std::io::ErrorKind;
use std::path::Path;

use rbox_sys::procfs::Procfs;

use crate::Error;
use crate::error::{During, Failure};

/// Checks the number.
pub(crate) fn check(asked: Option<i32>) -> Result<Option<i32>, Error> {
    match asked {
        Some(number) if !(-1000..=1000).contains(&number) => {
            Err(Error::Refused { field: "process.oomScoreAdj", why: format!("{number} is not from -1000 to 1000") })
        }
        asked => Ok(asked),
    }
}

/// Sets that of this process. Below what it has is for those with CAP_SYS_RESOURCE in the initial user namespace.
pub(crate) fn set(wanted: i32) -> Result<(), Failure> {
    let what = || format!("set oom_score_adj to {wanted}");
    let path = Path::new("self/oom_score_adj");
    let procfs = Procfs::open().during(what)?;
    let now = procfs.read(path).during(what)?;
    if now.trim() == wanted.to_string() {
        return Ok(());
    }
    procfs.write(path, wanted.to_string().as_bytes()).during(what).map_err(|failure| match ErrorKind::from(&failure) {
        ErrorKind::PermissionDenied => failure.hint(format!("only root may go below its own, which is {}", now.trim())),
        _ => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(check(Some(-1000)).expect("valid"), Some(-1000));
        assert_eq!(check(None).expect("valid"), None);
        check(Some(1001)).expect_err("too much");
    }

    #[test]
    fn of_this_process() {
        let before = std::fs::read_to_string("/proc/self/oom_score_adj").expect("procfs");
        let before: i32 = before.trim().parse().expect("a number");
        set(before + 1).expect("set");
        let after = std::fs::read_to_string("/proc/self/oom_score_adj").expect("procfs");
        assert_eq!(after.trim(), (before + 1).to_string());
    }
}
