//! Image config + request → the OCI runtime spec that the runtime runs. No I/O.

pub(crate) mod exec;
mod one_id;
pub(crate) mod security;
mod settings;

use std::path::PathBuf;

use oci_spec::image::Config;
use oci_spec::runtime::{
    Box as ConsoleSize, BoxBuilder as ConsoleSizeBuilder, Linux, LinuxNamespace, LinuxSeccomp, Mount, Process, Root,
    Spec,
};
use rbox_runtime::seccomp::{self, KernelVersion};
use rbox_runtime::{DEFAULT_CAPABILITIES, NamespacePlan, VolumePlan};
use serde::{Deserialize, Serialize};

use crate::on_host::OnHost;
use crate::request::RunRequest;
use crate::security::Security;
use crate::shared::{LATER, Shared, Source};
use crate::volume::placed::Placed;

/// What a run will do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunPlan {
    /// For the runtime. Its user is root until the image's passwd has been asked for `user`.
    pub spec: Spec,
    /// `user[:group]`, each a name or a number; empty for root.
    pub user: String,
    /// Supplementary groups besides the user's own, each a name or a number.
    pub groups: Vec<String>,
    /// Whether the filter on system calls is the runtime's built-in one, which the spec then does not spell out.
    pub built_in_filter: bool,
    /// How many of the words that are executed are the entrypoint.
    #[serde(default)]
    pub entrypoint: usize,
    /// What is to be done before some of the spec's mounts are seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumePlan>,
}

impl RunPlan {
    /// The plan with the namespaces that are meant now, of one that was made before it was known whose.
    pub(crate) fn sharing(mut self, shared: &Shared) -> Self {
        if let Some(linux) = self.spec.linux_mut() {
            linux.set_namespaces(Some(shared.namespaces()));
        }
        let later = NamespacePlan::shm_of(LATER);
        for mount in self.spec.mounts_mut().iter_mut().flatten().filter(|mount| mount.source().as_ref() == Some(&later))
        {
            mount.set_source(shared.shm());
        }
        self
    }

    /// The spec, with what is built in spelt out, for people.
    pub fn spec_in_full(&self) -> Spec {
        let mut spec = self.spec.clone();
        if let Some(mut linux) = spec.linux().clone().filter(|_| self.built_in_filter) {
            let capabilities = DEFAULT_CAPABILITIES.into_iter().collect();
            linux.set_seccomp(Some(seccomp::default_profile(&capabilities, KernelVersion::OLDEST)));
            spec.set_linux(Some(linux));
        }
        spec
    }
}

/// What only the host knows.
pub(crate) struct Host<'a> {
    pub(crate) hostname: &'a str,
    /// Rows and columns, where the workload gets a terminal.
    pub(crate) terminal: Option<(u16, u16)>,
    /// More than one id is mapped, so that group tty (5) exists.
    pub(crate) many_ids: bool,
    /// Container root is not the caller, whose files are to be shown as its own.
    pub(crate) foreign_root: bool,
    pub(crate) volumes: &'a [Placed],
    pub(crate) kernel: KernelVersion,
    /// Device nodes that a privileged container gets besides its own.
    pub(crate) devices: &'a [PathBuf],
    /// Whose namespaces it has.
    pub(crate) shared: &'a Shared,
    /// What is to be known for the settings.
    pub(crate) on_host: &'a OnHost,
}

/// Why there is nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Neither the image nor the user names a command.
    #[error("the image names no command, and none was given")]
    NoCommand,
    /// The image's WorkingDir or the user's is not absolute.
    #[error("the working directory {0:?} is not an absolute path")]
    RelativeWorkdir(PathBuf),
    /// `--cap-add` and `--cap-drop` of the same.
    #[error("capability {0} cannot be both added and dropped")]
    Contradiction(String),
    /// `--security-opt seccomp=FILE`.
    #[error("the seccomp profile {name}: {why}")]
    Seccomp {
        /// Where it is from.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two flags that do not go together.
    #[error("{0} does not go with {1}")]
    Together(&'static str, &'static str),
    /// `--group-add` where one id is mapped.
    #[error("--group-add: this user's containers have one group, and nobody in them can be in another")]
    OneGroup,
    /// `--dns` and its like.
    #[error("{0}")]
    Resolver(String),
    /// `--memory` and its like.
    #[error("{0}")]
    Limits(String),
    /// `--network` and its like.
    #[error("--network: {0}")]
    Network(String),
    /// `--sysctl` of what is not the container's.
    #[error("--sysctl {name}: {why}")]
    Sysctl {
        /// Which.
        name: String,
        /// Why not.
        why: String,
    },
}

