//! Units of systemd's that start containers: systemd.unit(5), systemd.service(5). Their text, and nothing that writes it
//! anywhere.
//!
//! # Theory of operation
//!
//! A container's unit is of `Type=notify`: `rbox start` tells systemd which process the monitor is, and ends. The monitor is
//! a child of systemd's then and the unit's main process, so its exit status decides whether the unit has failed; and
//! `KillMode=mixed` has systemd send SIGTERM to it alone, on which it stops the container as `rbox stop` would, but for the
//! mark that somebody has done so.
//!
//! The unit for what starts after a boot by its own restart policy has no main process: all monitors are in its cgroup.
//! They are ended by `rbox stop --shutdown` before systemd kills what is left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::life::start::Startable;
use crate::record::{Made, Record};
use crate::{Engine, Error};

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its file's name.
    pub name: String,
    /// What is in the file.
    pub text: String,
}

/// How systemd is to call this program.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The absolute path of the binary.
    pub binary: PathBuf,
    /// Flags before the verb.
    pub flags: Vec<String>,
    /// What it is in the header; none for no header.
    pub version: Option<&'static str>,
}

/// What can be said of every unit.
#[derive(Debug, Clone, Default)]
pub struct UnitOptions {
    /// Units that it wants to be there.
    pub wants: Vec<String>,
    /// Units that it is started after.
    pub after: Vec<String>,
    /// Units that it cannot be without.
    pub requires: Vec<String>,
    /// `NAME=value`, for rbox.
    pub env: Vec<String>,
    /// Seconds that the start may take.
    pub start_timeout: Option<u32>,
}

/// What can be said of a container's unit besides.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// It is called by the container's name, and not by the id.
    pub by_name: bool,
    /// What stands before that.
    pub prefix: String,
    /// What stands between.
    pub separator: String,
    /// When systemd starts it again: one of [`RESTART_WORDS`].
    pub restart: String,
    /// Seconds until then.
    pub restart_sec: Option<u32>,
    /// Seconds that the container has to end, where that is not its own time.
    pub stop_timeout: Option<u32>,
}

/// The values of `Restart=`.
pub const RESTART_WORDS: [&str; 7] =
    ["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"];

/// Why there is no unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// systemd would not take the name.
    #[error("{0:?} is no name of a unit: those have letters, digits and :_.- and at most 255 of them")]
    Name(String),
    /// It can be started once.
    #[error("container {0} goes away when it ends (--rm), and a unit could not start it again")]
    GoesAway(String),
    /// systemd reads UTF-8 alone.
    #[error("the path {0:?} is not UTF-8, which systemd does not read")]
    Path(PathBuf),
    /// It would be another line of the unit.
    #[error("{0:?} has a character that cannot stand in a unit")]
    Text(String),
}

