//! `--security-opt label=…`: the SELinux context of a workload and of its filesystems.

use std::str::FromStr;

/// What is asked to differ from the context that containers have by SELinux's own policy for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label {
    disabled: bool,
    user: Option<String>,
    role: Option<String>,
    kind: Option<String>,
    level: Option<String>,
    file_kind: Option<String>,
}

/// The contexts of container-selinux (its lxc_contexts file).
const PROCESS: [&str; 4] = ["system_u", "system_r", "container_t", "s0"];
const FILE: [&str; 4] = ["system_u", "object_r", "container_file_t", "s0"];

impl Label {
    /// The contexts of the workload and of its filesystems; none where none was asked for, or that none be.
    pub(crate) fn contexts(&self) -> Option<(String, String)> {
        if self.disabled || *self == Self::default() {
            return None;
        }
        let or = |asked: &Option<String>, default: &str| asked.clone().unwrap_or_else(|| default.into());
        let process = [(&self.user, PROCESS[0]), (&self.role, PROCESS[1]), (&self.kind, PROCESS[2])];
        let process = process.map(|(asked, default)| or(asked, default)).join(":");
        let file = [FILE[0], FILE[1], &or(&self.file_kind, FILE[2])].join(":");
        let level = or(&self.level, PROCESS[3]);
        Some((format!("{process}:{level}"), format!("{file}:{level}")))
    }

    pub(super) fn words(&self) -> Vec<String> {
        let parts = [
            ("user", &self.user),
            ("role", &self.role),
            ("type", &self.kind),
            ("level", &self.level),
            ("filetype", &self.file_kind),
        ];
        let parts = parts.into_iter().filter_map(|(part, value)| Some(format!("{part}:{}", value.as_ref()?)));
        self.disabled.then(|| "disable".into()).into_iter().chain(parts).collect()
    }

    pub(super) fn set(&mut self, option: LabelOption) {
        match option {
            LabelOption::Disable => self.disabled = true,
            LabelOption::User(value) => self.user = Some(value),
            LabelOption::Role(value) => self.role = Some(value),
            LabelOption::Type(value) => self.kind = Some(value),
            LabelOption::Level(value) => self.level = Some(value),
            LabelOption::FileType(value) => self.file_kind = Some(value),
        }
    }
}

/// `label=…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelOption {
    /// `disable`: no context, whatever else is said.
    Disable,
    /// `user:…`
    User(String),
    /// `role:…`
    Role(String),
    /// `type:…`
    Type(String),
    /// `level:…`
    Level(String),
    /// `filetype:…`
    FileType(String),
}

impl FromStr for LabelOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected disable, or user, role, type, level or filetype, a colon and a value";
        if text == "disable" {
            return Ok(Self::Disable);
        }
        let known = text.split_once(':').filter(|(_, value)| !value.is_empty()).and_then(|(part, value)| {
            let value = value.to_owned();
            Some(match part {
                "user" => Self::User(value),
                "role" => Self::Role(value),
                "type" => Self::Type(value),
                "level" => Self::Level(value),
                "filetype" => Self::FileType(value),
                _ => return None,
            })
        });
        known.ok_or_else(|| format!("label={text}: {EXPECTED}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts() {
        let of = |options: &[&str]| {
            let mut label = Label::default();
            options.iter().for_each(|option| label.set(option.parse().expect("valid")));
            label.contexts()
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["type:spc_t", "disable"]), None);
        let both = |process: &str, file: &str| Some((process.into(), file.into()));
        assert_eq!(
            of(&["level:s0:c1,c2"]),
            both("system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2")
        );
        assert_eq!(
            of(&["user:me_u", "role:me_r", "type:me_t", "filetype:my_t"]),
            both("me_u:me_r:me_t:s0", "system_u:object_r:my_t:s0")
        );
    }
}
