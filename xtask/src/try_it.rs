//! `cargo xtask try`: from the source tree to a shell prompt's worth of Alpine, each step shown as it is taken.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rbox_tests::command::{output, read, shown};
use rbox_tests::registry::Registry;
use rbox_tests::{alpine, host};

use crate::admin::Admin;
use crate::users::{User, become_user, keep};
use crate::{build, setup};

/// What is run in the container, each in one of its own.
const COMMANDS: &[&[&str]] = &[
    &["cat", "/etc/os-release"],
    &["id"],
    &["ps"],
    &["sh", "-c", "hostname; cat /proc/self/uid_map; touch /in-the-container && ls -la /"],
    &["sh", "-c", "apk --no-network info | wc -l; exit 7"],
];

/// The port of the loopback registry, where no Docker Hub answers: the first free one from here.
const FIRST_PORT: u16 = 5000;

/// The verb.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    step("Set-up");
    setup::install(setup::TO_RUN)?;

    step("Build");
    let binary = build::release()?;
    println!("{}: {:.1} MB", binary.display(), std::fs::metadata(&binary)?.len() as f64 / 1e6);

    let person = Person::find(&binary)?;
    step(&format!("Alpine, as {}", person.describe()));
    let (image, registry) = match hub_answers() {
        true => ("docker.io/library/alpine".to_owned(), None),
        false => {
            println!("Docker Hub does not answer; a registry on loopback offers Alpine {} instead", alpine::TAG);
            setup::install(setup::FOR_ALPINE)?;
            let layout = alpine::layout()?;
            let registry = loopback_registry()?;
            let name = format!("library/alpine:{}", alpine::TAG);
            registry.place(&layout, &layout.find(alpine::TAG)?, &name)?;
            (registry.reference(&name), Some(registry))
        }
    };
    person.rbox(&["pull", &image], 0)?;
    for command in COMMANDS {
        let expected = if command.contains(&"apk --no-network info | wc -l; exit 7") { 7 } else { 0 };
        person.rbox(&[&["run", "--rm", &image], *command].concat(), expected)?;
    }
    person.rbox(&["images"], 0)?;
    drop(registry);

    step(&format!("Done, in {:.0} s. The image is in the store now; to go on:", started.elapsed().as_secs_f64()));
    println!("  {}", person.line(&["run", "--rm", "-it", &image, "sh"]));
    println!("  {}", person.line(&["doctor"]));
    if person.user.is_some() {
        println!("and to have the user gone again, with all that is theirs:\n  userdel -r {NAME}");
    }
    Ok(())
}

/// The user that is made where root calls.
const NAME: &str = "rbox-try";

/// Who runs rbox.
struct Person {
    user: Option<User>,
    home: PathBuf,
    binary: PathBuf,
}

impl Person {
    /// The caller; or, where that is root, an unprivileged user with a copy of `binary` in their home directory.
    fn find(binary: &Path) -> Result<Self> {
        if host::uid() != 0 {
            let home = std::env::home_dir().context("there is no home directory")?;
            return Ok(Self { user: None, home, binary: binary.to_owned() });
        }
        let home = Path::new("/home").join(NAME);
        let user = keep(Admin::Root, NAME, &home)?;
        let copy = home.join("rbox");
        read(Command::new("install").arg("--mode=755").arg(binary).arg(&copy))?;
        Ok(Self { user: Some(user), home, binary: copy })
    }

    fn describe(&self) -> String {
        match &self.user {
            Some(user) => format!("the unprivileged user {} (uid {})", user.name, user.uid),
            None => format!("{} (uid {})", host::user_name(), host::uid()),
        }
    }

    /// The command line for a person to type, in the shell that called us.
    fn line(&self, arguments: &[&str]) -> String {
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", &user.name, "--"]);
                command.arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        shown(command.args(arguments))
    }

    /// Shows a command line, runs it and shows what it says.
    fn rbox(&self, arguments: &[&str], expected: i32) -> Result<()> {
        let mut command = Command::new("env");
        if let Some(user) = &self.user {
            let path = "/usr/local/bin:/usr/bin:/bin".to_owned();
            let home = self.home.display().to_string();
            let environment = [("HOME", home), ("USER", user.name.clone()), ("PATH", path)];
            let environment = environment.map(|(name, value)| (name.to_owned(), value));
            become_user(user, &environment, &mut command);
            command.current_dir(&self.home);
        }
        command.arg(&self.binary).args(arguments).stdin(Stdio::null());

        let mut words = Command::new("rbox");
        words.args(arguments);
        emphasise(&format!("$ {}", shown(&words)));
        let started = Instant::now();
        let status = command.status().with_context(|| format!("cannot start {}", self.binary.display()))?;
        println!("({}, {:.0} ms)", status, started.elapsed().as_secs_f64() * 1000.0);
        if status.code() != Some(expected) {
            bail!(
                "expected the exit status {expected}; what may be the matter, this tells: {}",
                self.line(&["doctor"])
            );
        }
        Ok(())
    }
}

/// Whether Docker Hub answers a question within a few seconds.
fn hub_answers() -> bool {
    let limit = Duration::from_secs(5).as_secs().to_string();
    let mut curl = Command::new("curl");
    // Without a token the answer is 401; only a registry gives this header with it.
    curl.args(["--silent", "--head", "--max-time", &limit, "https://registry-1.docker.io/v2/"]);
    let answer = output(&mut curl).map(|output| String::from_utf8_lossy(&output.stdout).to_lowercase());
    answer.is_ok_and(|answer| answer.contains("docker-distribution-api-version"))
}

fn loopback_registry() -> Result<Registry> {
    let mut last = None;
    for port in FIRST_PORT..FIRST_PORT + 20 {
        match Registry::start_on(port) {
            Ok(registry) => return Ok(registry),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("there are ports")?)
}

fn step(name: &str) {
    println!();
    emphasise(&format!("── {name}"));
}

fn emphasise(line: &str) {
    if std::io::stdout().is_terminal() {
        println!("\x1b[1m{line}\x1b[0m")
    } else {
        println!("{line}")
    }
    let _ = std::io::stdout().flush();
}
