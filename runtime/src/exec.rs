//! The last steps: ids, capabilities, the filter on system calls, and the program.

use std::ffi::CString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rbox_sys::caps::Sets;
use rbox_sys::socket::Channel;
use rbox_sys::{caps, exec, ids, process};
use rbox_types::Exit;

use crate::capability::SYS_ADMIN;
use crate::error::{During, Failure};
use crate::keyring::{self, Session};
use crate::plan::{Confinement, InitPlan};
use crate::report::Report;
use crate::rlimits::Rlimits;
use crate::seccomp;

/// Where execvp(3) looks without $PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with all that it is to start with; this process is its user already.
pub(crate) struct Program {
    name: String,
    candidates: Vec<PathBuf>,
    args: Vec<CString>,
    env: Vec<CString>,
    /// The filter that keeps it from its session keyring, where that is the caller's.
    keyless: Option<seccomp::Program>,
    /// Comes later than the rest.
    pub(crate) filter: Option<seccomp::Program>,
    rlimits: Rlimits,
}

/// Takes from this process what no program that it executes may ever have. Needs CAP_SETPCAP.
pub(crate) fn limit_capabilities(plan: &InitPlan) -> Result<(), Failure> {
    caps::limit_bounding_set(plan.capabilities.bounding).during(|| "limit the capabilities")
}

/// Becomes the workload's user, with its capabilities, in its directory.
pub(crate) fn prepare(plan: &InitPlan) -> Result<Program, Failure> {
    let c_strings = |strings: &[String], what: &str| {
        strings
            .iter()
            .map(|string| CString::new(string.as_str()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Failure::new(format!("take {what} with a NUL byte"), &ErrorKind::InvalidInput.into()))
    };
    let (args, env) = (c_strings(&plan.args, "an argument")?, c_strings(&plan.env, "a variable")?);
    let name = plan.args[0].clone();
    let candidates = candidates(&name, &plan.env);
    let mut keyless = None;
    if plan.new_keyring {
        plan.attributes.labels.apply_to_keyring()?;
        if keyring::begin(&plan.subject.id, plan.in_user_namespace)? == Session::Callers {
            keyless = Some(keyring::refusal()?);
        }
    }
    plan.attributes.apply(plan.enters)?;
    if !plan.limits_early() {
        // Before the setting of the others, which may take CAP_SETPCAP away.
        limit_capabilities(plan)?;
    }
    caps::keep_over_setuid(true).during(|| "keep the capabilities")?;
    become_user(plan)?;
    // Between the change of ids, which emptied the effective set, and the setting of the new one: a directory that
    // the workload's user may not enter is an error.
    process::change_directory(&plan.cwd)
        .during(|| format!("change to the working directory {}", plan.cwd.display()))?;
    caps::set(&until_execve(plan, keyless.is_some())).during(|| "set the capabilities")?;
    if plan.no_new_privileges {
        caps::set_no_new_privileges().during(|| "set no_new_privs")?;
    }
    process::set_umask(plan.umask);
    Ok(Program { name, candidates, args, env, keyless, filter: None, rlimits: plan.attributes.rlimits.clone() })
}

/// The sets that this process has until it becomes the workload. A filter is installed last, when nothing is left to be
/// done that it could forbid; without no_new_privs that takes CAP_SYS_ADMIN, which is therefore kept, for these last
/// steps. execve(2) takes it away: what it gives follows from the other three sets (capabilities(7)), and those are the
/// workload's already.
fn until_execve(plan: &InitPlan, keyless: bool) -> Sets {
    let mut sets = plan.capabilities;
    if (plan.confinement != Confinement::None || keyless) && !plan.no_new_privileges {
        for set in [&mut sets.permitted, &mut sets.effective] {
            set.0 |= SYS_ADMIN.0;
        }
    }
    sets
}

/// The sets that execve(2) leaves to a program without capabilities of its own: to root those that it may ever have, to
/// others the ambient ones.
pub(crate) fn after_execve(plan: &InitPlan) -> Sets {
    let left = if plan.user.uid == 0 { plan.capabilities.bounding } else { plan.capabilities.ambient };
    Sets { effective: left, permitted: left, ..plan.capabilities }
}

fn become_user(plan: &InitPlan) -> Result<(), Failure> {
    let user = &plan.user;
    if plan.keeps_groups {
        return ids::become_user(user.uid, user.gid)
            .during(|| format!("become user {} of group {}", user.uid, user.gid))
            .map_err(with_id_hint);
    }
    match ids::set_groups(&user.additional_gids) {
        // With one id mapped, setgroups(2) is forbidden and there is no other group to be in.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && user.additional_gids.is_empty() => {}
        other => other.during(|| format!("set the groups {:?}", user.additional_gids)).map_err(with_id_hint)?,
    }
    ids::become_user(user.uid, user.gid)
        .during(|| format!("become user {} of group {}", user.uid, user.gid))
        .map_err(with_id_hint)
}

fn with_id_hint(failure: Failure) -> Failure {
    failure.hint(
        "the id is not mapped into the container; `rbox info` shows the map, and ranges in /etc/subuid and /etc/subgid \
         widen it",
    )
}

/// The files that `name` may mean, in the order in which they are tried.
fn candidates(name: &str, env: &[String]) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![name.into()];
    }
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':').map(|dir| Path::new(if dir.is_empty() { "." } else { dir }).join(name)).collect()
}

