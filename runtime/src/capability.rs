//! Capabilities by name, as specs and users write them.

use oci_spec::runtime::{Capabilities as Names, Capability, LinuxCapabilities};
use rbox_sys::caps::{Capabilities, Sets};

/// What Docker and containerd give a container unless told otherwise (moby, oci/caps/defaults.go).
pub const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// CAP_SYS_ADMIN.
pub(crate) const SYS_ADMIN: Capabilities = Capabilities(1 << 21);

/// The five sets of a spec, in the kernel's numbers.
pub(crate) fn sets(spec: Option<&LinuxCapabilities>) -> Sets {
    let Some(spec) = spec else { return Sets::default() };
    let bits =
        |names: &Option<Names>| Capabilities(names.iter().flatten().fold(0, |bits, name| bits | 1 << number(*name)));
    let (permitted, inheritable) = (bits(spec.permitted()), bits(spec.inheritable()));
    // The kernel takes only those as ambient that are in both (capabilities(7)). Specs often have others, crun's own
    // example among them, and both runc and crun leave them out.
    let ambient = Capabilities(bits(spec.ambient()).0 & permitted.0 & inheritable.0);
    Sets { bounding: bits(spec.bounding()), effective: bits(spec.effective()), permitted, inheritable, ambient }
}

/// The number in include/uapi/linux/capability.h.
fn number(capability: Capability) -> u32 {
    match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_dockers() {
        let names: Names = DEFAULT_CAPABILITIES.into_iter().collect();
        let mut spec = LinuxCapabilities::default();
        spec.set_effective(Some(names));
        // CapEff of a process in a Docker container.
        assert_eq!(sets(Some(&spec)).effective, Capabilities(0xa804_25fb));
    }
}
