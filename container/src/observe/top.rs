//! `rbox top`: a container's processes in columns, by Podman's descriptors.

use crate::files::users::databases;
use crate::life::begun::Begun;
use crate::observe::processes::{self, Process, TICKS};
use crate::{Engine, Error};

/// A column of `top`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopColumn(usize);

/// How a column is called, what stands above it, and what is in it.
type Column = (&'static str, &'static str, fn(&Process, &Container) -> String);

/// Podman's names; ps(1) has most of them too.
const COLUMNS: [Column; 25] = [
    ("args", "COMMAND", |process, _| processes::command_line(process)),
    ("comm", "COMMAND", |process, _| process.name.clone()),
    ("cmd", "COMMAND", |process, _| processes::command_line(process)),
    ("etime", "ELAPSED", |process, container| duration(container.now.saturating_sub(process.began) / TICKS)),
    ("gid", "GID", |process, container| inside(&container.gids, process.gid)),
    ("group", "GROUP", |process, container| name(&container.groups, inside(&container.gids, process.gid))),
    ("hgroup", "HGROUP", |process, _| process.gid.to_string()),
    ("hpid", "HPID", |process, _| process.host_pid.to_string()),
    ("huser", "HUSER", |process, _| process.uid.to_string()),
    ("nice", "NI", |process, _| process.nice.to_string()),
    ("nlwp", "NLWP", |process, _| process.threads.to_string()),
    ("pcpu", "%CPU", |process, container| percent(process, container.now)),
    ("pgid", "PGID", |process, container| container.pid_of(process.group)),
    ("pid", "PID", |process, _| process.pid.to_string()),
    ("ppid", "PPID", |process, container| container.pid_of(process.host_parent)),
    ("rss", "RSS", |process, _| (process.resident / 1024).to_string()),
    ("sid", "SID", |process, container| container.pid_of(process.session)),
    ("start", "STARTED", |process, container| {
        let ago = container.now.saturating_sub(process.began) / TICKS;
        let time = jiff::Timestamp::now().as_second() - i64::try_from(ago).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(time).map_or_else(|_| "?".into(), |time| time.to_string())
    }),
    ("state", "STATE", |process, _| process.state.to_string()),
    ("stat", "STAT", |process, _| process.state.to_string()),
    ("time", "TIME", |process, _| duration((process.user_time + process.system_time) / TICKS)),
    ("tty", "TTY", |process, _| terminal(process.terminal)),
    ("uid", "UID", |process, container| inside(&container.uids, process.uid)),
    ("user", "USER", |process, container| name(&container.users, inside(&container.uids, process.uid))),
    ("vsz", "VSZ", |process, _| (process.virtual_size / 1024).to_string()),
];

/// Those of Podman.
const DEFAULT: [&str; 8] = ["user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"];

/// What the columns look things up in.
struct Container {
    now: u64,
    uids: Vec<(u64, u64, u64)>,
    gids: Vec<(u64, u64, u64)>,
    /// Its passwd and group.
    users: String,
    groups: String,
    /// Host's → its own.
    pids: Vec<(u32, u32)>,
}

impl TopColumn {
    /// Those that are shown if nobody asks for others.
    pub fn default_ones() -> Vec<Self> {
        DEFAULT.iter().filter_map(|name| Self::parse(name).ok()).collect()
    }

    /// The column of this name; else an error that names all.
    pub fn parse(name: &str) -> Result<Self, String> {
        // Others that ps(1) knows them by.
        let known = match name {
            "command" => "args",
            "ucmd" => "comm",
            "euser" | "uname" => "user",
            "egroup" => "group",
            "tt" | "tname" => "tty",
            "ni" => "nice",
            "%cpu" => "pcpu",
            "s" => "state",
            "pgrp" => "pgid",
            "sess" => "sid",
            "thcount" => "nlwp",
            "vsize" => "vsz",
            other => other,
        };
        COLUMNS.iter().position(|(column, ..)| *column == known).map(Self).ok_or_else(|| {
            let all: Vec<&str> = COLUMNS.iter().map(|(name, ..)| *name).collect();
            format!("there is no column {name:?}; there are: {}", all.join(" "))
        })
    }