impl Engine {
    /// The unit that runs a container.
    pub fn container_unit(
        &self,
        name_or_id: &str,
        service: &ServiceOptions,
        options: &UnitOptions,
        caller: &Caller,
    ) -> Result<Unit, Error> {
        let entry = self.store.find_container(name_or_id)?;
        if !Startable::is_there(&entry) {
            return Err(Error::NotStartable(entry.name));
        }
        let made = Made::read(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
        if made.as_ref().is_some_and(|made| made.rm) {
            return Err(UnitError::GoesAway(entry.name.to_string()).into());
        }
        let container = if service.by_name { entry.name.as_str() } else { entry.id.as_str() };
        let of_container = made.map_or(Duration::MAX, |made| made.stop_timeout());
        Ok(service_unit(container, of_container, service, options, caller, self.store.root())?)
    }

    /// The unit that starts, after a boot, every container of this store whose restart policy says so.
    pub fn restart_unit(&self, options: &UnitOptions, caller: &Caller) -> Result<Unit, Error> {
        Ok(restart_unit(options, caller, self.store.root())?)
    }
}

/// systemd's time limit is to be longer than the container's own, by the end of which it is killed.
const AT_LEAST_LONGER: Duration = Duration::from_secs(60);

fn service_unit(
    container: &str,
    of_container: Duration,
    service: &ServiceOptions,
    options: &UnitOptions,
    caller: &Caller,
    store: &Path,
) -> Result<Unit, UnitError> {
    let ServiceOptions { prefix, separator, .. } = service;
    let stem = if prefix.is_empty() { container.to_owned() } else { format!("{prefix}{separator}{container}") };
    let name = checked_name(format!("{stem}.service"))?;
    let own = service.stop_timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let stop_timeout = match own.unwrap_or(of_container).checked_add(AT_LEAST_LONGER) {
        Some(timeout) => timeout.as_secs().to_string(),
        None => "infinity".to_owned(),
    };
    let mut lines = Lines::begin(&name, options, caller, store)?;
    lines.set("Type", "notify");
    lines.set("Restart", &service.restart);
    lines.set_if("RestartSec", service.restart_sec);
    lines.set_if("TimeoutStartSec", options.start_timeout);
    lines.set("TimeoutStopSec", &stop_timeout);
    lines.set("KillMode", "mixed");
    lines.set("ExecStart", &command("", caller, &["start", container])?);
    if let Some(seconds) = service.stop_timeout {
        let words = ["stop", "--shutdown", "--time", &seconds.to_string(), container];
        lines.set("ExecStop", &command("", caller, &words)?);
    }
    Ok(lines.finish(name))
}

fn restart_unit(options: &UnitOptions, caller: &Caller, store: &Path) -> Result<Unit, UnitError> {
    const THOSE: &str = "should-start-on-boot=true";
    let name = "rbox-restart.service".to_owned();
    let mut lines = Lines::begin(&name, options, caller, store)?;
    lines.set("Type", "oneshot");
    lines.set("RemainAfterExit", "yes");
    lines.set_if("TimeoutStartSec", options.start_timeout);
    // Each container has a limit of its own.
    lines.set("TimeoutStopSec", "infinity");
    // One that does not start is told in the journal: a unit that failed would take the others down with it.
    lines.set("ExecStart", &command("-", caller, &["start", "--all", "--filter", THOSE])?);
    lines.set("ExecStop", &command("-", caller, &["stop", "--shutdown", "--filter", THOSE])?);
    Ok(lines.finish(name))
}

/// A unit's file as far as it is written.
struct Lines(String);

impl Lines {
    /// To where the service's own settings begin.
    fn begin(name: &str, options: &UnitOptions, caller: &Caller, store: &Path) -> Result<Self, UnitError> {
        let mut lines = Self(format!("# {name}\n"));
        if let Some(version) = caller.version {
            lines.0 += &format!("# autogenerated by rbox {version}\n");
        }
        lines.0 += "\n[Unit]\n";
        lines.set("Description", &format!("rbox {name}"));
        lines.set("RequiresMountsFor", &quoted(text_of(store)?, Place::Setting)?);
        for (key, units) in [("Wants", &options.wants), ("After", &options.after), ("Requires", &options.requires)] {
            let units: Vec<String> = units.iter().cloned().map(checked_name).collect::<Result<_, _>>()?;
            if !units.is_empty() {
                lines.set(key, &units.join(" "));
            }
        }
        lines.0 += "\n[Service]\n";
        let words: Vec<String> =
            options.env.iter().map(|variable| quoted(variable, Place::Setting)).collect::<Result<_, _>>()?;
        if !words.is_empty() {
            lines.set("Environment", &words.join(" "));
        }
        Ok(lines)
    }

    fn set(&mut self, key: &str, value: &str) {
        self.0 += &format!("{key}={value}\n");
    }

    fn set_if(&mut self, key: &str, value: Option<u32>) {
        if let Some(value) = value {
            self.set(key, &value.to_string());
        }
    }

    fn finish(mut self, name: String) -> Unit {
        self.0 += "\n[Install]\nWantedBy=default.target\n";
        Unit { name, text: self.0 }
    }
}

/// A command line; `how` is what systemd knows a failure by that does not matter.
fn command(how: &str, caller: &Caller, words: &[&str]) -> Result<String, UnitError> {
    let mut line = quoted(&format!("{how}{}", text_of(&caller.binary)?), Place::Setting)?;
    for word in caller.flags.iter().map(String::as_str).chain(words.iter().copied()) {
        line.push(' ');
        line.push_str(&quoted(word, Place::Argument)?);
    }
    Ok(line)
}

fn text_of(path: &Path) -> Result<&str, UnitError> {
    path.to_str().ok_or_else(|| UnitError::Path(path.to_owned()))
}

/// Where a word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a setting; the program of a command is read like one.
    Setting,
    /// Behind a program, where `$` is for a variable's value (systemd.service(5), "Command Lines").
    Argument,
}

/// systemd.syntax(7), "Quoting", with `%` for specifiers (systemd.unit(5)).
fn quoted(word: &str, place: Place) -> Result<String, UnitError> {
    if word.contains(char::is_control) {
        return Err(UnitError::Text(word.to_owned()));
    }
    let mut text = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            '%' => text.push('%'),
            '$' if place == Place::Argument => text.push('$'),
            '"' | '\\' => text.push('\\'),
            _ => {}
        }
        text.push(c);
    }
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\' | ';' | '#');
    Ok(if !word.is_empty() && word.chars().all(plain) { text } else { format!("\"{text}\"") })
}

