//! Who "nginx:www" is in a container: passwd(5) and group(5) of its own root filesystem.

use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rbox_runtime::User;
use rbox_sys::at::{self, Kind};
use rbox_sys::{in_root, stored};
use serde::{Deserialize, Serialize};

/// The workload's user and its home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: User,
    pub(crate) home: String,
}

/// Why nobody was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSuchAccount {
    #[error("user {0:?} is not in the container's /etc/passwd")]
    User(String),
    #[error("group {0:?} is not in the container's /etc/group")]
    Group(String),
}

/// No honest passwd file comes near; a hostile one shall not fill our memory.
pub(crate) const LARGEST: u64 = 4 * 1024 * 1024;

/// Whom an id that is not mapped is shown as (/proc/sys/kernel/overflowuid).
const NOBODY: u32 = 65_534;

/// The two files of the root filesystem at `root`; empty where they are missing.
pub(crate) fn databases(root: BorrowedFd<'_>) -> io::Result<(String, String)> {
    Ok((read(root, "/etc/passwd")?, read(root, "/etc/group")?))
}

fn read(root: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    let file = match in_root::open_file(root, Path::new(path)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(String::new());
        }
        file => file?,
    };
    // A limited reader has no size of its own to read by.
    let size = file.metadata()?.len().min(LARGEST);
    let mut bytes = Vec::with_capacity(size as usize + 1);
    if file.take(LARGEST + 1).read_to_end(&mut bytes)? as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{path} is larger than {LARGEST} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Looks up `user[:group]`, each a name or a number; nothing means root. As Docker has it, a number needs no line in
/// passwd, and supplementary groups are those of the name, unless a group is given.
pub(crate) fn look_up(wanted: &str, passwd: &str, group: &str) -> Result<Account, NoSuchAccount> {
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let line =
        lines(passwd).find(|fields| fields[0] == user).or_else(|| lines(passwd).find(|fields| fields[2] == user));
    let line = line.as_deref();
    let uid = line.and_then(|fields| fields[2].parse().ok()).or_else(|| user.parse().ok());
    // An image without passwd has a root all the same.
    let uid = uid.or_else(|| (user == "root").then_some(0));
    let uid = uid.ok_or_else(|| NoSuchAccount::User(user.into()))?;
    let own_gid = line.and_then(|fields| fields[3].parse().ok()).unwrap_or(0);
    let (gid, mut additional_gids) = match wanted_group {
        Some(name) => (find_group(name, group)?, Vec::new()),
        None => (own_gid, line.map(|fields| groups_of(fields[0], group)).unwrap_or_default()),
    };
    // The primary group, too: a setgid program would otherwise shed it, and with it what is denied to it
    // (CVE-2022-36109).
    additional_gids.push(gid);
    additional_gids.sort_unstable();
    additional_gids.dedup();
    let home = line.and_then(|fields| fields.get(5).copied()).filter(|home| !home.is_empty()).unwrap_or("/");
    Ok(Account { user: User { uid, gid, additional_gids }, home: home.into() })
}

/// Somebody in a container whom its image does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
    /// The container's files cannot be written.
    pub(crate) read_only: bool,
}

impl Person {
    /// Adds lines to the two files of `root`, whose texts these are, where they have none for the ids. Gives those that are to
    /// be shown in place of the root's own, which cannot be written.
    pub(crate) fn add_to(
        &self,
        root: BorrowedFd<'_>,
        passwd: &mut String,
        group: &mut String,
    ) -> io::Result<Vec<(PathBuf, String)>> {
        let Self { name, uid, gid, home, read_only } = self;
        let mut shown = Vec::new();
        for (path, text, id, line) in [
            ("/etc/passwd", passwd, uid, format!("{name}:x:{uid}:{gid}:{name}:{home}:/bin/sh\n")),
            ("/etc/group", group, gid, format!("{name}:x:{gid}:\n")),
        ] {
            let id = id.to_string();
            if lines(text).any(|fields| fields[2] == id || fields[0] == name) {
                continue;
            }
            let line = if text.is_empty() || text.ends_with('\n') { line } else { format!("\n{line}") };
            text.push_str(&line);
            // In place, so that programs which add users can replace it.
            if *read_only || !append(root, path, &line)? {
                shown.push((path.into(), text.clone()));
            }
        }
        Ok(shown)
    }
}

/// Writes at the end of a regular file; false where there is none.
fn append(root: BorrowedFd<'_>, path: &str, line: &str) -> io::Result<bool> {
    let place = match in_root::open_path(root, Path::new(path)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        place => place?,
    };
    if at::status_of(place.as_fd())?.kind != Kind::File {
        return Ok(false);
    }
    let mut file = stored::reopen(place.as_fd(), true)?;
    file.seek(io::SeekFrom::End(0))?;
    file.write_all(line.as_bytes())?;
    Ok(true)
}

