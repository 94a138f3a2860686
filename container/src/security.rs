//! What a person says about security when running a container.

mod label;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_spec::runtime::Capability;
use serde::{Deserialize, Serialize};

use crate::{Error, glob};

pub use label::{Label, LabelOption};

/// The flags of `rbox run` that widen or narrow what a workload may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Security {
    /// All that a user can give: docs/security-options.md.
    pub privileged: bool,
    /// Besides Docker's default set.
    pub cap_add: Vec<Granted>,
    /// Of that set.
    pub cap_drop: Vec<Granted>,
    /// Which system calls the workload may make; unless it is privileged, those of Docker's default profile.
    pub seccomp: Option<Seccomp>,
    /// Nothing that the workload executes can give it more privileges, be it setuid or with capabilities of its own.
    pub no_new_privileges: bool,
    /// The AppArmor profile.
    pub apparmor: Option<String>,
    /// The SELinux context.
    pub label: Label,
    /// Paths that nothing is to be seen of.
    pub mask: Vec<PathBuf>,
    /// Which of those are seen and written after all that otherwise would not be.
    pub unmask: Vec<Unmask>,
}

/// The same in a container's record, in words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityWords {
    /// `--privileged`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// `--cap-add`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl SecurityWords {
    /// What was said, but for the seccomp profile: of that, these words have the name alone.
    pub(crate) fn parse(&self) -> Result<Security, String> {
        let granted = |words: &[String]| words.iter().map(|word| word.parse()).collect::<Result<Vec<Granted>, _>>();
        let mut security = Security {
            privileged: self.privileged,
            cap_add: granted(&self.cap_add)?,
            cap_drop: granted(&self.cap_drop)?,
            ..Security::default()
        };
        for option in self.options.iter().filter(|option| !option.starts_with("seccomp=")) {
            security.take(option.parse()?).map_err(|error| error.to_string())?;
        }
        Ok(security)
    }

    /// The seccomp profile of a container that has one.
    pub(crate) fn seccomp(&self) -> String {
        let asked = self.options.iter().find_map(|option| option.strip_prefix("seccomp="));
        asked.filter(|asked| *asked != "builtin").unwrap_or("default").to_owned()
    }
}

/// `--cap-add`, `--cap-drop`: with or without "CAP_", in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granted {
    /// Each capability that there is.
    All,
    /// One.
    One(Capability),
}

impl FromStr for Granted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(Self::All);
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        name.parse().map(Self::One).map_err(|_| format!("there is no capability {text:?} (capabilities(7))"))
    }
}

impl Granted {
    /// Whether one of these is meant.
    pub(crate) fn has(all: &[Self], capability: Capability) -> bool {
        all.iter().any(|one| matches!(one, Self::All) || *one == Self::One(capability))
    }

    /// Those that are named one by one.
    pub(crate) fn named(all: &[Self]) -> HashSet<Capability> {
        all.iter().filter_map(|one| if let Self::One(capability) = one { Some(*capability) } else { None }).collect()
    }
}

/// Which system calls a workload may make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// Those of Docker's default profile, which depends on the capabilities.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// Those of a profile in Docker's or Podman's JSON format.
    Profile {
        /// Where it is from, for messages.
        name: String,
        /// The profile.
        json: String,
    },
}

impl Seccomp {
    /// A profile in a file.
    fn read(path: &Path) -> Result<Self, Error> {
        let json = fs::read_to_string(path).map_err(Error::io("read the seccomp profile", path.display()))?;
        Ok(Self::Profile { name: path.display().to_string(), json })
    }
}

/// `unmask=…`: which of the paths that are masked or read-only by default are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmask {
    /// All.
    All,
    /// Those that match a pattern.
    Matching(String),
}