/// Without an image's own (Docker's default).
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Plans a run.
pub(crate) fn plan(config: Option<&Config>, request: &RunRequest, host: &Host<'_>) -> Result<RunPlan, PlanError> {
    let security = &request.security;
    let granted = security.granted()?;
    settings::check(request, host)?;
    // Who keeps his id is himself, whoever the image is for; as in Podman.
    let kept = host.shared.kept(request).map(|(uid, gid)| format!("{uid}:{gid}"));
    let user = request.user.clone().or(kept).or_else(|| config?.user().clone()).unwrap_or_default();
    let (context, mount_context) = security.label.contexts().unzip();
    let built_in = security.has_default_profile() && seccomp::is_built_in(&granted);
    // That one refuses by itself.
    let built_in_filter = built_in && !request.explain_denied && host.many_ids;
    let (args, entrypoint) = args(config, request)?;
    let profile = if built_in_filter { None } else { security.seccomp(&granted, host.kernel)? };
    // Who wants no filter at all gets none.
    let profile = match host.many_ids || security.is_unfiltered() {
        true => profile,
        false => Some(one_id::answer_for_the_kernel(profile)),
    };
    let mut process = Process::default();
    process
        .set_terminal(Some(request.tty))
        .set_args(Some(args))
        .set_env(Some(env(config, request, host)))
        .set_cwd(workdir(config, request)?)
        .set_capabilities(Some(security.capabilities(&granted, &user)))
        .set_no_new_privileges(Some(security.no_new_privileges))
        .set_apparmor_profile(security.apparmor.clone())
        .set_selinux_label(context);
    process.set_console_size(host.terminal.and_then(console_size));
    let on_host = host.on_host;
    settings::set_for_process(
        &mut process,
        &request.settings.limits,
        &on_host.hard_limits,
        on_host.least_oom_score_adj,
    );
    let mut root = Root::default();
    // The runtime is handed a detached mount; the path is for people who read the spec.
    root.set_path("rootfs".into()).set_readonly(Some(request.read_only));
    let mut spec = Spec::default();
    spec.set_process(Some(process))
        .set_root(Some(root))
        .set_hostname((host.shared.uts == Source::Own).then(|| host.hostname.into()))
        .set_mounts(Some(mounts(request, host)))
        .set_linux(Some(linux(host.shared.namespaces(), security, profile, mount_context)));
    settings::set_for_spec(&mut spec, &request.settings, on_host);
    let groups = if request.settings.keeps_groups() { Vec::new() } else { request.settings.groups.clone() };
    let volumes = host.volumes.iter().filter_map(Placed::plan).collect();
    Ok(RunPlan { spec, user, groups, built_in_filter, entrypoint, volumes })
}

/// The size of a terminal of so many rows and columns, as a spec has it.
pub fn console_size((rows, columns): (u16, u16)) -> Option<ConsoleSize> {
    ConsoleSizeBuilder::default().height(u64::from(rows)).width(u64::from(columns)).build().ok()
}

/// Entrypoint and Cmd as Docker combines them: a command replaces Cmd; an entrypoint replaces both. With the number of
/// words of the entrypoint.
fn args(config: Option<&Config>, request: &RunRequest) -> Result<(Vec<String>, usize), PlanError> {
    let of_image = |part: fn(&Config) -> &Option<Vec<String>>| config.and_then(|config| part(config).clone());
    let (mut args, cmd) = match &request.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), None),
        None => (of_image(Config::entrypoint).unwrap_or_default(), of_image(Config::cmd)),
    };
    let entrypoint = args.len();
    if request.command.is_empty() {
        args.extend(cmd.unwrap_or_default());
    } else {
        args.extend(request.command.iter().cloned());
    }
    if args.is_empty() { Err(PlanError::NoCommand) } else { Ok((args, entrypoint)) }
}

/// The image's variables over the defaults, the user's over both; HOME comes from passwd, later.
fn env(config: Option<&Config>, request: &RunRequest, host: &Host<'_>) -> Vec<String> {
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={}", host.hostname), "container=rbox".into()];
    if request.tty {
        env.push("TERM=xterm".into());
    }
    set_over(&mut env, request.host_env.iter().cloned());
    let of_image = config.and_then(|config| config.env().clone()).unwrap_or_default();
    set_over(&mut env, of_image.into_iter().chain(request.env.iter().cloned()));
    env
}