/// The ids in these fields of each line of passwd(5) or group(5); not those that stand for nobody.
pub(crate) fn ids_in(file: &str, fields: &[usize]) -> Vec<u32> {
    let is_somebody = |line: &Vec<&str>| !["nobody", "nogroup"].contains(&line[0]);
    let ids = |line: Vec<&str>| -> Vec<u32> { fields.iter().filter_map(|field| line[*field].parse().ok()).collect() };
    lines(file).filter(is_somebody).flat_map(ids).filter(|id| *id != NOBODY).collect()
}

/// The account, in these groups too: each a name or a number.
pub(crate) fn add_groups(mut account: Account, names: &[String], group: &str) -> Result<Account, NoSuchAccount> {
    let groups = &mut account.user.additional_gids;
    for name in names {
        groups.push(find_group(name, group)?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(account)
}

/// The fields of each line that has at least four.
fn lines(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 4)
}

fn find_group(name: &str, group: &str) -> Result<u32, NoSuchAccount> {
    lines(group)
        .find(|fields| fields[0] == name)
        .and_then(|fields| fields[2].parse().ok())
        .or_else(|| name.parse().ok())
        .or_else(|| (name == "root").then_some(0))
        .ok_or_else(|| NoSuchAccount::Group(name.into()))
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    lines(group)
        .filter(|fields| fields[3].split(',').any(|member| member == user))
        .filter_map(|fields| fields[2].parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/srv:/bin/false\nbroken\n5:x:7:7::/five:\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\ndisk:x:6:root,web\ntty:x:5:web\nweb2:x:102:web\n";

    fn found(wanted: &str) -> (u32, u32, Vec<u32>, String) {
        let account = look_up(wanted, PASSWD, GROUP).expect(wanted);
        (account.user.uid, account.user.gid, account.user.additional_gids, account.home)
    }

    // The three texts in one; whoever is found is in the group that is asked for or that the file says, and in no group
    // twice.
    rbox_fuzz::target!(
        passwd_and_group,
        rbox_fuzz::Shape::Bytes,
        [format!("web\u{1}{PASSWD}\u{1}{GROUP}"), format!("5:disk\u{1}{PASSWD}\u{1}{GROUP}")],
        |input: &[u8]| {
            let text = String::from_utf8_lossy(input);
            let mut parts = text.splitn(3, '\u{1}');
            let mut next = || parts.next().unwrap_or_default();
            let (wanted, passwd, group) = (next(), next(), next());
            if let Ok(Account { user, .. }) = look_up(wanted, passwd, group) {
                assert!(user.additional_gids.contains(&user.gid));
                assert!(user.additional_gids.is_sorted_by(|one, next| one < next));
            }
        }
    );

    #[test]
    fn names_and_numbers() {
        assert_eq!(found(""), (0, 0, vec![0, 6], "/root".into()));
        assert_eq!(found("web"), (101, 102, vec![5, 6, 102], "/srv".into()));
        assert_eq!(found("101"), (101, 102, vec![5, 6, 102], "/srv".into()));
        assert_eq!(found("web:disk"), (101, 6, vec![6], "/srv".into()));
        assert_eq!(found("web:9"), (101, 9, vec![9], "/srv".into()));
        assert_eq!(found("1000"), (1000, 0, vec![0], "/".into()));
        assert_eq!(
            look_up("root", "", "").map(|account| account.user),
            Ok(User { additional_gids: vec![0], ..User::default() })
        );
        assert_eq!(found("1000:1000"), (1000, 1000, vec![1000], "/".into()));
        // A name that looks like a number is a name first.
        assert_eq!(found("5"), (7, 7, vec![7], "/five".into()));
    }

    #[test]
    fn more_groups() {
        let in_groups = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
            let account = look_up("web:disk", PASSWD, GROUP).expect("found");
            add_groups(account, &names, GROUP).map(|account| account.user.additional_gids)
        };
        assert_eq!(in_groups(&["tty", "77", "6"]), Ok(vec![5, 6, 77]));
        assert_eq!(in_groups(&["nosuch"]), Err(NoSuchAccount::Group("nosuch".into())));
    }

    #[test]
    fn nobody() {
        assert_eq!(look_up("ann", PASSWD, GROUP), Err(NoSuchAccount::User("ann".into())));
        assert_eq!(look_up("web:ann", PASSWD, GROUP), Err(NoSuchAccount::Group("ann".into())));
        assert_eq!(look_up("ann", "", ""), Err(NoSuchAccount::User("ann".into())));
    }
}