impl Unmask {
    /// Whether one of these means the path.
    pub(crate) fn any(all: &[Self], path: &str) -> bool {
        all.iter().any(|one| match one {
            Self::All => true,
            Self::Matching(pattern) => glob::matches(pattern, path) == Some(true),
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        match glob::matches(text, "") {
            _ if text.eq_ignore_ascii_case("ALL") => Ok(Self::All),
            Some(_) if text.starts_with('/') => Ok(Self::Matching(text.into())),
            Some(_) => Err(format!("unmask: {text:?} is not an absolute path; expected ALL or PATH[:PATH…]")),
            None => Err(format!("unmask: {text:?} is no pattern: it ends in the middle of one")),
        }
    }
}

/// `--security-opt`, with Docker's two signs between a key and its value: `=`, and `:` of older days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOption {
    /// `seccomp=unconfined`.
    SeccompUnconfined,
    /// `seccomp=builtin`.
    SeccompDefault,
    /// `seccomp=FILE`.
    SeccompFile(PathBuf),
    /// `no-new-privileges[=BOOL]`.
    NoNewPrivileges(bool),
    /// `apparmor=PROFILE`; none for `apparmor=unconfined`.
    AppArmor(Option<String>),
    /// `label=…`.
    Label(LabelOption),
    /// `mask=PATH[:PATH…]`, Podman's.
    Mask(Vec<PathBuf>),
    /// `unmask=ALL`, `unmask=PATH[:PATH…]`, Podman's; `systempaths=unconfined`, Docker's.
    Unmask(Vec<Unmask>),
}

impl FromStr for SecurityOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once(['=', ':']).map_or((text, None), |(key, value)| (key, Some(value)));
        let value = value.filter(|value| !value.is_empty());
        match (key, value) {
            ("seccomp", Some("unconfined")) => Ok(Self::SeccompUnconfined),
            ("seccomp", Some("builtin")) => Ok(Self::SeccompDefault),
            ("seccomp", Some(path)) => Ok(Self::SeccompFile(path.into())),
            ("seccomp", None) => Err("seccomp: expected seccomp=unconfined, seccomp=builtin or seccomp=FILE".into()),
            ("no-new-privileges", None | Some("true")) => Ok(Self::NoNewPrivileges(true)),
            ("no-new-privileges", Some("false")) => Ok(Self::NoNewPrivileges(false)),
            ("no-new-privileges", Some(other)) => Err(format!("{key}: {other:?} is neither true nor false")),
            ("apparmor", Some("unconfined")) => Ok(Self::AppArmor(None)),
            ("apparmor", Some(profile)) => Ok(Self::AppArmor(Some(profile.into()))),
            ("apparmor", None) => Err("apparmor: expected apparmor=PROFILE or apparmor=unconfined".into()),
            ("label", value) => value.unwrap_or_default().parse().map(Self::Label),
            ("mask", Some(paths)) => paths.split(':').map(masked).collect::<Result<_, _>>().map(Self::Mask),
            ("mask", None) => Err("mask: expected mask=PATH[:PATH…]".into()),
            ("unmask", Some(paths)) => paths.split(':').map(Unmask::parse).collect::<Result<_, _>>().map(Self::Unmask),
            ("unmask", None) => Err("unmask: expected unmask=ALL or unmask=PATH[:PATH…]".into()),
            ("systempaths", Some("unconfined")) => Ok(Self::Unmask(vec![Unmask::All])),
            ("systempaths", _) => Err("systempaths: expected systempaths=unconfined".into()),
            _ => Err(format!(
                "{key:?} is not supported; apparmor, label, mask, no-new-privileges, seccomp, systempaths and unmask are"
            )),
        }
    }
}

fn masked(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!("mask: {path:?} is not an absolute path"));
    }
    if path.trim_end_matches('/').is_empty() {
        return Err("mask: the container's root cannot be masked".into());
    }
    Ok(path.into())
}

impl Security {
    /// Takes in an option; of those that can hold only once, the last one counts.
    pub fn take(&mut self, option: SecurityOption) -> Result<(), Error> {
        match option {
            SecurityOption::SeccompDefault => self.seccomp = Some(Seccomp::Default),
            SecurityOption::SeccompUnconfined => self.seccomp = Some(Seccomp::Unconfined),
            SecurityOption::SeccompFile(path) => self.seccomp = Some(Seccomp::read(&path)?),
            SecurityOption::NoNewPrivileges(wanted) => self.no_new_privileges = wanted,
            SecurityOption::AppArmor(profile) => self.apparmor = profile,
            SecurityOption::Label(option) => self.label.set(option),
            SecurityOption::Mask(paths) => self.mask.extend(paths),
            SecurityOption::Unmask(paths) => self.unmask.extend(paths),
        }
        Ok(())
    }

