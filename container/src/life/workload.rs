//! A planned container as the runtime takes it.

use std::path::Path;

use rbox_runtime::seccomp::Refusals;
use rbox_runtime::{Streams, Subject, WantedTap, Workload};
use rbox_types::ContainerId;

use crate::plan::RunPlan;

/// What there is to start.
pub(crate) struct Start<'a> {
    pub(crate) planned: &'a RunPlan,
    pub(crate) id: &'a ContainerId,
    pub(crate) bundle: &'a Path,
    /// This process's standard input reaches the workload.
    pub(crate) interactive: bool,
    pub(crate) reaper: bool,
    /// So many descriptors of this process, from 3 on, are the workload's too.
    pub(crate) preserved: u32,
    /// The device of its network, and who serves it.
    pub(crate) tap: Option<WantedTap<'a>>,
}

/// The first process of a container.
pub(crate) fn workload<'a>(start: Start<'a>, refusals: Option<&'a mut dyn FnMut(Refusals)>) -> Workload<'a> {
    let Start { planned, id, bundle, interactive, reaper, preserved, tap } = start;
    Workload {
        spec: &planned.spec,
        volumes: &planned.volumes,
        built_in_filter: planned.built_in_filter,
        streams: if interactive { Streams::Inherit } else { Streams::NoInput },
        reaper,
        preserved,
        no_pivot: false,
        place: None,
        new_keyring: true,
        subject: Subject {
            oci_version: planned.spec.version().clone(),
            id: id.to_string(),
            bundle: bundle.to_owned(),
            ..Subject::default()
        },
        beside: None,
        outlives: false,
        tap,
        held: None,
        refusals,
    }
}
