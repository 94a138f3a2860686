//! The runtime spec's JSON, where the crate that knows its types spells a word otherwise.
//!
//! oci-spec 0.10 derives the names of scheduler flags, and is wrong with two. What it takes is read by it alone; only what
//! it refuses is looked at again, in the spec's spelling.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// As the spec writes them, and as the crate does.
const SCHEDULER_FLAGS: [(&str, &str); 2] =
    [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

/// Parses a config.json, or its process object alone.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(text).or_else(|error| {
        // Of a text that is wrong in other ways too, the first reason has a line and a column.
        respelled(text).and_then(|value| serde_json::from_value(value).ok()).ok_or(error)
    })
}

fn respelled(text: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(text).ok()?;
    for pointer in ["/process/scheduler/flags", "/scheduler/flags"] {
        for flag in value.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some((_, theirs)) = SCHEDULER_FLAGS.iter().find(|(ours, _)| flag == ours) {
                *flag = (*theirs).into();
            }
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxSchedulerFlag as Flag, Process, Scheduler, Spec};

    use super::*;

    const PROCESS: &str = r#"{ "cwd": "/", "user": { "uid": 0, "gid": 0 }, "scheduler": { "policy": "SCHED_OTHER", "flags": [
        "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX" ] } }"#;

    #[test]
    fn all_flags_of_the_spec() {
        let flags = |process: &Process| process.scheduler().as_ref().and_then(|it: &Scheduler| it.flags().clone());
        let process: Process = parse(PROCESS.as_bytes()).expect("a process");
        let expected = [
            Flag::SchedResetOnFork,
            Flag::SchedFlagReclaim,
            Flag::SchedFlagDLOverrun,
            Flag::SchedFlagKeepPolicy,
            Flag::SchedFlagKeepParams,
            Flag::SchedFlagUtilClampMin,
            Flag::SchedFlagUtilClampMax,
        ];
        assert_eq!(flags(&process).as_deref(), Some(&expected[..]));
        let spec = format!(r#"{{ "ociVersion": "1.2.0", "process": {PROCESS} }}"#);
        let spec: Spec = parse(spec.as_bytes()).expect("a spec");
        assert_eq!(spec.process().as_ref().and_then(flags).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn the_first_reason_is_told() {
        let wrong = PROCESS.replace("SCHED_FLAG_RECLAIM", "SCHED_FLAG_OTHER");
        let error = parse::<Process>(wrong.as_bytes()).expect_err("no such flag").to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
