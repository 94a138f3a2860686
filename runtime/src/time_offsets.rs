//! `linux.timeOffsets`: what the clocks of a new time namespace show (time_namespaces(7)).

use std::fmt::Write;
use std::fs::{self, File};

use oci_spec::runtime::Linux;
use rbox_sys::clone::{self, Namespaces};

use crate::Error;
use crate::error::{During, Failure};
use crate::namespaces::NamespacePlan;

/// The clocks that have an offset, as the kernel calls them.
const CLOCKS: [&str; 2] = ["monotonic", "boottime"];

/// Checks what a spec says; gives the lines for /proc/self/timens_offsets.
pub(crate) fn plan(linux: &Linux, namespaces: &NamespacePlan) -> Result<String, Error> {
    let refuse = |why: String| Err(Error::Refused { field: "linux.timeOffsets", why });
    let mut lines = String::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        if !namespaces.new.has(Namespaces::TIME) {
            return refuse("they are for a new time namespace".into());
        }
        if !CLOCKS.contains(&clock.as_str()) {
            return refuse(format!("{clock:?} is neither monotonic nor boottime"));
        }
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        let _ = writeln!(lines, "{clock} {seconds} {nanoseconds}");
    }
    Ok(lines)
}

/// Sets the offsets of the time namespace that was made for this process's children, and moves this process into it: its
/// next program would only come there by itself from Linux 6.3 on. Of one thread.
pub(crate) fn enter(offsets: &str) -> Result<(), Failure> {
    if !offsets.is_empty() {
        fs::write("/proc/self/timens_offsets", offsets)
            .during(|| format!("set the clocks: {}", offsets.trim_end().replace('\n', ", ")))?;
    }
    let namespace = File::open("/proc/self/ns/time_for_children").during(|| "open the time namespace")?;
    clone::enter(namespace, Namespaces::TIME).during(|| "enter the time namespace")
}
