//! What `rbox run --explain-denied` says in the end.

use rbox_container::{Denials, Denied};
use rbox_runtime::seccomp::{Refusal, errno_name};

use crate::output;

/// Prints a table to standard error, where nothing of the workload's own data is disturbed.
pub(crate) fn explain(denials: &Denials) {
    if denials.calls.is_empty() {
        eprintln!("rbox: the seccomp profile refused no system call");
        return;
    }
    eprintln!("rbox: the seccomp profile refused these system calls:");
    let rows: Vec<[String; 4]> = denials.calls.iter().map(row).collect();
    for line in output::columns(["CALL", "TIMES", "ANSWER", "ALLOWED BY"], &rows) {
        eprintln!("{line}");
    }
    if denials.others > 0 {
        eprintln!("and {} more, of too many kinds to name", denials.others);
    }
}

fn row(denied: &Denied) -> [String; 4] {
    let answer = match denied.refusal {
        Refusal::Errno(errno) => errno_name(errno).map_or_else(|| format!("error {errno}"), Into::into),
        Refusal::Killed => "killed".into(),
    };
    let mut allowed_by: Vec<String> = denied.opened_by.iter().map(|one| format!("--cap-add {one}")).collect();
    allowed_by.push("--security-opt seccomp=unconfined, or a profile of your own".into());
    [denied.call.clone(), denied.times.to_string(), answer, allowed_by.join(", or ")]
}
