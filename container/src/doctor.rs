//! The registry of probes: everything that rbox needs of a host, tried rather than looked up.

use std::path::PathBuf;

use rbox_rootless::{Choice, Identity, probe as rootless};
use rbox_runtime::probe as runtime;
use rbox_store::Store;
use rbox_types::{Finding, ProbeState, StorageDriver};

use crate::storage::Storage;
use crate::{Error, network};

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
    findings.push(runtime::limits());
    findings.push(runtime::network(&identity));
    findings.push(runtime::tap(&identity));
    findings.push(network::ping());
    findings.extend(store(root, &identity));
    findings
}

fn store(root: Option<PathBuf>, identity: &Identity) -> Vec<Finding> {
    let found = root.map_or_else(Store::default_root, Ok).and_then(Store::open).map_err(Error::from);
    match found.and_then(|store| Storage::probe(&store, identity).map(|storage| (store, storage))) {
        Err(error) => {
            vec![Finding::lacks("the store", ProbeState::Missing, error.to_string(), error.hint())]
        }
        Ok((store, storage)) => {
            vec![Finding::works("the store", store.root().display().to_string()), root_filesystems(&storage)]
        }
    }
}

fn root_filesystems(storage: &Storage) -> Finding {
    const WHAT: &str = "root filesystems";
    let how = match storage.driver {
        StorageDriver::Overlay => return Finding::works(WHAT, "by the kernel's overlay, on the store's filesystem"),
        StorageDriver::Fuse => "by FUSE, which is slower",
        StorageDriver::Copy => "by a copy of the image for each container, which is slow and takes room",
    };
    let detail = format!("{how}; {}", storage.why());
    Finding::lacks(WHAT, ProbeState::Degraded, detail, storage.remedy().map(Into::into))
}
