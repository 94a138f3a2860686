//! The files /etc/subuid and /etc/subgid: subuid(5).

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
    fn names() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("ann"));
        assert_eq!(user_name(passwd, 1001), None);
    }
}