/// Sets variables in the place of those of the same names.
fn set_over(env: &mut Vec<String>, variables: impl IntoIterator<Item = String>) {
    for variable in variables {
        let name_and_sign = variable.find('=').map_or(variable.as_str(), |sign| &variable[..=sign]);
        match env.iter_mut().find(|known| known.starts_with(name_and_sign)) {
            Some(known) => *known = variable,
            None => env.push(variable),
        }
    }
}

fn workdir(config: Option<&Config>, request: &RunRequest) -> Result<PathBuf, PlanError> {
    let of_image = || config?.working_dir().clone().filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let dir = request.workdir.clone().or_else(of_image).unwrap_or_else(|| "/".into());
    if dir.is_absolute() { Ok(dir) } else { Err(PlanError::RelativeWorkdir(dir)) }
}

fn mounts(request: &RunRequest, host: &Host<'_>) -> Vec<Mount> {
    let mut devpts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if host.many_ids {
        devpts.push("gid=5");
    }
    // Read-only unless it is to be written.
    let kernels = |written: bool| if written { "rw" } else { "ro" };
    let (sys, cgroups) = (kernels(request.security.writes_sys()), kernels(request.security.writes_cgroups()));
    let mut mounts = vec![
        settings::proc(host),
        mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("devpts", "/dev/pts", &devpts),
        settings::sys(host, sys),
        mount("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", cgroups]),
    ];
    mounts.extend(settings::ipc(&request.settings, host));
    let mut asked: Vec<Mount> = request
        .tmpfs
        .iter()
        .map(|tmpfs| {
            let mut options = vec!["noexec", "nosuid", "nodev", "mode=1777"];
            options.extend(tmpfs.options.iter().map(String::as_str));
            let mut mount = mount("tmpfs", "", &options);
            mount.set_destination(tmpfs.destination.clone());
            mount
        })
        .chain(host.volumes.iter().map(|placed| {
            let options = placed.asked.spec_options(host.foreign_root);
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            bind(placed.source.clone(), placed.asked.destination.clone(), &options)
        }))
        .collect();
    mounts.extend(host.devices.iter().map(|node| bind(node.clone(), node.clone(), &["bind", "nosuid", "noexec"])));
    mounts.extend(settings::of_host(host));
    // A mount inside another's destination must come after it.
    asked.sort_by_key(|mount| mount.destination().components().count());
    // The user's own file in place of one of ours is mounted over it.
    mounts.extend(asked);
    mounts
}

fn mount(kind: &str, destination: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_typ(Some(kind.into()))
        .set_source(Some(kind.into()))
        .set_destination(destination.into())
        .set_options(Some(options.iter().map(|option| (*option).into()).collect()));
    mount
}

fn bind(source: PathBuf, destination: PathBuf, options: &[&str]) -> Mount {
    let mut mount = mount("bind", "", options);
    mount.set_source(Some(source)).set_destination(destination);
    mount
}

