//! Docker's and Podman's JSON format for profiles: the runtime spec's, with conditions on capabilities, architecture and
//! kernel (moby/profiles, `seccomp.go`; containers/common, `pkg/seccomp`).
//!
//! Docker reads what it knows and passes over the rest. Here a key that neither engine has is refused by name: a slip of
//! the pen in `excludes` would otherwise allow what was to be excluded.

use std::collections::HashSet;
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::runtime::{
    Arch as ArchName, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSyscall,
};
use rbox_sys::process;
use serde::{Deserialize, Deserializer};

use super::SeccompError;
use super::arch::Arch;

/// A kernel's version and its first subdivision, all that a profile can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 6 of 6.1.0.
    pub major: u32,
    /// The 1 of 6.1.0.
    pub minor: u32,
}

impl KernelVersion {
    /// The oldest that rbox runs on.
    pub const OLDEST: Self = Self { major: 5, minor: 11 };

    /// That of this host; the oldest, should its name have no numbers.
    pub fn of_host() -> Self {
        Self::of_release(&process::kernel_release()).unwrap_or(Self::OLDEST)
    }

    /// Of a release, as uname(2) tells it: "6.1.0-18-amd64", "3.12-1-amd64".
    pub fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
    }
}

/// In a profile: "4.8", and nothing else.
impl FromStr for KernelVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('.')
            .and_then(|(major, minor)| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }));
        parsed.ok_or_else(|| format!("{text:?} is no kernel version such as 4.8"))
    }
}

impl<'de> Deserialize<'de> for KernelVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    /// Podman's: by name.
    default_errno: Option<String>,
    architectures: Option<Vec<ArchName>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Call>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchMap {
    architecture: ArchName,
    sub_architectures: Option<Vec<ArchName>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Call {
    /// Of profiles older than Docker 1.13.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    /// Podman's: by name.
    errno: Option<String>,
    args: Option<Vec<LinuxSeccompArg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<KernelVersion>,
}

/// Reads a profile in Docker's or Podman's format, for a container whose bounding set has these capabilities, on this
/// kernel.
pub fn parse(
    json: &str,
    capabilities: &HashSet<Capability>,
    kernel: KernelVersion,
) -> Result<LinuxSeccomp, SeccompError> {
    let profile: Profile = serde_json::from_str(json)?;
    let mut architectures = profile.architectures.unwrap_or_default();
    let maps = profile.arch_map.unwrap_or_default();
    if !architectures.is_empty() && !maps.is_empty() {
        return Err(SeccompError::Profile("it has both architectures and archMap".into()));
    }
    let native = Arch::NATIVE.spec_name();
    if let Some(map) = maps.into_iter().find(|map| map.architecture == native) {
        architectures.push(map.architecture);
        architectures.extend(map.sub_architectures.into_iter().flatten());
    }
    let host = Host { capabilities, kernel };
    let mut syscalls = Vec::new();
    for call in profile.syscalls.into_iter().flatten() {
        syscalls.extend(call.resolve(&host)?);
    }
    let mut resolved = LinuxSeccomp::default();
    resolved
        .set_default_action(profile.default_action)
        .set_default_errno_ret(errno("defaultErrno", profile.default_errno.as_deref(), profile.default_errno_ret)?)
        .set_architectures(Some(architectures))
        .set_flags(profile.flags)
        .set_listener_path(profile.listener_path)
        .set_listener_metadata(profile.listener_metadata)
        .set_syscalls(Some(syscalls));
    Ok(resolved)
}

struct Host<'a> {
    capabilities: &'a HashSet<Capability>,
    kernel: KernelVersion,
}

