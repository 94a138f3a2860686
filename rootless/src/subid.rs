//! Ranges of subordinate ids: the files /etc/subuid and /etc/subgid (subuid(5)), or what stands in for them.
//!
//! Where /etc/nsswitch.conf says `subid: sss`, or another name than `files`, newuidmap(1) has a library of that name say which
//! ranges there are. Only C programs can load it; getsubids(1) is one that does, and prints them (shadow-utils 4.9).

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::map_writer::find_helper;

/// Who says which ranges a user has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubidSource {
    /// /etc/subuid and /etc/subgid.
    #[default]
    Files,
    /// What /etc/nsswitch.conf calls so, which getsubids(1) asks.
    Service(String),
}

/// For people.
impl fmt::Display for SubidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files => f.write_str("/etc/subuid and /etc/subgid"),
            Self::Service(name) => write!(f, "getsubids (subid: {name} in /etc/nsswitch.conf)"),
        }
    }
}

/// User ids and group ids.
pub(crate) type Ranges = (Vec<SubidRange>, Vec<SubidRange>);

impl SubidSource {
    /// The one that nsswitch.conf(5) names, by the rules of shadow-utils: the first line that names any counts, and of that
    /// the first word.
    pub(crate) fn of(nsswitch: &str) -> Self {
        let named = |line: &str| {
            let (key, words) = line.split_at_checked("subid:".len())?;
            words.split_whitespace().next().filter(|_| key.eq_ignore_ascii_case("subid:")).map(str::to_owned)
        };
        match nsswitch.lines().find_map(named) {
            Some(name) if name != "files" => Self::Service(name),
            _ => Self::Files,
        }
    }

    /// The ranges of the user of this name or number; `read` gives a file's text.
    pub(crate) fn ranges(
        &self,
        name: Option<&str>,
        id: u32,
        read: impl Fn(&str) -> Result<String, Error>,
    ) -> Result<Ranges, Error> {
        match self {
            Self::Files => Ok((ranges(&read("/etc/subuid")?, name, id), ranges(&read("/etc/subgid")?, name, id))),
            Self::Service(service) => {
                let program = find_helper(GETSUBIDS).map_err(|_| Error::NoGetsubids { service: service.clone() })?;
                // One that begins so would be an option.
                let number = id.to_string();
                let user = name.filter(|name| !name.starts_with('-')).unwrap_or(&number);
                // Each asks somebody, perhaps over a network: both at once.
                let (uids, gids) = (ask(&program, &[user])?, ask(&program, &["-g", user])?);
                Ok((answer(uids)?, answer(gids)?))
            }
        }
    }
}

const GETSUBIDS: &str = "getsubids";

fn failed(message: impl fmt::Display) -> Error {
    Error::Helper { helper: GETSUBIDS, message: message.to_string() }
}

fn ask(program: &Path, arguments: &[&str]) -> Result<Child, Error> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().map_err(failed)
}

fn answer(mut child: Child) -> Result<Vec<SubidRange>, Error> {
    let mut text = String::new();
    let read = child.stdout.take().map_or(Ok(0), |mut out| out.read_to_string(&mut text));
    let status = child.wait().map_err(failed)?;
    read.map_err(failed)?;
    match status.code() {
        Some(0) => Ok(printed(&text)),
        // So it ends for who has none, too.
        Some(1) if text.trim().is_empty() => Ok(Vec::new()),
        _ => Err(failed(status)),
    }
}

/// The ranges in lines `INDEX: USER START COUNT`, as getsubids prints them.
fn printed(text: &str) -> Vec<SubidRange> {
    let range = |line: &str| {
        let (_, line) = line.split_once(':')?;
        let mut words = line.split_whitespace().rev();
        let (length, start) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        (length > 0).then_some(SubidRange { start, length })
    };
    text.lines().filter_map(range).collect()
}

/// A range of subordinate ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubidRange {
    pub(crate) start: u32,
    pub(crate) length: u32,
}

/// The ranges that a file of lines `user:start:count` gives to the user of this name or number.
///
/// Lines that cannot be read are passed over, as newuidmap does.
pub(crate) fn ranges(file: &str, name: Option<&str>, id: u32) -> Vec<SubidRange> {
    let number = id.to_string();
    file.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let (start, length) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let ours = name == Some(owner) || owner == number;
            (ours && length > 0).then_some(SubidRange { start, length })
        })
        .collect()
}

/// The name of the user `id` in a file of passwd(5).
pub(crate) fn user_name(passwd: &str, id: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?);
        (uid.parse() == Ok(id)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_by_number() {
        let file = "# comment\nann:100000:65536\nbob:165536:65536\n1000:300000:10\nann:bad:1\nann:400000:0\n\n";
        let range = |start, length| SubidRange { start, length };
        assert_eq!(ranges(file, Some("ann"), 1000), [range(100_000, 65_536), range(300_000, 10)]);
        assert_eq!(ranges(file, Some("bob"), 1001), [range(165_536, 65_536)]);
        assert_eq!(ranges(file, None, 7), []);
    }

    #[test]
    fn who_is_asked() {
        let service = |name: &str| SubidSource::Service(name.into());
        for (text, source) in [
            ("", SubidSource::Files),
            ("passwd: files sss\ngroup: sss\n", SubidSource::Files),
            ("subid: files\n", SubidSource::Files),
            ("subid: files sss\n", SubidSource::Files),
            ("# subid: sss\n", SubidSource::Files),
            (" subid: sss\n", SubidSource::Files),
            ("subid: sss\n", service("sss")),
            ("passwd: files\nSubId:\t sss files\nsubid: files\n", service("sss")),
            ("subid:\nsubid: ldap", service("ldap")),
        ] {
            assert_eq!(SubidSource::of(text), source, "{text:?}");
        }
    }

    #[test]
    fn what_is_answered() {
        let range = |start, length| SubidRange { start, length };
        let text = "0: ann 100000 65536\n1: ann 300000 10\n2: DOM\\ann b 400000 7\n3: ann 5 0\nnone\n4: ann x 3\n";
        assert_eq!(printed(text), [range(100_000, 65_536), range(300_000, 10), range(400_000, 7)]);
    }

    #[test]
    fn names() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("ann"));
        assert_eq!(user_name(passwd, 1001), None);
    }
}