fn linux(
    namespaces: Vec<LinuxNamespace>,
    security: &Security,
    seccomp: Option<LinuxSeccomp>,
    mount_context: Option<String>,
) -> Linux {
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces))
        .set_masked_paths(Some(security.masked_paths()))
        .set_readonly_paths(Some(security.read_only_paths()))
        .set_mount_label(mount_context)
        .set_seccomp(seccomp)
        // The type's default has device rules for a cgroup, which a user namespace needs none of.
        .set_resources(None);
    linux
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::security::Seccomp;

    fn request() -> RunRequest {
        RunRequest::new("alpine".parse().expect("valid"))
    }

    fn planned(config: &Config, request: &RunRequest) -> Result<RunPlan, PlanError> {
        let volumes: Vec<Placed> = request.volumes.iter().cloned().map(Placed::somewhere).collect();
        let host = Host {
            hostname: "box",
            terminal: None,
            many_ids: true,
            foreign_root: false,
            volumes: &volumes,
            kernel: KernelVersion { major: 6, minor: 1 },
            devices: &[],
            shared: &Shared::default(),
            on_host: &OnHost::default(),
        };
        plan(Some(config), request, &host)
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).into()).collect()
    }

    #[test]
    fn entrypoint_and_command() {
        let mut config = Config::default();
        config.set_entrypoint(Some(strings(&["/entry"])));
        config.set_cmd(Some(strings(&["serve"])));
        let args = |request: &RunRequest| {
            let plan = planned(&config, request).expect("planned");
            plan.spec.process().as_ref().and_then(|process| process.args().clone()).expect("args")
        };
        assert_eq!(args(&request()), ["/entry", "serve"]);
        assert_eq!(args(&RunRequest { command: strings(&["sh", "-c"]), ..request() }), ["/entry", "sh", "-c"]);
        let own = RunRequest { entrypoint: Some(strings(&["/bin/sh"])), ..request() };
        assert_eq!(args(&own), ["/bin/sh"]);
        let nothing = RunRequest { entrypoint: Some(Vec::new()), ..request() };
        assert_eq!(planned(&config, &nothing).expect_err("nothing to run"), PlanError::NoCommand);
        assert_eq!(planned(&config, &request()).expect("planned").entrypoint, 1);
    }

    #[test]
    fn the_users_variables_win() {
        let mut config = Config::default();
        config.set_cmd(Some(strings(&["sh"])));
        config.set_env(Some(strings(&["PATH=/image", "A=image", "AB=image"])));
        let plan = planned(&config, &RunRequest { env: strings(&["A=user", "EMPTY="]), ..request() }).expect("planned");
        let env = plan.spec.process().as_ref().and_then(|process| process.env().clone()).expect("env");
        assert_eq!(env, ["PATH=/image", "HOSTNAME=box", "container=rbox", "A=user", "AB=image", "EMPTY="]);
    }

    #[test]
    fn a_mount_inside_another_comes_after_it() {
        let mut config = Config::default();
        config.set_cmd(Some(strings(&["sh"])));
        let request = RunRequest {
            volumes: vec!["/x:/a/b/c".parse().expect("valid"), "/y:/a".parse().expect("valid")],
            tmpfs: vec!["/a/b".parse().expect("valid")],
            ..request()
        };
        let plan = planned(&config, &request).expect("planned");
        let mounts = plan.spec.mounts().clone().expect("mounts");
        let destinations: Vec<_> = mounts.iter().rev().take(3).map(|mount| mount.destination().clone()).collect();
        assert_eq!(destinations, [Path::new("/a/b/c"), Path::new("/a/b"), Path::new("/a")]);
    }

    #[test]
    fn the_runtime_takes_what_is_planned() {
        let mut config = Config::default();
        config.set_cmd(Some(strings(&["sh"])));
        let plan = planned(&config, &request()).expect("planned");
        rbox_runtime::InitPlan::new(&plan.spec).expect("no field is refused");
    }

    #[test]
    fn seccomp_is_dockers_unless_told_otherwise() {
        let mut config = Config::default();
        config.set_cmd(Some(strings(&["sh"])));
        let of = |security| {
            let plan = planned(&config, &RunRequest { security, ..request() })?;
            Ok::<_, PlanError>(plan.spec_in_full().linux().as_ref().and_then(|linux| linux.seccomp().clone()))
        };
        let with = |seccomp| Security { seccomp: Some(seccomp), ..Security::default() };
        let default = of(Security::default()).expect("planned").expect("a profile");
        let allowed = |name: &str| {
            let syscalls = default.syscalls().as_ref().expect("entries");
            syscalls.iter().any(|call| call.names().iter().any(|known| known == name))
        };
        // Docker's capabilities have CAP_SYS_CHROOT, and not CAP_SYS_ADMIN.
        assert!(allowed("chroot") && allowed("ptrace") && !allowed("mount"));
        assert_eq!(of(with(Seccomp::Unconfined)), Ok(None));
        // What is said of it counts for a privileged one too.
        let privileged = |security| of(Security { privileged: true, ..security });
        assert_eq!(privileged(Security::default()), Ok(None));
        assert!(privileged(with(Seccomp::Default)).expect("planned").is_some());
        let profile = |json: &str| with(Seccomp::Profile { name: "x.json".into(), json: json.into() });
        assert!(of(profile(r#"{"defaultAction": "SCMP_ACT_LOG"}"#)).expect("planned").is_some());
        for (json, why) in [
            (r#"{"defaultAction": "SCMP_ACT_LOUD"}"#, "SCMP_ACT_LOUD"),
            (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}"#, "5000"),
        ] {
            let error = of(profile(json)).expect_err(json).to_string();
            assert!(error.contains("x.json") && error.contains(why), "{error}");
        }
    }
}
