//! What `rbox run` and `rbox create` have in common: how a container is to be, and its image and command.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use rbox_container::logs::{Driver, LogOptions};
use rbox_container::settings::HealthAction;
use rbox_container::{Granted, PullPolicy, RestartPolicy, RunRequest, Security, SecurityOption};
use rbox_types::{ContainerName, InvalidReference, Platform, Reference};

use crate::commands::container_flags::{ContainerFlags, Taken};
use crate::commands::environment::Environment;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Making {
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// Let standard input reach the command
    #[arg(short, long)]
    interactive: bool,

    /// Start it again when it has ended: no, on-failure[:MAX], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: RestartPolicy,

    /// Where what it prints is kept: k8s-file, json-file or none; passthrough for the caller's own streams [default:
    /// k8s-file; none in the foreground without -it]
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<Driver>,

    /// max-size=SIZE, max-file=COUNT
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,

    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,

    /// Have rbox be the container's first process, and the command its child: orphans are reaped, signals handed on
    #[arg(long)]
    init: bool,

    #[command(flatten)]
    environment: Environment,

    /// Where the command starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,

    /// Who the command runs as, by the container's /etc/passwd or by number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    #[command(flatten)]
    container: ContainerFlags,

    /// Keep the container from writing to its root filesystem
    #[arg(long)]
    read_only: bool,

    /// Give the command a capability besides the default ones, within its user namespace; ALL for each that there is
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_add: Vec<Granted>,

    /// Take a capability from the command; ALL for each but those that are added
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_drop: Vec<Granted>,

    /// seccomp=unconfined|FILE, no-new-privileges, apparmor=PROFILE, label=disable|type:TYPE|level:LEVEL…,
    /// mask=PATH[:PATH…], unmask=ALL|PATH[:PATH…], systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<SecurityOption>,

    /// Give the command all that you can: every capability of its user namespace, every system call, all of /proc and
    /// /sys, and the devices that you may open
    #[arg(long)]
    privileged: bool,

    /// The container's name
    #[arg(long)]
    name: Option<ContainerName>,

    /// Stop and remove the container that has this name, if there is one
    #[arg(long, requires = "name")]
    replace: bool,

    /// Kill the container when it has run for so many seconds; 0 for no end
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true)]
    timeout: u32,

    /// The host name inside
    #[arg(long, value_parser = parse_hostname)]
    hostname: Option<String>,

    /// What is executed in place of the image's entrypoint; empty for none
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,

    /// When to ask the registry: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: PullPolicy,

    /// The platform to run, such as linux/amd64
    #[arg(long)]
    platform: Option<Platform>,

    /// Talk to the registry without TLS, or with TLS that nobody vouches for
    #[arg(long, value_name = "BOOL")]
    tls_verify: Option<bool>,

    /// The image, the command and its arguments; what follows the image is the command's own
    // One list: only so does clap leave alone what looks like a flag and follows the image.
    #[arg(trailing_var_arg = true, required = true, num_args = 1.., value_names = ["IMAGE", "COMMAND"])]
    words: Vec<String>,
}

impl Making {
    /// Whether only a monitor can do what is asked for.
    pub(super) fn needs_monitor(&self) -> bool {
        self.restart != RestartPolicy::No
            || self.log_driver.is_some_and(|driver| driver != Driver::Passthrough)
            || !self.log_opt.is_empty()
            || self.timeout > 0
            || self.container.check_health()
    }

    /// What is asked for.
    pub(super) fn request(self) -> Result<RunRequest, Failure> {
        if self.rm && self.restart != RestartPolicy::No {
            return Err(Failure::new("--rm and --restart contradict each other"));
        }
        let mut words = self.words.into_iter();
        let image = words.next().unwrap_or_default();
        let image: Reference = image.parse().map_err(|error: InvalidReference| Failure::new(error.to_string()))?;
        let entrypoint = self.entrypoint.map(|text| parse_entrypoint(&text)).transpose()?;
        let mut security = Security {
            privileged: self.privileged,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            ..Security::default()
        };
        for option in self.security_opt {
            security.take(option)?;
        }
        let Taken { mut settings, volumes, tmpfs, host_env } = self.container.take()?;
        if self.rm && settings.on_unhealthy == HealthAction::Restart {
            return Err(Failure::new("--rm and --health-on-failure=restart contradict each other"));
        }
        settings.stop.lifetime = NonZeroU32::new(self.timeout);
        Ok(RunRequest {
            image,
            platform: self.platform,
            pull: self.pull,
            tls_verify: self.tls_verify,
            command: words.collect(),
            entrypoint,
            env: self.environment.variables()?,
            workdir: self.workdir,
            user: self.user,
            hostname: self.hostname,
            name: self.name,
            replace: self.replace,
            interactive: self.interactive,
            tty: self.tty,
            rm: self.rm,
            restart: self.restart,
            log: LogOptions::parse(self.log_driver.unwrap_or_default(), self.log_opt.iter().map(String::as_str))
                .map_err(|error| Failure::new(error.to_string()))?,
            init: self.init,
            read_only: self.read_only,
            volumes,
            tmpfs,
            security,
            host_env,
            settings,
            explain_denied: false,
        })
    }
}

/// A JSON list of words, or one word (Podman's rule; Docker takes the one word).
fn parse_entrypoint(text: &str) -> Result<Vec<String>, Failure> {
    if text.starts_with('[') {
        return serde_json::from_str(text)
            .map_err(|error| Failure::new(format!("--entrypoint {text:?} is not a JSON list of words: {error}")));
    }
    Ok(if text.is_empty() { Vec::new() } else { vec![text.to_owned()] })
}

/// hostname(7): letters, digits, hyphens and dots; the kernel has room for 64 bytes.
fn parse_hostname(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if text.is_empty() || text.len() > 64 || !text.chars().all(fine) || text.starts_with(['-', '.']) {
        return Err("a host name has 1 to 64 letters, digits, '-' and '.'".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entrypoints() {
        let parsed = |text| parse_entrypoint(text).expect("valid");
        assert_eq!(parsed(""), Vec::<String>::new());
        assert_eq!(parsed("/bin/sh"), ["/bin/sh"]);
        assert_eq!(parsed(r#"["/bin/sh","-c"]"#), ["/bin/sh", "-c"]);
        assert!(parse_entrypoint("[sh").is_err());
    }
}
