//! Whether a container that runs by itself ends when its user logs out, and what to say of it.
//!
//! systemd keeps what a user runs in two places: below his own manager, `user@UID.service`, which ends with his last login
//! unless he lingers (loginctl(1), "enable-linger"); and in a scope for each login, whose processes are killed at the
//! logout where logind.conf(5) says so, lingering or not.

use std::path::Path;

use rbox_runtime::systemd;
use rbox_store::Store;

use crate::Note;

/// A note is given once: this is what the mark of it is called.
const TOLD: &str = "logout";

/// Where processes are that a logout may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Below the manager of the user with this id.
    Manager(u32),
    /// In the scope of a login of this user's.
    Session(u32),
}

impl Place {
    /// Of a process with these cgroups (cgroups(7), "/proc/pid/cgroup").
    fn of(cgroups: &str) -> Option<Self> {
        cgroups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            // That of version 2, or systemd's own.
            let path = rest.strip_prefix(':').or_else(|| rest.strip_prefix("name=systemd:"))?;
            let mut names = path.split('/').skip_while(|name| *name != "user.slice").skip(1);
            let uid = names.next()?.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok()?;
            let unit = names.next()?;
            if unit == format!("user@{uid}.service") {
                return Some(Self::Manager(uid));
            }
            (unit.starts_with("session-") && unit.ends_with(".scope")).then_some(Self::Session(uid))
        })
    }

    fn uid(self) -> u32 {
        match self {
            Self::Manager(uid) | Self::Session(uid) => uid,
        }
    }

    /// Whether a logout ends what `user` has there.
    fn ends(self, user: &str, lingers: impl FnOnce(&str) -> bool, kills: impl FnOnce(&str) -> bool) -> bool {
        match self {
            Self::Manager(_) => !lingers(user),
            Self::Session(_) => kills(user),
        }
    }
}

/// What is to be said of a container that this process has started; nothing where that has been said.
pub(crate) fn note(store: &Store) -> Option<Note> {
    let place = Place::of(&std::fs::read_to_string("/proc/self/cgroup").ok()?)?;
    if store.was_told(TOLD) {
        return None;
    }
    let user = rbox_rootless::user_of(place.uid())?;
    let lingers = |user: &str| Path::new("/var/lib/systemd/linger").join(user).exists();
    let kills = |user: &str| systemd::kills_sessions_of(user).unwrap_or(false);
    if !place.ends(&user, lingers, kills) || !store.tell_once(TOLD) {
        return None;
    }
    Some(match place {
        Place::Manager(_) => Note::EndsWithManager(user),
        Place::Session(_) => Note::EndsWithSession(user),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (cgroups, place) in [
            ("0::/user.slice/user-1000.slice/session-1.scope\n", Some(Place::Session(1000))),
            ("0::/user.slice/user-1000.slice/session-c2.scope/x\n", Some(Place::Session(1000))),
            ("0::/user.slice/user-7.slice/user@7.service/app.slice/a.scope\n", Some(Place::Manager(7))),
            ("2:cpu:/a\n1:name=systemd:/user.slice/user-7.slice/session-3.scope\n0::/\n", Some(Place::Session(7))),
            ("3:memory:/user.slice/user-7.slice/session-3.scope\n", None),
            ("0::/user.slice/user-7.slice/user@8.service\n", None),
            ("0::/user.slice/user-7.slice\n", None),
            ("0::/user.slice/user-x.slice/session-3.scope\n", None),
            ("0::/system.slice/ssh.service\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(Place::of(cgroups), place, "{cgroups}");
        }
    }

    #[test]
    fn what_a_logout_ends() {
        let [yes, no] = [|_: &str| true, |_: &str| false];
        let never = |_: &str| -> bool { panic!("nobody need be asked") };
        assert!(Place::Manager(1).ends("ann", no, never) && !Place::Manager(1).ends("ann", yes, never));
        assert!(Place::Session(1).ends("ann", never, yes) && !Place::Session(1).ends("ann", never, no));
    }
}