/// systemd.unit(5), "Description"; without what would make it a template or an instance of one, or escape something.
fn checked_name(name: String) -> Result<String, UnitError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '-' | '@');
    match name.len() <= 255 && name.chars().all(fine) && !name.is_empty() {
        true => Ok(name),
        false => Err(UnitError::Name(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(binary: &str, flags: &[&str]) -> Caller {
        Caller { binary: binary.into(), flags: flags.iter().map(|&flag| flag.into()).collect(), version: Some("1.2.3") }
    }

    fn service() -> ServiceOptions {
        ServiceOptions {
            by_name: true,
            prefix: "container".into(),
            separator: "-".into(),
            restart: "on-failure".into(),
            restart_sec: None,
            stop_timeout: None,
        }
    }

    fn unit(service: &ServiceOptions, options: &UnitOptions) -> Result<Unit, UnitError> {
        let (own, caller) = (Duration::from_secs(10), caller("/usr/bin/rbox", &[]));
        service_unit("web", own, service, options, &caller, Path::new("/home/u/store"))
    }

    #[test]
    fn a_containers_unit() {
        let unit = unit(&service(), &UnitOptions::default()).expect("a unit");
        assert_eq!(unit.name, "container-web.service");
        let expected = "# container-web.service
# autogenerated by rbox 1.2.3

[Unit]
Description=rbox container-web.service
RequiresMountsFor=/home/u/store

[Service]
Type=notify
Restart=on-failure
TimeoutStopSec=70
KillMode=mixed
ExecStart=/usr/bin/rbox start web

[Install]
WantedBy=default.target
";
        assert_eq!(unit.text, expected);
    }

    #[test]
    fn what_is_said_is_in_it() {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let options = UnitOptions {
            wants: list(&["a.target", "b@c.service"]),
            after: list(&["a.target"]),
            requires: list(&["d.mount"]),
            env: list(&["A=1", "B=two words", "C=50%"]),
            start_timeout: Some(30),
        };
        let service = ServiceOptions {
            prefix: String::new(),
            restart: "always".into(),
            restart_sec: Some(5),
            stop_timeout: Some(100),
            ..service()
        };
        let Unit { name, text } = unit(&service, &options).expect("a unit");
        assert_eq!(name, "web.service");
        for line in [
            "Wants=a.target b@c.service",
            "After=a.target",
            "Requires=d.mount",
            "Environment=A=1 \"B=two words\" C=50%%",
            "Restart=always",
            "RestartSec=5",
            "TimeoutStartSec=30",
            "TimeoutStopSec=160",
            "ExecStop=/usr/bin/rbox stop --shutdown --time 100 web",
        ] {
            assert!(text.lines().any(|there| there == line), "no {line:?} in:\n{text}");
        }
    }

    #[test]
    fn a_container_that_is_never_killed_is_waited_for() {
        let unit = service_unit(
            "web",
            Duration::MAX,
            &service(),
            &UnitOptions::default(),
            &Caller { version: None, ..caller("/rbox", &[]) },
            Path::new("/store"),
        );
        let text = unit.expect("a unit").text;
        assert!(text.contains("\nTimeoutStopSec=infinity\n") && !text.contains("autogenerated"), "{text}");
    }

    #[test]
    fn words_are_quoted() {
        let caller = caller("/opt/my $rbox/100%", &["--root", "/a \"b\"/$c/d%\\e"]);
        let unit = restart_unit(&UnitOptions::default(), &caller, Path::new("/a b")).expect("a unit");
        let line = unit.text.lines().find(|line| line.starts_with("ExecStart=")).expect("a command");
        assert_eq!(
            line,
            "ExecStart=\"-/opt/my $rbox/100%%\" --root \"/a \\\"b\\\"/$$c/d%%\\\\e\" start --all --filter \
             should-start-on-boot=true"
        );
        assert!(unit.text.contains("\nRequiresMountsFor=\"/a b\"\n"), "{}", unit.text);
    }

    #[test]
    fn what_is_no_name_or_another_line_is_refused() {
        for prefix in ["a b", "a/b", "a\n", "ä", &"a".repeat(260)] {
            let refused = unit(&ServiceOptions { prefix: prefix.to_owned(), ..service() }, &UnitOptions::default());
            assert!(matches!(refused, Err(UnitError::Name(_))), "{prefix:?}");
        }
        let options = UnitOptions { env: vec!["A=1\nExecStartPre=x".into()], ..UnitOptions::default() };
        assert!(matches!(unit(&service(), &options), Err(UnitError::Text(_))));
        let options = UnitOptions { after: vec!["a b".into()], ..UnitOptions::default() };
        assert!(matches!(unit(&service(), &options), Err(UnitError::Name(_))));
    }
}
