//! A container's cgroup as a unit of systemd's: a transient scope (systemd.scope(5), org.freedesktop.systemd1(5)).
//!
//! # Theory of operation
//!
//! ```text
//! Scope::plan          linux.cgroupsPath, `slice:prefix:name` → the unit's name, its slice, and the bus to ask
//! Manager::connect     the bus; before anything is made, since this is what fails
//! Manager::ask, joined StartTransientUnit with the first process in it, and Delegate=yes: what is below is ours
//! Manager::attach      one more process, from wherever it is
//! Manager::set         limits that change
//! Manager::stop        StopUnit, ResetFailedUnit
//! ```
//!
//! A job is waited for (its `JobRemoved`): only then is the process where it belongs. Which cgroup that is, /proc says, and
//! all else about it is as without systemd. The limits are properties of the unit too, so that systemd, when it writes all
//! of them anew, writes the same.
//!
//! Root's bus is the system's; a user's is his session's, with a systemd of his own behind it.

mod address;
mod bus;
#[cfg(test)]
mod fake;
mod login;
mod name;
mod properties;
mod wire;

use std::io;
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use bus::{Bus, Signal};
use name::Name;
use wire::Value;

pub use address::Address;
pub use login::kills_sessions_of;

/// systemd on the bus.
const SYSTEMD: bus::Object<'_> = bus::Object {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// How long a job may take: with much to do systemd is slow, and without end nobody waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// What systemd was asked for and did not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `linux.cgroupsPath` is not in systemd's form.
    #[error("config: linux.cgroupsPath: {0:?} {1}")]
    Path(String, String),
    /// There is no bus to ask.
    #[error("cannot reach systemd: {0}")]
    NoBus(String),
    /// The bus is not there, or does not talk.
    #[error("cannot reach systemd by way of the socket {socket}")]
    Unreachable {
        /// The bus's socket.
        socket: String,
        /// Why.
        source: io::Error,
    },
    /// There is a bus, and no systemd on it.
    #[error("cannot reach systemd: there is none on the bus {socket}")]
    Absent {
        /// The bus's socket.
        socket: String,
    },
    /// systemd said no.
    #[error("systemd refuses to {operation} {unit}: {message}")]
    Refused {
        /// What was asked: "start".
        operation: &'static str,
        /// Of which unit.
        unit: String,
        /// The error's name.
        name: String,
        /// What it said.
        message: String,
    },
    /// systemd tried, and failed.
    #[error("systemd could not {operation} {unit}: the job's result is {result:?}")]
    Job {
        /// What was asked: "start".
        operation: &'static str,
        /// Of which unit.
        unit: String,
        /// "failed", "timeout", …
        result: String,
    },
    /// The process is in another cgroup than that of the unit.
    #[error("the container's first process is in the cgroup {found}, and not in that of {unit}")]
    Elsewhere {
        /// The unit.
        unit: String,
        /// The process's cgroup.
        found: String,
    },
}

impl Error {
    /// Whether there is nobody to ask.
    pub(crate) fn is_no_systemd(&self) -> bool {
        matches!(self, Self::NoBus(_) | Self::Unreachable { .. } | Self::Absent { .. })
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoBus(_) | Self::Unreachable { .. } | Self::Absent { .. } => Some(
                "without --systemd-cgroup no systemd is asked; a user's own is there after a login, or: \
                 loginctl enable-linger USER"
                    .into(),
            ),
            Self::Path(..) => Some("with --systemd-cgroup it is slice:prefix:name, as in user.slice:rbox:one".into()),
            _ => None,
        }
    }
}

/// A container's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// `prefix-name.scope`.
    unit: String,
    /// `a-b.slice`.
    slice: String,
    address: Address,
}

impl Scope {
    /// `cgroups_path` is the spec's; without one it is `rbox-ID.scope` in the slice for services, or a user's.
    pub(crate) fn plan(cgroups_path: Option<&str>, id: &str, privileged: bool) -> Result<Self, Error> {
        let address = if privileged { Address::of_system() } else { Address::of_user() }?;
        Self::at(address, cgroups_path, id, privileged)
    }

    /// As [`plan`](Self::plan), of the systemd behind this bus.
    pub(crate) fn at(address: Address, cgroups_path: Option<&str>, id: &str, privileged: bool) -> Result<Self, Error> {
        let Name { unit, slice } = Name::parse(cgroups_path.unwrap_or_default(), id, privileged)?;
        Ok(Self { unit, slice, address })
    }
}

/// systemd, reached.
#[derive(Debug)]
pub(crate) struct Manager {
    bus: Bus,
    scope: Scope,
}

/// What systemd was asked for, and is at: the numbers of the calls, of which the last one gives a job.
#[derive(Debug)]
pub(crate) struct Asked {
    operation: &'static str,
    calls: [u32; 3],
}

/// The signal that a job has ended.
const JOB_REMOVED: Signal<'_> = Signal { interface: SYSTEMD.interface, member: "JobRemoved" };

