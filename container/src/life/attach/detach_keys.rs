//! `--detach-keys`: what a person types to leave a process to itself.

use std::str::FromStr;

/// Keys in a row, as the bytes that a terminal makes of them; none, and there is no leaving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl DetachKeys {
    pub(crate) const NONE: Self = Self(Vec::new());

    /// Whether there are none to leave by.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

/// Docker's.
impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![ctrl(b'p'), ctrl(b'q')])
    }
}

/// Docker's and Podman's spelling: keys with commas between them, each a character or `ctrl-` with one of
/// `a`–`z @ [ \ ] ^ _`.
impl FromStr for DetachKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::NONE);
        }
        let key = |word: &str| match (word.strip_prefix("ctrl-").unwrap_or_default().as_bytes(), word.as_bytes()) {
            (&[key @ (b'a'..=b'z' | b'@' | b'['..=b'_')], _) => Ok(ctrl(key)),
            (_, &[key]) => Ok(key),
            _ => Err(format!("{word:?} is no key: expected one character, or ctrl- with one of a-z @ [ \\ ] ^ _")),
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// ascii(7): control characters are those that they are typed with, without the upper bits.
const fn ctrl(key: u8) -> u8 {
    key & 0x1f
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    keys: &'a [u8],
    /// What may be their beginning, and so has not been passed on.
    held: Vec<u8>,
}

impl<'a> Watch<'a> {
    pub(crate) fn for_keys(keys: &'a DetachKeys) -> Self {
        Self { keys: &keys.0, held: Vec::new() }
    }

    /// Leaves in `typed` what is to be passed on; says whether the keys have come, and drops them and what follows.
    pub(crate) fn pass(&mut self, typed: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        for byte in std::mem::take(typed) {
            self.held.push(byte);
            while !self.keys.starts_with(&self.held) {
                typed.push(self.held.remove(0));
            }
            if self.held.len() == self.keys.len() {
                return true;
            }
        }
        false
    }

    /// What was held back, when nothing more comes.
    pub(crate) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling() {
        let keys = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0);
        assert_eq!(keys("ctrl-p,ctrl-q"), Ok(DetachKeys::default().0));
        assert_eq!(keys("ctrl-@,ctrl-[,x,~"), Ok(vec![0, 27, b'x', b'~']));
        assert_eq!(keys(""), Ok(vec![]));
        for bad in ["ctrl-P", "ctrl-", "a,,b", "ab", "ctrl-ab", "é"] {
            assert!(keys(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_typed_passes_but_for_the_keys() {
        let keys: DetachKeys = "a,a,b".parse().expect("valid");
        let typed = |pieces: &[&str]| {
            let (mut watch, mut passed) = (Watch::for_keys(&keys), Vec::new());
            for piece in pieces {
                let mut piece = piece.as_bytes().to_vec();
                let found = watch.pass(&mut piece);
                passed.extend(piece);
                if found {
                    return (String::from_utf8(passed).expect("ASCII"), true);
                }
            }
            passed.extend(watch.take_held());
            (String::from_utf8(passed).expect("ASCII"), false)
        };
        assert_eq!(typed(&["xyz"]), ("xyz".into(), false));
        assert_eq!(typed(&["xaabz"]), ("x".into(), true));
        assert_eq!(typed(&["a", "a", "b"]), (String::new(), true));
        // Two of them are the beginning of the keys, the first one is not.
        assert_eq!(typed(&["aaab"]), ("a".into(), true));
        assert_eq!(typed(&["a", "aca"]), ("aaca".into(), false));
    }
}
