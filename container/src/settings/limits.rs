//! `--ulimit`, `--umask`, `--oom-score-adj`, `--shm-size`, `--sysctl`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use oci_spec::runtime::PosixRlimitType;
use rbox_sys::rlimit::Resource;
use serde::{Deserialize, Serialize};

use super::is_default;

/// What a process of the container may use and touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The last one of a name counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
    /// 022 otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<Umask>,
    /// Who goes first when memory runs out, from -1000 to 1000; the caller's own otherwise, and never less without root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The size of /dev/shm; 64 MiB otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<ByteSize>,
    /// Settings of the kernel that the container's namespaces have for themselves.
    #[serde(skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<String, String>,
}

/// `--ulimit host`, `--ulimit name=soft[:hard]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ulimit {
    /// The caller's own, which are those of a container of which nothing is said.
    Host,
    /// One; of both limits, none stands for the most that the caller may have (Podman; Docker, which is root, has no
    /// limit there).
    Of {
        /// As Docker writes it: `nofile`.
        name: String,
        /// In force.
        soft: Option<u64>,
        /// Its ceiling.
        hard: Option<u64>,
    },
}

/// What Docker calls each (go-units, ulimit.go), and `as`, which it has not.
const RESOURCES: [(&str, PosixRlimitType, Resource); 16] = [
    ("as", PosixRlimitType::RlimitAs, Resource::AS),
    ("core", PosixRlimitType::RlimitCore, Resource::CORE),
    ("cpu", PosixRlimitType::RlimitCpu, Resource::CPU),
    ("data", PosixRlimitType::RlimitData, Resource::DATA),
    ("fsize", PosixRlimitType::RlimitFsize, Resource::FSIZE),
    ("locks", PosixRlimitType::RlimitLocks, Resource::LOCKS),
    ("memlock", PosixRlimitType::RlimitMemlock, Resource::MEMLOCK),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue, Resource::MSGQUEUE),
    ("nice", PosixRlimitType::RlimitNice, Resource::NICE),
    ("nofile", PosixRlimitType::RlimitNofile, Resource::NOFILE),
    ("nproc", PosixRlimitType::RlimitNproc, Resource::NPROC),
    ("rss", PosixRlimitType::RlimitRss, Resource::RSS),
    ("rtprio", PosixRlimitType::RlimitRtprio, Resource::RTPRIO),
    ("rttime", PosixRlimitType::RlimitRttime, Resource::RTTIME),
    ("sigpending", PosixRlimitType::RlimitSigpending, Resource::SIGPENDING),
    ("stack", PosixRlimitType::RlimitStack, Resource::STACK),
];

/// What is limited under this name.
pub(crate) fn resource(name: &str) -> Option<(PosixRlimitType, Resource)> {
    RESOURCES.iter().find(|(known, ..)| *known == name).map(|(_, kind, resource)| (*kind, *resource))
}

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "host" {
            return Ok(Self::Host);
        }
        let (name, limits) = text.split_once('=').ok_or("expected NAME=SOFT[:HARD], or host")?;
        if resource(name).is_none() {
            let names: Vec<&str> = RESOURCES.iter().map(|(name, ..)| *name).collect();
            return Err(format!("there is no limit {name:?}; there are {}", names.join(", ")));
        }
        let number = |text: &str| match text {
            "-1" => Ok(None),
            _ => text.parse().map(Some).map_err(|_| format!("{text:?} is neither a number nor -1, for the most")),
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (number(soft)?, number(hard)?);
        match (soft, hard) {
            (None, Some(_)) => Err("the soft limit is above the hard one".into()),
            (Some(soft), Some(hard)) if soft > hard => Err("the soft limit is above the hard one".into()),
            _ => Ok(Self::Of { name: name.into(), soft, hard }),
        }
    }
}

/// `--umask`: up to four octal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Umask(pub(crate) u32);

impl FromStr for Umask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let octal = text.len() <= 4 && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let parsed = u32::from_str_radix(text, 8).ok().filter(|_| octal);
        parsed.map(Self).ok_or_else(|| "expected one to four octal digits".into())
    }
}

/// As Podman shows it.
impl fmt::Display for Umask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A number of bytes, written with a unit of 1024 or without: `64m`, `1.5g`, `65536`, `10kb`, `10KiB` (go-units,
/// RAMInBytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size: expected a number, and b, k, m or g");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim_start().to_ascii_lowercase();
        let shift = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
            "" if unit == "ib" => return Err(wrong()),
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            "p" => 50,
            _ => return Err(wrong()),
        };
        let whole = || number.parse::<u64>().ok()?.checked_mul(1 << shift);
        let broken = || {
            let number: f64 = number.parse().ok().filter(|_| number.starts_with(|c: char| c.is_ascii_digit()))?;
            let bytes = number * (1_u64 << shift) as f64;
            // As far as a number of this type is exact.
            (bytes < (1_u64 << 53) as f64).then_some(bytes as u64)
        };
        whole().or_else(broken).map(Self).ok_or_else(wrong)
    }
}

/// `--sysctl name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// `net.core.somaxconn`.
    pub name: String,
    /// What is written.
    pub value: String,
}

impl FromStr for Sysctl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.into(), value: value.into() }),
            _ => Err("expected NAME=VALUE".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        let of = |text: &str| text.parse::<Ulimit>();
        let limit = |soft, hard| Ok(Ulimit::Of { name: "nofile".into(), soft, hard });
        assert_eq!(of("host"), Ok(Ulimit::Host));
        assert_eq!(of("nofile=7"), limit(Some(7), Some(7)));
        assert_eq!(of("nofile=7:9"), limit(Some(7), Some(9)));
        assert_eq!(of("nofile=-1"), limit(None, None));
        assert_eq!(of("nofile=5:-1"), limit(Some(5), None));
        for wrong in ["nofile", "nofile=", "nofile=9:7", "nofile=-1:7", "nofile=-2", "files=1", "nofile=1:2:3"] {
            of(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn umasks() {
        for (text, mask) in [("0", 0), ("22", 0o22), ("0077", 0o77), ("777", 0o777)] {
            assert_eq!(text.parse(), Ok(Umask(mask)));
        }
        for wrong in ["", "8", "00022", "-1", "0o22", "+22"] {
            wrong.parse::<Umask>().expect_err(wrong);
        }
        assert_eq!(Umask(0o77).to_string(), "0077");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("100", 100), ("100b", 100), ("2k", 2048), ("64m", 64 << 20), ("1G", 1 << 30), ("1.5k", 1536)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        assert_eq!("3KiB".parse(), Ok(ByteSize(3072)));
        assert_eq!("3 mb".parse(), Ok(ByteSize(3 << 20)));
        for wrong in ["", "k", "-1", "1x", ".", "1.2.3", "ib", "1ib", "99999999999999p", "nan", "inf"] {
            wrong.parse::<ByteSize>().expect_err(wrong);
        }
    }
}
