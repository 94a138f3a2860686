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

/// All that there are, each at its number (include/uapi/linux/capability.h).
pub const ALL_CAPABILITIES: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
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

/// Those of a set of bits, as /proc/<pid>/status shows it.
pub fn capabilities_of(bits: u64) -> impl Iterator<Item = Capability> {
    ALL_CAPABILITIES.into_iter().zip(0..).filter(move |(_, number)| bits & 1 << number != 0).map(|(one, _)| one)
}

fn number(capability: Capability) -> usize {
    ALL_CAPABILITIES.iter().position(|known| *known == capability).expect("it has all that the type has")
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
        assert_eq!(capabilities_of(0xa804_25fb).collect::<Names>(), DEFAULT_CAPABILITIES.into_iter().collect());
    }

    #[test]
    fn numbers() {
        assert_eq!(Capabilities(1 << number(Capability::SysAdmin)), SYS_ADMIN);
        assert_eq!(number(Capability::CheckpointRestore), 40);
        let each: Names = ALL_CAPABILITIES.into_iter().collect();
        assert_eq!(each.len(), ALL_CAPABILITIES.len(), "none is there twice");
    }
}
