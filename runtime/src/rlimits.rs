//! `process.rlimits`, in two steps.
//!
//! To raise a hard limit takes CAP_SYS_RESOURCE of the initial user namespace; so that is done while this process may
//! still have it. To lower one takes nothing, and may leave this process itself too little of something; so that is
//! done last of all.

use std::io::ErrorKind;

use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rbox_sys::rlimit::{self, Limit, Resource};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::{During, Failure};

/// The limits of a spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimits(Vec<Rlimit>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rlimit {
    /// The number of the resource.
    resource: u32,
    name: String,
    soft: u64,
    hard: u64,
}

impl Rlimits {
    /// Checks and reduces those of a spec.
    pub(crate) fn of(asked: &[PosixRlimit]) -> Result<Self, Error> {
        let mut limits: Vec<Rlimit> = Vec::new();
        for limit in asked {
            let refuse = |why| Err(Error::Refused { field: "process.rlimits", why: format!("{}: {why}", limit.typ()) });
            let resource = resource(limit.typ()).number();
            if limits.iter().any(|other| other.resource == resource) {
                return refuse("it is there twice");
            }
            if limit.soft() > limit.hard() {
                return refuse("the soft limit is above the hard one");
            }
            limits.push(Rlimit { resource, name: limit.typ().to_string(), soft: limit.soft(), hard: limit.hard() });
        }
        Ok(Self(limits))
    }

    /// Raises hard limits where they are too low: those of the process `pid`, or of this one.
    pub(crate) fn make_room(&self, pid: Option<u32>) -> Result<(), Failure> {
        self.0.iter().try_for_each(|limit| {
            let what = || format!("raise the hard limit {} to {}", limit.name, words(limit.hard));
            let resource = Resource::from_number(limit.resource);
            let now = rlimit::get(pid, resource).during(what)?;
            if limit.hard <= now.hard {
                return Ok(());
            }
            let raised = Limit { soft: now.soft, hard: limit.hard };
            rlimit::set(pid, resource, raised).during(what).map_err(|failure| match ErrorKind::from(&failure) {
                ErrorKind::PermissionDenied => failure.hint(format!(
                    "only root may raise it, and it is {}; the host gives more in /etc/security/limits.conf, or in \
                     systemd's unit",
                    words(now.hard)
                )),
                _ => failure,
            })
        })
    }

    /// Sets them all, for this process.
    pub(crate) fn set(&self) -> Result<(), Failure> {
        self.0.iter().try_for_each(|limit| {
            rlimit::set(None, Resource::from_number(limit.resource), Limit { soft: limit.soft, hard: limit.hard })
                .during(|| format!("set the limit {} to {}:{}", limit.name, words(limit.soft), words(limit.hard)))
        })
    }
}

fn words(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { limit.to_string() }
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::CPU,
        PosixRlimitType::RlimitFsize => Resource::FSIZE,
        PosixRlimitType::RlimitData => Resource::DATA,
        PosixRlimitType::RlimitStack => Resource::STACK,
        PosixRlimitType::RlimitCore => Resource::CORE,
        PosixRlimitType::RlimitRss => Resource::RSS,
        PosixRlimitType::RlimitNproc => Resource::NPROC,
        PosixRlimitType::RlimitNofile => Resource::NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::AS,
        PosixRlimitType::RlimitLocks => Resource::LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::NICE,
        PosixRlimitType::RlimitRtprio => Resource::RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RTTIME,
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::PosixRlimitBuilder;

    use super::*;

    fn limit(kind: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
        PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build().expect("all is there")
    }

    #[test]
    fn contradictions_are_refused() {
        let core = || limit(PosixRlimitType::RlimitCore, 1, 2);
        Rlimits::of(&[core(), limit(PosixRlimitType::RlimitNice, 1, 1)]).expect("valid");
        let twice = Rlimits::of(&[core(), core()]).expect_err("twice").to_string();
        assert_eq!(twice, "config: process.rlimits: RLIMIT_CORE: it is there twice");
        Rlimits::of(&[limit(PosixRlimitType::RlimitCore, 2, 1)]).expect_err("soft above hard");
    }

    #[test]
    fn lower_is_no_business_of_the_first_step() {
        let before = rlimit::get(None, Resource::LOCKS).expect("prlimit");
        let limits = Rlimits::of(&[limit(PosixRlimitType::RlimitLocks, 5, 10)]).expect("valid");
        limits.make_room(None).expect("room");
        assert_eq!(rlimit::get(None, Resource::LOCKS).expect("prlimit"), before);
        limits.set().expect("set");
        assert_eq!(rlimit::get(None, Resource::LOCKS).expect("prlimit"), Limit { soft: 5, hard: 10 });
    }
}