impl Program {
    /// Whether its filter has a listener, which the launcher gets when it is installed.
    pub(crate) fn notifies(&self) -> bool {
        self.filter.as_ref().is_some_and(seccomp::Program::notifies)
    }

    /// Puts this process under the program's filters, where there are some that are not installed yet. The one of a
    /// profile, which may forbid seccomp(2), comes last.
    pub(crate) fn confine(&mut self, channel: &Channel) -> Result<(), Failure> {
        let mut filters = [self.keyless.take(), self.filter.take()].into_iter().flatten();
        filters.try_for_each(|filter| install(&filter, channel))
    }

    /// Puts this process under the program's limits and filter. Nothing that a container can do without comes after it.
    pub(crate) fn limit(&mut self, channel: &Channel) -> Result<(), Failure> {
        self.rlimits.set()?;
        self.confine(channel)
    }

    /// Becomes the program; returns only to say why not, for whoever is told of it if the filter lets that.
    pub(crate) fn execute(self) -> Failure {
        let mut denied = None;
        for candidate in &self.candidates {
            let Ok(path) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
            let error = exec::execve(&path, &self.args, &self.env);
            match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => {
                    // A file that is there and yet "not found" lacks its interpreter.
                    if candidate.is_file() {
                        denied = Some(Failure::new(format!("execute {}", candidate.display()), &error).hint(
                            "the file is there, but not the interpreter that its first line or ELF header names",
                        ));
                    }
                }
                _ => {
                    denied.get_or_insert(Failure::new(format!("execute {}", candidate.display()), &error));
                }
            }
        }
        match denied {
            Some(failure) if failure.hint.is_some() => failure.status(Exit::NOT_FOUND),
            Some(failure) => failure.status(Exit::NOT_EXECUTABLE),
            None => self.not_found(),
        }
    }

    /// Fails for what could not be executed, as far as a look tells: where there is time until it is executed, the
    /// engine is to hear of it before.
    pub(crate) fn look_for(&self) -> Result<(), Failure> {
        let mut there = None;
        for candidate in &self.candidates {
            let Ok(metadata) = candidate.metadata() else { continue };
            if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
                return Ok(());
            }
            there.get_or_insert(candidate);
        }
        let Some(candidate) = there else { return Err(self.not_found()) };
        let error = ErrorKind::PermissionDenied.into();
        let mut failure = Failure::new(format!("execute {}", candidate.display()), &error).status(Exit::NOT_EXECUTABLE);
        failure.why = Some("permission denied: it is no executable file".into());
        Err(failure)
    }

    fn not_found(&self) -> Failure {
        // In the words that engines look for.
        let why = if self.name.contains('/') {
            "no such file or directory in the container"
        } else {
            "executable file not found in $PATH of the container"
        };
        let mut failure =
            Failure::new(format!("execute {:?}", self.name), &ErrorKind::NotFound.into()).status(Exit::NOT_FOUND);
        failure.why = Some(why.into());
        failure
    }
}

fn install(filter: &seccomp::Program, channel: &Channel) -> Result<(), Failure> {
    const WHAT: &str = "install the seccomp filter";
    if let Some(action) = filter.unknown_action() {
        let unknown = format!("this kernel does not know the action {action:#x}");
        return Err(Failure::new(WHAT, &std::io::Error::new(ErrorKind::Unsupported, unknown)));
    }
    // Only where there is a listener does the channel need to be another thread's too.
    let channel = filter.notifies().then(|| channel.try_clone()).transpose().during(|| WHAT)?;
    let deliver = move |listener: OwnedFd| {
        channel.map_or(Ok(()), |channel| Report::Listener.send(&channel, Some(listener.as_fd())))
    };
    filter.install(deliver).map_err(|error| {
        let failure = Failure::new(WHAT, &error);
        match error.kind() {
            ErrorKind::InvalidInput => failure.hint("the profile may have a flag that this kernel does not know"),
            ErrorKind::Unsupported => failure.hint("the kernel needs CONFIG_SECCOMP_FILTER"),
            _ => failure,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_program_is_looked_for() {
        let env = ["PATH=/a".to_owned(), "PATH=/b::/c".to_owned()];
        assert_eq!(candidates("x", &env), [PathBuf::from("/b/x"), "./x".into(), "/c/x".into()]);
        assert_eq!(candidates("./x", &env), [PathBuf::from("./x")]);
        assert_eq!(candidates("sh", &[])[5], PathBuf::from("/bin/sh"));
    }
}
