//! Names out of an archive, checked.

use std::borrow::Cow;

/// A path relative to the layer's root, of plain components: no `..`, no `.`, no empty one. Empty for the root itself.
///
/// Only [`EntryPath::parse`] makes one out of foreign bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryPath(Vec<u8>);

/// Why a name in an archive is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Nothing is there.
    #[error("its name is empty")]
    Empty,
    /// It begins with `/`.
    #[error("its name is an absolute path")]
    Absolute,
    /// It has a `..`.
    #[error("its name contains '..'")]
    DotDot,
    /// It has a NUL, which only PAX headers can express.
    #[error("its name contains a NUL byte")]
    Nul,
    /// A component that no file system holds (NAME_MAX).
    #[error("a component of its name is longer than 255 bytes")]
    LongComponent,
    /// A path that no system call takes (PATH_MAX).
    #[error("its name is longer than 4095 bytes")]
    Long,
    /// `.wh.` and nothing, or what is no name.
    #[error("it is a whiteout of nothing")]
    Whiteout,
}

const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4095;

impl EntryPath {
    /// Checks and normalises: `./a//b/` is `a/b`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, PathProblem> {
        match bytes.first() {
            None => return Err(PathProblem::Empty),
            Some(b'/') => return Err(PathProblem::Absolute),
            Some(_) => {}
        }
        if bytes.contains(&0) {
            return Err(PathProblem::Nul);
        }
        let mut path = Vec::with_capacity(bytes.len());
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(PathProblem::DotDot),
                _ if component.len() > NAME_MAX => return Err(PathProblem::LongComponent),
                _ => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(component);
                }
            }
        }
        if path.len() > PATH_MAX { Err(PathProblem::Long) } else { Ok(Self(path)) }
    }

    /// The layer's root.
    pub(crate) const fn root() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Directory and last component, both empty for the root.
    pub(crate) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (b"", &self.0),
        }
    }

    /// The directory that it is in.
    pub(crate) fn parent(&self) -> Self {
        Self(self.split().0.to_vec())
    }

    /// Its first `length` bytes, which end where a component does.
    pub(crate) fn prefix(&self, length: usize) -> Self {
        debug_assert!(length == 0 || self.0.get(length).is_none_or(|byte| *byte == b'/'));
        Self(self.0[..length].to_vec())
    }

    /// The same place, but called `name`, a single component.
    pub(crate) fn with_name(&self, name: &[u8]) -> Result<Self, PathProblem> {
        if matches!(name, b"" | b"." | b"..") {
            return Err(PathProblem::Whiteout);
        }
        let (parent, _) = self.split();
        Ok(Self(if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }))
    }

    /// The lengths of all its prefixes that are paths, itself last; none for the root.
    pub(crate) fn prefix_lengths(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        slashes.chain((!self.0.is_empty()).then_some(self.0.len()))
    }

    /// Whether `other` is this or beneath it.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.is_root()
            || other.0.strip_prefix(&self.0[..]).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// What lies beneath this, as a range in the order of paths: from `a/` to before `a0`, `0` being the byte after
    /// `/`. Not for the root.
    pub(crate) fn beneath(&self) -> std::ops::Range<Self> {
        Self([&self.0[..], b"/"].concat())..Self([&self.0[..], b"0"].concat())
    }
}

/// Bytes of a name as people are shown them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = match String::from_utf8_lossy(bytes) {
        Cow::Borrowed("") => return "(the layer's root)".into(),
        text => text,
    };
    // A name must not reach a terminal as control sequences, nor fill it.
    let mut shown: String = text
        .chars()
        .take(256)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(256).is_some() {
        shown.push('…');
    }
    shown
}

impl std::fmt::Display for EntryPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_forms() {
        for (given, expected) in [
            ("a", "a"),
            ("./a", "a"),
            ("a/", "a"),
            ("./", ""),
            (".", ""),
            ("a//b/./c/", "a/b/c"),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(EntryPath::parse(given.as_bytes()).expect("valid").as_bytes(), expected.as_bytes(), "{given}");
        }
    }

    #[test]
    fn refused() {
        let long = [b'a'; 256];
        let deep = b"abcdefgh/".repeat(456);
        for (given, expected) in [
            (&b""[..], PathProblem::Empty),
            (b"/etc/passwd", PathProblem::Absolute),
            (b"//a", PathProblem::Absolute),
            (b"..", PathProblem::DotDot),
            (b"a/../../b", PathProblem::DotDot),
            (b"a\0b", PathProblem::Nul),
            (&long, PathProblem::LongComponent),
            (&deep, PathProblem::Long),
        ] {
            assert_eq!(EntryPath::parse(given), Err(expected));
        }
    }

    #[test]
    fn pieces() {
        let path = EntryPath::parse(b"a/bc/d").expect("valid");
        assert_eq!(path.prefix_lengths().collect::<Vec<_>>(), [1, 4, 6]);
        assert_eq!(path.split(), (&b"a/bc"[..], &b"d"[..]));
        assert_eq!(path.with_name(b"x").expect("valid").as_bytes(), b"a/bc/x");
        assert!(path.with_name(b"..").is_err());
        let holds = |other: &str| path.parent().holds(&EntryPath::parse(other.as_bytes()).expect("valid"));
        assert!(holds("a/bc") && holds("a/bc/e") && !holds("a/bcd") && !holds("a"));
        assert_eq!(EntryPath::root().prefix_lengths().count(), 0);
    }

    #[test]
    fn control_characters_are_not_shown_raw() {
        assert_eq!(shown(b"a\x1b[2Jb"), "a\\u{1b}[2Jb");
    }
}
