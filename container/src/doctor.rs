//! The registry of probes: everything that rbox needs of a host, tried rather than looked up.

use std::path::PathBuf;

use rbox_overlay::probe as overlay;
use rbox_rootless::{Choice, Identity, probe as rootless};
use rbox_runtime::probe as runtime;
use rbox_store::Store;
use rbox_types::{Finding, ProbeState};

use crate::network;

/// Tries everything. The caller has one thread.
pub fn doctor(root: Option<PathBuf>, choice: Choice) -> Vec<Finding> {
    let mut findings = Vec::new();
    let identity = match Identity::detect(choice) {
        Ok(identity) => identity,
        Err(error) => {
            return vec![Finding::lacks("ids", ProbeState::Missing, error.to_string(), error.hint())];
        }
    };
    findings.push(rootless::user_namespace(&identity));
    findings.push(rootless::ids(&identity));
    findings.push(runtime::proc(&identity));
    findings.push(runtime::sys(&identity));
    findings.push(runtime::cgroup(&identity));
    findings.push(runtime::network(&identity));
    findings.push(runtime::tap(&identity));
    findings.push(network::ping());
    findings.extend(store(root, &identity));
    findings
}

fn store(root: Option<PathBuf>, identity: &Identity) -> Vec<Finding> {
    let opened = root.map_or_else(Store::default_root, Ok).and_then(Store::open);
    let scratch = opened.and_then(|store| {
        let lease = store.begin()?;
        let scratch = lease.scratch()?;
        Ok((store, lease, scratch))
    });
    match scratch {
        Err(error) => {
            vec![Finding::lacks("the store", ProbeState::Missing, error.to_string(), error.hint())]
        }
        Ok((store, lease, scratch)) => {
            let overlay = overlay::kernel_overlay(identity, &scratch);
            // What the kernel left in the work directory may belong to the container's root.
            let _ = crate::files::remove_tree(identity, &scratch);
            drop(lease);
            vec![Finding::works("the store", store.root().display().to_string()), overlay]
        }
    }
}