impl Manager {
    /// Connects to the bus of the scope's systemd.
    pub(crate) fn connect(scope: &Scope) -> Result<Self, Error> {
        let unreachable = |source| Error::Unreachable { socket: scope.address.to_string(), source };
        Ok(Self { bus: Bus::connect(&scope.address, PATIENCE).map_err(unreachable)?, scope: scope.clone() })
    }

    /// The scope.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Starts the scope, with this process in it and these limits.
    pub(crate) fn start(&mut self, pid: u32, id: &str, resources: Option<&LinuxResources>) -> Result<(), Error> {
        let asked = self.ask(pid, id, resources)?;
        self.joined(asked)
    }

    /// Asks for the scope, with this process in it and these limits. While systemd is at it, there is other work to do.
    pub(crate) fn ask(&mut self, pid: u32, id: &str, resources: Option<&LinuxResources>) -> Result<Asked, Error> {
        let mut all = properties::of_scope(&self.scope.slice, pid, id);
        all.extend(resources.map(properties::of_limits).unwrap_or_default());
        // No auxiliary units.
        let body = [self.unit(), Value::text("fail"), Value::Properties(all), Value::AuxiliaryUnits];
        self.ask_for_job("start", "StartTransientUnit", &body)
    }

    /// Waits until the scope has the process.
    pub(crate) fn joined(&mut self, asked: Asked) -> Result<(), Error> {
        self.wait_for_job(asked)
    }

    /// Moves a process of the same user's into the scope, also where only the system's own systemd may do that, which the
    /// user's then asks (org.freedesktop.systemd1(5), "AttachProcessesToUnit").
    pub(crate) fn attach(&mut self, pid: u32) -> Result<(), Error> {
        let body = [self.unit(), Value::text(""), Value::U32s(vec![pid])];
        self.call("move a process into", "AttachProcessesToUnit", &body).map(drop)
    }

    /// Fails unless a cgroup, as /proc/PID/cgroup has it, is the scope's.
    pub(crate) fn check(&self, cgroup: &str) -> Result<(), Error> {
        let Scope { unit, slice, .. } = &self.scope;
        match cgroup.ends_with(&format!("/{}{unit}", name::expand(slice))) {
            true => Ok(()),
            false => Err(Error::Elsewhere { unit: unit.clone(), found: cgroup.to_owned() }),
        }
    }

    /// The cgroup that systemd itself has to divide (its `ControlGroup`).
    pub(crate) fn own_cgroup(&mut self) -> Result<String, Error> {
        let properties = bus::Object { interface: "org.freedesktop.DBus.Properties", ..SYSTEMD };
        let body = [Value::text(SYSTEMD.interface), Value::text("ControlGroup")];
        let answer = self.bus.call(&properties, "Get", &body).map_err(|failure| self.failed("ask for", failure))?;
        let mut body = answer.body();
        let path = body.signature().filter(|signature| *signature == "s").and_then(|_| body.text());
        let strange = || self.failed("ask for", bus::Failure::strange("no path of a cgroup"));
        Ok(path.ok_or_else(strange)?.trim_matches('/').to_owned())
    }

    /// Changes its limits, until it is stopped.
    pub(crate) fn set(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        let limits = properties::of_limits(resources);
        self.call("change", "SetUnitProperties", &[self.unit(), Value::Bool(true), Value::Properties(limits)]).map(drop)
    }