    /// What stands above it.
    pub fn heading(self) -> &'static str {
        COLUMNS[self.0].1
    }
}

impl Engine {
    /// The processes of a container that runs, a row each.
    pub fn top(&self, name_or_id: &str, columns: &[TopColumn]) -> Result<Vec<Vec<String>>, Error> {
        let begun = Begun::find(&self.store, name_or_id)?;
        // A root that cannot be looked into has no names for its users.
        let (users, groups) = databases(&begun).unwrap_or_default();
        let Begun { entry, made, .. } = begun;
        let failed = || Error::io("list the processes of", &entry.name);
        let all = processes::of_container(made.pid).map_err(failed())?;
        let container = Container {
            now: processes::now().map_err(failed())?,
            uids: id_map(&processes::read(made.pid, "uid_map").map_err(failed())?),
            gids: id_map(&processes::read(made.pid, "gid_map").map_err(failed())?),
            users,
            groups,
            pids: all.iter().map(|process| (process.host_pid, process.pid)).collect(),
        };
        let row = |process: &Process| {
            // As ps(1) has it: what a workload chose has no lines and no columns of its own.
            let cell =
                |column: &TopColumn| COLUMNS[column.0].2(process, &container).replace(|c: char| c.is_control(), "?");
            columns.iter().map(cell).collect()
        };
        Ok(all.iter().map(row).collect())
    }
}

impl Container {
    /// The number inside of a process that the host knows by this one; 0 for one outside.
    fn pid_of(&self, host_pid: u32) -> String {
        self.pids.iter().find(|(host, _)| *host == host_pid).map_or(0, |(_, pid)| *pid).to_string()
    }
}

/// Lines of inside, outside, length: user_namespaces(7). It is the process's own map, which no record need know.
fn id_map(text: &str) -> Vec<(u64, u64, u64)> {
    let line = |line: &str| {
        let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        <[u64; 3]>::try_from(numbers).ok().map(|[inside, outside, length]| (inside, outside, length))
    };
    text.lines().filter_map(line).collect()
}

/// An id inside; the host's own in angle brackets where it has none.
fn inside(map: &[(u64, u64, u64)], outside: u32) -> String {
    let id = u64::from(outside);
    let found = map.iter().find(|(_, first, length)| (*first..first.saturating_add(*length)).contains(&id));
    found.map_or_else(|| format!("<{outside}>"), |(inside, first, _)| (inside + (id - first)).to_string())
}

/// What a line of passwd or group calls an id.
fn name(file: &str, id: String) -> String {
    let line = file.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&&*id));
    line.map_or(id.clone(), |fields| fields[0].to_owned())
}

/// `1m2s`
fn duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// Of one processor, since the process began.
fn percent(process: &Process, now: u64) -> String {
    let lived = now.saturating_sub(process.began).max(1);
    format!("{:.3}", (process.user_time + process.system_time) as f64 * 100.0 / lived as f64)
}

/// By the device's number: pseudo-terminals and the console are what containers have.
fn terminal(device: u64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        0 => "?".into(),
        136..=143 => format!("pts/{}", (major - 136) * (1 << 20) + minor),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells() {
        assert_eq!([0, 59, 61, 3725].map(duration), ["0s", "59s", "1m1s", "1h2m5s"]);
        assert_eq!([0, 34_816, 34_819, 1025].map(terminal), ["?", "pts/0", "pts/3", "tty1"]);
        let map = id_map("         0     100000      65536\n     70000  1000   1\n");
        assert_eq!(
            ["100000", "165535", "1000", "7"].map(|id| inside(&map, id.parse().expect("a number"))),
            ["0", "65535", "70000", "<7>"]
        );
        assert_eq!(
            ["0", "5", "6"].map(|id| name("root:x:0:0\nbroken\nfive:x:5:5\n", id.into())),
            ["root", "five", "6"]
        );
    }

    #[test]
    fn columns() {
        let headings: Vec<_> = TopColumn::default_ones().into_iter().map(TopColumn::heading).collect();
        assert_eq!(headings, ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]);
        assert_eq!(TopColumn::parse("command"), TopColumn::parse("args"));
        assert!(TopColumn::parse("nope").expect_err("none").contains("there are: args comm"));
    }
}