impl Call {
    /// The spec's entry, if it is one for this host and container.
    fn resolve(self, host: &Host<'_>) -> Result<Option<LinuxSyscall>, SeccompError> {
        let names = match (self.name.filter(|name| !name.is_empty()), self.names.filter(|names| !names.is_empty())) {
            (Some(name), Some(_)) => {
                return Err(SeccompError::Profile(format!("{name}: the entry has both name and names")));
            }
            (Some(name), None) => vec![name],
            (None, Some(names)) => names,
            (None, None) => return Err(SeccompError::NoNames),
        };
        let first = &names[0];
        let excluded = match &self.excludes {
            Some(filter) => filter.any(first, host)?,
            None => false,
        };
        let included = match &self.includes {
            Some(filter) => filter.all(first, host)?,
            None => true,
        };
        let errno = errno(first, self.errno.as_deref(), self.errno_ret)?;
        if excluded || !included {
            return Ok(None);
        }
        let mut resolved = LinuxSyscall::default();
        resolved.set_names(names).set_action(self.action).set_errno_ret(errno).set_args(self.args);
        Ok(Some(resolved))
    }
}

impl Filter {
    /// Whether one of the things named is so, on this host.
    fn any(&self, call: &str, host: &Host<'_>) -> Result<bool, SeccompError> {
        let mut has = false;
        for name in self.caps.iter().flatten() {
            has |= granted(call, name, host)?;
        }
        Ok(has
            || self.arches.iter().flatten().any(|arch| is_native(arch))
            || self.min_kernel.is_some_and(|least| host.kernel >= least))
    }

    /// Whether all of the capabilities, one of the architectures, and the kernel are so.
    fn all(&self, call: &str, host: &Host<'_>) -> Result<bool, SeccompError> {
        let mut has = true;
        for name in self.caps.iter().flatten() {
            has &= granted(call, name, host)?;
        }
        let arches = self.arches.as_deref().unwrap_or_default();
        Ok(has
            && (arches.is_empty() || arches.iter().any(|arch| is_native(arch)))
            && self.min_kernel.is_none_or(|least| host.kernel >= least))
    }
}

/// A capability newer than the spec's types is granted to nobody.
fn granted(call: &str, name: &str, host: &Host<'_>) -> Result<bool, SeccompError> {
    let Some(bare) = name.strip_prefix("CAP_") else {
        return Err(SeccompError::Profile(format!("{call}: {name:?} is no capability; their names begin with CAP_")));
    };
    Ok(bare.parse().is_ok_and(|capability: Capability| host.capabilities.contains(&capability)))
}

fn is_native(name: &str) -> bool {
    name == Arch::NATIVE.docker_name()
}

/// Podman's names are for what Docker gives as a number; where both are given, the name counts (containers/common).
fn errno(of: &str, name: Option<&str>, number: Option<u32>) -> Result<Option<u32>, SeccompError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(number) };
    match ERRORS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(Some(*number)),
        None => Err(SeccompError::Profile(format!("{of}: {name:?} is no name of an error that is known here"))),
    }
}

/// The name of an error, as errno(3) has it.
pub fn errno_name(number: u16) -> Option<&'static str> {
    ERRORS.iter().find(|(_, known)| *known == u32::from(number)).map(|(name, _)| *name)
}