    /// Stops it, and has systemd forget it. That it is gone is well: it goes with its last process.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        let gone = |error: &Error| matches!(error, Error::Refused { name, .. } if name == bus::NO_SUCH_UNIT);
        let stopped = self.job("stop", "StopUnit", &[self.unit(), Value::text("replace")]);
        let forgotten = self.call("forget", "ResetFailedUnit", &[self.unit()]).map(drop);
        for result in [stopped, forgotten] {
            match result {
                Err(error) if gone(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn unit(&self) -> Value {
        Value::text(&self.scope.unit)
    }

    /// Calls a method that gives a job, and waits for the job's end.
    fn job(&mut self, operation: &'static str, member: &str, body: &[Value]) -> Result<(), Error> {
        let asked = self.ask_for_job(operation, member, body)?;
        self.wait_for_job(asked)
    }

    fn ask_for_job(&mut self, operation: &'static str, member: &str, body: &[Value]) -> Result<Asked, Error> {
        let mut ask = || -> Result<[u32; 3], bus::Failure> {
            // The bus hands on what is listened for, and systemd says what somebody has subscribed to.
            let listened = self.bus.ask_to_listen(&JOB_REMOVED, SYSTEMD.destination)?;
            let subscribed = self.bus.ask(&SYSTEMD, "Subscribe", &[])?;
            Ok([listened, subscribed, self.bus.ask(&SYSTEMD, member, body)?])
        };
        let calls = ask();
        calls.map(|calls| Asked { operation, calls }).map_err(|failure| self.failed(operation, failure))
    }

    fn wait_for_job(&mut self, Asked { operation, calls: [listened, subscribed, asked] }: Asked) -> Result<(), Error> {
        for call in [listened, subscribed] {
            self.bus.answer(call).map_err(|failure| self.failed(operation, failure))?;
        }
        let job = self.bus.answer(asked).map_err(|failure| self.failed(operation, failure))?;
        let strange = || self.failed(operation, bus::Failure::strange("a job without a path"));
        let job = job.text().ok_or_else(strange)?;
        loop {
            let message = self.bus.next_signal(&JOB_REMOVED).map_err(|failure| self.failed(operation, failure))?;
            let strange = || self.failed(operation, bus::Failure::strange("a job's end without a result"));
            // Its number, its path, the unit, the result.
            let mut body = message.body();
            let told = body.number().and_then(|_| Some((body.text()?, body.text()?, body.text()?)));
            match told.ok_or_else(strange)? {
                (path, _, _) if path != job => {}
                (_, _, "done") => return Ok(()),
                (_, unit, result) => {
                    return Err(Error::Job { operation, unit: unit.to_owned(), result: result.to_owned() });
                }
            }
        }
    }

    fn call(&mut self, operation: &'static str, member: &str, body: &[Value]) -> Result<wire::Message, Error> {
        self.bus.call(&SYSTEMD, member, body).map_err(|failure| self.failed(operation, failure))
    }

    fn failed(&self, operation: &'static str, failure: bus::Failure) -> Error {
        match failure {
            bus::Failure::Io(source) => Error::Unreachable { socket: self.scope.address.to_string(), source },
            bus::Failure::Refused { name, .. } if bus::NOBODY.contains(&&*name) => {
                Error::Absent { socket: self.scope.address.to_string() }
            }
            bus::Failure::Refused { name, message } => {
                Error::Refused { operation, unit: self.scope.unit.clone(), name, message }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{Answer, FakeBus};
    use super::*;

    fn scope(bus: &FakeBus) -> Scope {
        Scope::at(bus.address(), Some(":rbox:one"), "one", false).expect("a scope")
    }

    #[test]
    fn a_scope_is_asked_for_early_and_joined_late() {
        let bus = FakeBus::start(|member| match member {
            "StartTransientUnit" => Answer::Job("done"),
            _ => Answer::Empty,
        });
        let mut manager = Manager::connect(&scope(&bus)).expect("a bus");
        let resources = serde_json::from_str(r#"{"pids": {"limit": 7}}"#).expect("resources");
        // What this says does not wait for an answer.
        let asked = manager.ask(4711, "one", Some(&resources)).expect("asked");
        manager.joined(asked).expect("the job is done");
        let asked = bus.asked();
        let members: Vec<&str> = asked.iter().map(|(member, _)| member.as_str()).collect();
        assert_eq!(members, ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]);
        let has = |what: &[u8]| asked[3].1.windows(what.len()).any(|window| window == what);
        for word in ["rbox-one.scope", "fail", "user.slice", "Delegate", "PIDs", "TasksMax", "inactive-or-failed"] {
            assert!(has(word.as_bytes()), "{word}");
        }
        assert!(has(&4711_u32.to_le_bytes()) && has(&7_u64.to_le_bytes()));
        manager.attach(4712).expect("attached");
        manager.set(&resources).expect("set");
        let members: Vec<String> = bus.asked().into_iter().map(|(member, _)| member).collect();
        assert_eq!(members, ["AttachProcessesToUnit", "SetUnitProperties"]);
    }

    #[test]
    fn what_systemd_does_not_do_is_told() {
        let bus = FakeBus::start(|member| match member {
            "StartTransientUnit" => Answer::Job("timeout"),
            "SetUnitProperties" => Answer::Refusal("org.freedesktop.DBus.Error.AccessDenied", "not for you"),
            "AttachProcessesToUnit" => Answer::Refusal("org.freedesktop.DBus.Error.ServiceUnknown", "nobody"),
            _ => Answer::Empty,
        });
        let mut manager = Manager::connect(&scope(&bus)).expect("a bus");
        let failed = manager.start(1, "one", None).expect_err("a job that failed");
        assert_eq!(failed.to_string(), "systemd could not start a.scope: the job's result is \"timeout\"");
        let refused = manager.set(&LinuxResources::default()).expect_err("a refusal");
        assert_eq!(refused.to_string(), "systemd refuses to change rbox-one.scope: not for you");
        let absent = manager.attach(2).expect_err("nobody");
        assert!(absent.is_no_systemd() && absent.to_string().contains("there is none on the bus"), "{absent}");
        assert!(!failed.is_no_systemd() && !refused.is_no_systemd());
    }

    #[test]
    fn a_bus_that_hangs_up_is_told() {
        let bus = FakeBus::start(|member| if member == "Hello" { Answer::Empty } else { Answer::Silence });
        let mut manager = Manager::connect(&scope(&bus)).expect("a bus");
        let gone = manager.start(1, "one", None).expect_err("it is gone");
        assert!(gone.is_no_systemd(), "{gone}");
        let nowhere = Scope { address: Address::Path("/no/such/bus".into()), ..scope(&bus) };
        let error = Manager::connect(&nowhere).expect_err("no bus");
        assert!(error.is_no_systemd() && error.to_string().contains("/no/such/bus"), "{error}");
    }
}
