//! What the login manager does at a logout: org.freedesktop.login1(5), logind.conf(5).

use std::time::Duration;

use super::Address;
use super::bus::{Bus, Object};
use super::wire::{Message, Value};

/// How long one may wait for it, who has better things to do.
const PATIENCE: Duration = Duration::from_millis(250);

const PROPERTIES: Object<'_> = Object {
    destination: "org.freedesktop.login1",
    path: "/org/freedesktop/login1",
    interface: "org.freedesktop.DBus.Properties",
};

/// Whether it kills what is left in a session's scope when this user logs out; none where it cannot be asked, or takes long
/// to answer.
pub fn kills_sessions_of(user: &str) -> Option<bool> {
    let mut bus = Bus::connect(&Address::of_system().ok()?, PATIENCE).ok()?;
    let mut get = |property| {
        let body = [Value::text("org.freedesktop.login1.Manager"), Value::text(property)];
        bus.call(&PROPERTIES, "Get", &body).ok()
    };
    if !boolean(&get("KillUserProcesses")?)? {
        return Some(false);
    }
    let [but, only] = [get("KillExcludeUsers")?, get("KillOnlyUsers")?].map(|answer| names(&answer));
    Some(kills(user, &but?, &only?))
}

/// logind.conf(5), "KillOnlyUsers=, KillExcludeUsers=", where that is what it does at all.
fn kills(user: &str, but: &[String], only: &[String]) -> bool {
    let names = |list: &[String]| list.iter().any(|name| name == user);
    !names(but) && (only.is_empty() || names(only))
}

/// A variant that holds a `b`.
fn boolean(answer: &Message) -> Option<bool> {
    let mut body = answer.body();
    (body.signature()? == "b").then_some(())?;
    Some(body.number()? != 0)
}

/// A variant that holds an `as`.
fn names(answer: &Message) -> Option<Vec<String>> {
    let mut body = answer.body();
    (body.signature()? == "as").then_some(())?;
    body.texts()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_sessions_are_killed() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        for (but, only, killed) in [
            (&[][..], &[][..], true),
            (&["root"], &[], true),
            (&["root", "ann"], &[], false),
            (&[], &["ann"], true),
            (&[], &["bob"], false),
            (&["ann"], &["ann"], false),
        ] {
            assert_eq!(kills("ann", &list(but), &list(only)), killed, "{but:?} {only:?}");
        }
    }
}
