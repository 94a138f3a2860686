//! Hooks: programs of the engine's own that run at points of a container's life (runtime spec, "POSIX-platform Hooks").
//!
//! `prestart` and `createRuntime` run outside, when the namespaces and mounts are there; `createContainer` inside, before
//! the root changes; `startContainer` inside the new root, before the workload; `poststart` and `poststop` outside. A
//! hook gets the container's state on its standard input. One that fails ends what it is a part of.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use oci_spec::runtime::{Hook as SpecHook, Hooks as SpecHooks};
use rbox_sys::clone::open_pidfd;
use rbox_sys::poll::{self, Interest};
use serde::{Deserialize, Serialize};

use crate::error::{During, Failure};
use crate::status::Status;

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    path: PathBuf,
    /// With the name that it is to see as its own first; none means its path.
    args: Vec<String>,
    /// All of its environment; none: that of the workload for a hook inside, and nothing outside.
    env: Option<Vec<String>>,
    /// Seconds.
    timeout: Option<u64>,
}

/// All of a container's hooks, by where they run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    pub(crate) create_runtime: Vec<Hook>,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
}

/// What a hook is told of the container, but for its status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The spec's version.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Its bundle, an absolute path.
    pub bundle: PathBuf,
    /// The spec's annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Hooks {
    /// Those of a spec.
    pub fn of(spec: Option<&SpecHooks>) -> Self {
        let Some(spec) = spec else { return Self::default() };
        let hooks = |hooks: &Option<Vec<SpecHook>>| hooks.iter().flatten().map(Hook::of).collect::<Vec<_>>();
        // Deprecated, and still what engines use.
        let mut create_runtime = hooks(spec.prestart());
        create_runtime.extend(hooks(spec.create_runtime()));
        Self {
            create_runtime,
            create_container: hooks(spec.create_container()),
            start_container: hooks(spec.start_container()),
            poststart: hooks(spec.poststart()),
            poststop: hooks(spec.poststop()),
        }
    }
}

impl Subject {
    /// The state as the spec's JSON. `pid` is the workload's, as whoever reads it numbers processes.
    pub fn state(&self, status: Status, pid: Option<u32>) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "bundle": self.bundle,
            "annotations": self.annotations,
        });
        if let Some(pid) = pid {
            state["pid"] = pid.into();
        }
        state
    }
}

/// Runs hooks one after the other, until one fails. `env` is the environment of those that have none.
pub(crate) fn run(hooks: &[Hook], state: &serde_json::Value, env: &[String]) -> Result<(), Failure> {
    hooks.iter().try_for_each(|hook| hook.run(state.to_string().as_bytes(), env))
}

impl Hook {
    fn of(spec: &SpecHook) -> Self {
        Self {
            path: spec.path().clone(),
            args: spec.args().clone().unwrap_or_default(),
            env: spec.env().clone(),
            timeout: spec.timeout().and_then(|seconds| u64::try_from(seconds).ok()),
        }
    }

    fn run(&self, state: &[u8], env: &[String]) -> Result<(), Failure> {
        let what = || format!("run the hook {}", self.path.display());
        let status = self.finish(state, self.env.as_deref().unwrap_or(env)).during(what)?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(what(), &io::Error::other(format!("it ended with {status}"))))
    }

    fn finish(&self, state: &[u8], env: &[String]) -> io::Result<ExitStatus> {
        let mut command = Command::new(&self.path);
        if let Some((name, arguments)) = self.args.split_first() {
            command.arg0(name).args(arguments);
        }
        command.env_clear().envs(env.iter().filter_map(|variable| variable.split_once('=')));
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(state) {
                // A hook need not read.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                result => result?,
            }
        }
        if let Some(seconds) = self.timeout {
            let pidfd = open_pidfd(child.id())?;
            let [ended] =
                poll::wait([(std::os::fd::AsFd::as_fd(&pidfd), Interest::Read)], Some(Duration::from_secs(seconds)))?;
            if !ended {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not done after {seconds} s")));
            }
        }
        child.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<u64>) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook { path: "/bin/sh".into(), args, env: Some(vec!["PATH=/usr/bin:/bin".into(), "A=b=c".into()]), timeout }
    }

    #[test]
    fn it_reads_the_state_and_has_its_own_environment() {
        let subject =
            Subject { id: "x1".into(), annotations: [("a.b".into(), "c".into())].into(), ..Subject::default() };
        let state = subject.state(Status::Creating, Some(7));
        let script = r#"test "$A" = b=c && test -z "$HOME" && grep -q '"id":"x1"' "#;
        run(&[shell(script, None)], &state, &[]).expect("passes");
        let fields = r#"in=$(cat); for f in '"pid":7' '"status":"creating"' '"a.b":"c"'; do
            case $in in *"$f"*) ;; *) exit 1;; esac; done"#;
        run(&[shell(fields, None)], &state, &[]).expect("passes");
    }

    #[test]
    fn the_first_that_fails_ends_it() {
        let state = Subject::default().state(Status::Creating, None);
        let failure = run(&[shell("exit 3", None), shell("touch /nowhere", None)], &state, &[]).expect_err("fails");
        assert!(failure.to_string().contains("/bin/sh") && failure.to_string().contains('3'), "{failure}");
        let failure = run(&[shell("exec sleep 600", Some(1))], &state, &[]).expect_err("takes too long");
        assert!(failure.to_string().contains("1 s"), "{failure}");
    }
}