    /// For the record.
    pub(crate) fn words(&self) -> SecurityWords {
        let capability = |one: &Granted| match one {
            Granted::All => "ALL".into(),
            Granted::One(capability) => format!("CAP_{capability}"),
        };
        let seccomp = self.seccomp.as_ref().map(|seccomp| match seccomp {
            Seccomp::Default => "seccomp=builtin".into(),
            Seccomp::Unconfined => "seccomp=unconfined".into(),
            Seccomp::Profile { name, .. } => format!("seccomp={name}"),
        });
        let unmask = self.unmask.iter().map(|one| match one {
            Unmask::All => "unmask=ALL".into(),
            Unmask::Matching(pattern) => format!("unmask={pattern}"),
        });
        let options = seccomp.into_iter().chain(self.no_new_privileges.then(|| "no-new-privileges".into()));
        let options = options.chain(self.apparmor.iter().map(|profile| format!("apparmor={profile}")));
        let options = options.chain(self.label.words().into_iter().map(|word| format!("label={word}")));
        let options = options.chain(self.mask.iter().map(|path| format!("mask={}", path.display()))).chain(unmask);
        SecurityWords {
            privileged: self.privileged,
            cap_add: self.cap_add.iter().map(capability).collect(),
            cap_drop: self.cap_drop.iter().map(capability).collect(),
            options: options.collect(),
        }
    }
}

/// Whether `user[:group]` means root. That is Podman's rule, which does not ask the image's passwd either.
pub(crate) fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "root" | "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities() {
        for text in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_Net_Admin"] {
            assert_eq!(text.parse(), Ok(Granted::One(Capability::NetAdmin)), "{text}");
        }
        assert_eq!("all".parse(), Ok(Granted::All));
        for bad in ["", "CAP_", "CAP_ALL", "NETADMIN", "CAP_CAP_KILL", "NET_ADMIN "] {
            let error = bad.parse::<Granted>().expect_err(bad);
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn options() {
        use SecurityOption::{AppArmor, Mask, NoNewPrivileges, SeccompDefault, SeccompFile, SeccompUnconfined};
        let unmask = |pattern: &str| Unmask::Matching(pattern.into());
        for (text, option) in [
            ("seccomp=unconfined", SeccompUnconfined),
            ("seccomp:unconfined", SeccompUnconfined),
            ("seccomp=builtin", SeccompDefault),
            ("seccomp=/a:b=c.json", SeccompFile("/a:b=c.json".into())),
            ("seccomp:./x.json", SeccompFile("./x.json".into())),
            ("no-new-privileges", NoNewPrivileges(true)),
            ("no-new-privileges:true", NoNewPrivileges(true)),
            ("no-new-privileges=false", NoNewPrivileges(false)),
            ("apparmor=unconfined", AppArmor(None)),
            ("apparmor:web", AppArmor(Some("web".into()))),
            ("label=disable", SecurityOption::Label(LabelOption::Disable)),
            ("label:type:spc_t", SecurityOption::Label(LabelOption::Type("spc_t".into()))),
            ("label=level:s0:c1,c2", SecurityOption::Label(LabelOption::Level("s0:c1,c2".into()))),
            ("mask=/a:/b/c", Mask(vec!["/a".into(), "/b/c".into()])),
            ("unmask=all", SecurityOption::Unmask(vec![Unmask::All])),
            ("unmask=/proc/*:/sys/firmware", SecurityOption::Unmask(vec![unmask("/proc/*"), unmask("/sys/firmware")])),
            ("systempaths=unconfined", SecurityOption::Unmask(vec![Unmask::All])),
        ] {
            assert_eq!(text.parse(), Ok(option), "{text}");
        }
        for (bad, named) in [
            ("", "\"\""),
            ("seccomp", "seccomp"),
            ("seccomp=", "seccomp"),
            ("no-new-privileges=1", "\"1\""),
            ("apparmor", "apparmor"),
            ("label", "label"),
            ("label=type", "label=type"),
            ("label=colour:red", "colour"),
            ("label=disabled", "disabled"),
            ("mask=", "mask"),
            ("mask=/a:b", "\"b\""),
            ("mask=/", "root"),
            ("unmask=/a:", "\"\""),
            ("unmask=/proc/[a", "/proc/[a"),
            ("systempaths=confined", "systempaths"),
            ("proc-opts=hidepid=2", "proc-opts"),
            ("writable-cgroups", "writable-cgroups"),
        ] {
            let error = bad.parse::<SecurityOption>().expect_err(bad);
            assert!(error.contains(named), "{bad}: {error}");
        }
    }
}
