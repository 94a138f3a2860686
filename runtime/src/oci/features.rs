//! `features`: what this runtime recognizes, wherever it runs (runtime spec, "Features Structure").

use serde_json::{Value, json};

use crate::capability;
use crate::mount_options;
use crate::seccomp::Arch;

/// The newest version of the runtime spec whose fields are known here; any 1.x is read.
pub const SPEC_VERSION: &str = "1.3.0";

/// The features document.
pub fn features() -> Value {
    let flags = [
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ];
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options::RECOGNIZED[..],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capability::ALL_CAPABILITIES[..],
            "cgroup": { "v1": false, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE",
                ],
                "archs": Arch::ALL.map(|arch| arch.spec_name().to_string()),
                "knownFlags": flags,
                "supportedFlags": flags,
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false, "schemata": false, "monitoring": false },
            "memoryPolicy": {
                "modes": [
                    "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_LOCAL",
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": false },
        },
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{
        Arch as ArchName, Capability, LinuxMemoryPolicy, LinuxNamespaceType, LinuxSeccomp, LinuxSeccompFilterFlag,
    };
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::{InitPlan, seccomp};

    /// What the document names, one by one.
    fn named<T: DeserializeOwned>(pointer: &str) -> Vec<T> {
        let list = features().pointer(pointer).unwrap_or_else(|| panic!("{pointer} is there")).clone();
        serde_json::from_value(list).unwrap_or_else(|error| panic!("{pointer}: {error}"))
    }

    fn compiles(change: impl FnOnce(&mut Value)) {
        let mut profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_NOTIFY" }],
        });
        change(&mut profile);
        let parsed: LinuxSeccomp = serde_json::from_value(profile.clone()).expect("a profile");
        seccomp::compile(&parsed).unwrap_or_else(|error| panic!("{profile}: {error}"));
    }

    #[test]
    fn what_seccomp_has_compiles() {
        for action in named::<String>("/linux/seccomp/actions") {
            compiles(|profile| profile["syscalls"][0]["action"] = action.into());
        }
        for operator in named::<String>("/linux/seccomp/operators") {
            compiles(|profile| {
                profile["syscalls"][0]["args"] = json!([{ "index": 0, "value": 1, "valueTwo": 1, "op": operator }]);
            });
        }
        compiles(|profile| profile["architectures"] = json!(named::<ArchName>("/linux/seccomp/archs")));
        let flags = named::<LinuxSeccompFilterFlag>("/linux/seccomp/knownFlags");
        compiles(|profile| profile["flags"] = json!(flags));
    }

    #[test]
    fn a_spec_with_all_the_rest_is_taken() {
        assert_eq!(named::<LinuxNamespaceType>("/linux/namespaces").len(), 8);
        assert_eq!(named::<Capability>("/linux/capabilities").len(), 41);
        let flags = named::<String>("/linux/memoryPolicy/flags");
        for mode in named::<String>("/linux/memoryPolicy/modes") {
            let policy = json!({ "mode": mode, "nodes": "0", "flags": flags });
            let _: LinuxMemoryPolicy = serde_json::from_value(policy.clone()).expect("a policy");
            let spec = json!({
                "ociVersion": SPEC_VERSION,
                "process": { "cwd": "/", "args": ["true"], "user": { "uid": 0, "gid": 0 } },
                "linux": { "namespaces": [{ "type": "mount" }], "memoryPolicy": policy },
            });
            InitPlan::new(&serde_json::from_value(spec).expect("a spec")).expect("no field is refused");
        }
    }
}