include!(concat!(env!("OUT_DIR"), "/errors.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };

    fn parsed(json: &str) -> Result<LinuxSeccomp, String> {
        let granted = HashSet::from([Capability::SysAdmin, Capability::Chown]);
        parse(json, &granted, KERNEL).map_err(|error| error.to_string())
    }

    /// The names that a profile with these entries comes to have.
    fn names(entries: &str) -> Vec<String> {
        let profile = parsed(&format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{entries}]}}"#));
        let syscalls = profile.expect("valid").syscalls().clone().expect("entries");
        syscalls.iter().flat_map(|call| call.names().clone()).collect()
    }

    #[test]
    fn conditions() {
        let entry = |name: &str, rest: &str| {
            names(&format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_ALLOW"{rest}}}"#)).len() == 1
        };
        assert!(entry("a", ""));
        assert!(entry("a", r#", "includes": {}, "excludes": {}, "comment": "all""#));
        assert!(entry("a", r#", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}"#));
        assert!(!entry("a", r#", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#));
        assert!(!entry("a", r#", "includes": {"caps": ["CAP_NOT_YET"]}"#));
        assert!(!entry("a", r#", "excludes": {"caps": ["CAP_BPF", "CAP_CHOWN"]}"#));
        assert!(entry("a", r#", "excludes": {"caps": ["CAP_BPF", "CAP_NOT_YET"]}"#));
        assert!(entry("a", r#", "includes": {"minKernel": "6.1"}"#));
        assert!(!entry("a", r#", "includes": {"minKernel": "6.2"}"#));
        assert!(!entry("a", r#", "excludes": {"minKernel": "4.8"}"#));
        let native = Arch::NATIVE.docker_name();
        assert!(entry("a", &format!(r#", "includes": {{"arches": ["vax", "{native}"]}}"#)));
        assert!(!entry("a", r#", "includes": {"arches": ["vax"]}"#));
        assert!(!entry("a", &format!(r#", "excludes": {{"arches": ["{native}"]}}"#)));
    }

    #[test]
    fn older_and_other_spellings() {
        assert_eq!(names(r#"{"name": "chmod", "action": "SCMP_ACT_ALLOW", "args": null}"#), ["chmod"]);
        let profile = parsed(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "defaultErrno": "ENOSYS",
                "syscalls": [{"names": ["x"], "action": "SCMP_ACT_ERRNO", "errno": "EDEADLK"}]}"#,
        );
        let profile = profile.expect("valid");
        assert_eq!(profile.default_errno_ret(), Some(38));
        assert_eq!(profile.syscalls().as_ref().expect("entries")[0].errno_ret(), Some(35));
    }

    #[test]
    fn architectures_of_the_map() {
        let map = r#""archMap": [{"architecture": "SCMP_ARCH_VAX"}]"#;
        let error = parsed(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {map}}}"#)).expect_err("no such thing");
        assert!(error.contains("SCMP_ARCH_VAX"), "{error}");
        let native = Arch::NATIVE.spec_name();
        let map = format!(
            r#""archMap": [{{"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]}},
                           {{"architecture": "{native}", "subArchitectures": ["SCMP_ARCH_X86"]}}]"#
        );
        let profile = parsed(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {map}}}"#)).expect("valid");
        assert_eq!(profile.architectures().as_deref(), Some(&[native, ArchName::ScmpArchX86][..]));
        let both = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], {map}}}"#);
        assert!(parsed(&both).expect_err("both").contains("both architectures and archMap"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let entry = |entry: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{entry}]}}"#);
        for (json, named) in [
            ("{".to_owned(), "line 1"),
            ("{}".into(), "defaultAction"),
            (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#.into(), "SCMP_ACT_MAYBE"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "sysscalls": []}"#.into(), "sysscalls"),
            (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "exludes": {}}"#), "exludes"),
            (entry(r#"{"names": ["read"], "name": "write", "action": "SCMP_ACT_ALLOW"}"#), "write"),
            (entry(r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#), "no names"),
            (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "EWHAT"}"#), "EWHAT"),
            (entry(r#"{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CHOWN"]}}"#), "CHOWN"),
            (entry(r#"{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4"}}"#), "4.8"),
            (
                entry(
                    r#"{"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "=="}]}"#,
                ),
                "==",
            ),
        ] {
            let error = parsed(&json).expect_err(&json);
            assert!(error.contains(named), "{json}: {error}");
        }
    }

    #[test]
    fn releases() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        assert_eq!(KernelVersion::of_release("6.1.0-18-amd64"), version(6, 1));
        assert_eq!(KernelVersion::of_release("3.12-1-amd64"), version(3, 12));
        assert_eq!(KernelVersion::of_release("7.0"), version(7, 0));
        assert_eq!(KernelVersion::of_release("next"), None);
    }
}
