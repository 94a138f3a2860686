//! A container's record + request → the OCI runtime spec of one more process in it. No I/O.

use oci_spec::runtime::{Linux, Process, Spec};
use rbox_runtime::KEEP_GROUPS;

use super::{PlanError, RunPlan, console_size, set_over, settings};
use crate::on_host::OnHost;
use crate::record::{Filter, Made};
use crate::request::ExecRequest;
use crate::security::Security;
use crate::shared::Shared;

/// Plans the process. `security` is the container's; `terminal` has rows and columns, where the process gets one.
pub(crate) fn plan(
    made: &Made,
    filter: &Filter,
    mut security: Security,
    request: &ExecRequest,
    terminal: Option<(u16, u16)>,
    on_host: &OnHost,
) -> Result<RunPlan, PlanError> {
    if request.privileged {
        // What the container has dropped, too.
        security = Security { privileged: true, cap_drop: Vec::new(), ..security };
    }
    let user = request.user.clone().unwrap_or_else(|| made.user.clone());
    let cwd = request.workdir.clone().unwrap_or_else(|| made.cwd.clone().into());
    if !cwd.is_absolute() {
        return Err(PlanError::RelativeWorkdir(cwd));
    }
    let mut env = made.env.clone();
    if request.tty && !env.iter().any(|variable| variable.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    set_over(&mut env, request.env.iter().cloned());
    let (context, _) = security.label.contexts().unzip();
    let mut process = Process::default();
    process
        .set_terminal(Some(request.tty))
        .set_console_size(terminal.and_then(console_size))
        .set_args(Some(request.command.clone()))
        .set_env(Some(env))
        .set_cwd(cwd)
        .set_capabilities(Some(security.capabilities(&security.granted()?, &user)))
        .set_no_new_privileges(Some(security.no_new_privileges))
        .set_apparmor_profile(security.apparmor.clone())
        .set_selinux_label(context);
    // As the container's first process: only what is said of its user may be another.
    let limits = &made.settings.limits;
    settings::set_for_process(&mut process, limits, &on_host.hard_limits, on_host.least_oom_score_adj);
    let mut linux = Linux::default();
    let profile = if let Filter::Profile(profile) = filter { Some((**profile).clone()) } else { None };
    linux
        .set_namespaces(Some(Shared::recorded(&made.settings.sharing).namespaces()))
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_seccomp(profile)
        .set_resources(None);
    let mut spec = Spec::default();
    spec.set_process(Some(process)).set_root(None).set_hostname(None).set_mounts(None).set_linux(Some(linux));
    let keeps_groups = made.settings.keeps_groups();
    if keeps_groups {
        spec.set_annotations(Some([(KEEP_GROUPS.to_owned(), "1".to_owned())].into()));
    }
    let groups = if keeps_groups { Vec::new() } else { made.settings.groups.clone() };
    Ok(RunPlan { spec, user, groups, built_in_filter: *filter == Filter::BuiltIn, entrypoint: 0, volumes: Vec::new() })
}
