//! Patterns for paths, as `--security-opt unmask=` has them: those of a shell, by the rules of Go's filepath.Match.

/// Whether a whole path matches: `*` and `?` stand for anything but a slash, `[a-z]` and `[^a-z]` for one byte of a class
/// (which may be a slash), and a backslash takes the next byte as it is. None where the pattern is none.
pub(crate) fn matches(pattern: &str, path: &str) -> Option<bool> {
    // A pattern that ends in the middle of something is wrong whatever it is compared with.
    check(pattern.as_bytes())?;
    Some(rest_matches(pattern.as_bytes(), path.as_bytes()))
}

fn check(mut pattern: &[u8]) -> Option<()> {
    while let Some((first, rest)) = pattern.split_first() {
        pattern = match first {
            b'\\' => rest.get(1..)?,
            b'[' => class(rest)?.1,
            _ => rest,
        };
    }
    Some(())
}

/// Of a pattern that has been checked.
fn rest_matches(pattern: &[u8], path: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return path.is_empty() };
    if *first == b'*' {
        let most = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
        return (0..=most).any(|taken| rest_matches(rest, &path[taken..]));
    }
    let Some((byte, left)) = path.split_first() else { return false };
    match first {
        b'?' => *byte != b'/' && rest_matches(rest, left),
        b'[' => class(rest).is_some_and(|(class, rest)| class.has(*byte) && rest_matches(rest, left)),
        b'\\' => rest.first() == Some(byte) && rest_matches(&rest[1..], left),
        _ => first == byte && rest_matches(rest, left),
    }
}

/// `[…]`
struct Class {
    negated: bool,
    ranges: Vec<(u8, u8)>,
}

impl Class {
    fn has(&self, byte: u8) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&byte)) != self.negated
    }
}

/// What follows `[`; gives also what follows the class.
fn class(mut pattern: &[u8]) -> Option<(Class, &[u8])> {
    let negated = pattern.first() == Some(&b'^');
    if negated {
        pattern = &pattern[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if pattern.first() == Some(&b']') && !ranges.is_empty() {
            return Some((Class { negated, ranges }, &pattern[1..]));
        }
        let (first, mut rest) = member(pattern)?;
        let mut last = first;
        if rest.first() == Some(&b'-') {
            (last, rest) = member(&rest[1..])?;
        }
        ranges.push((first, last));
        pattern = rest;
    }
}

/// One byte of a class.
fn member(pattern: &[u8]) -> Option<(u8, &[u8])> {
    match pattern {
        [b'\\', byte, rest @ ..] => Some((*byte, rest)),
        [] | [b'\\'] | [b'-' | b']', ..] => None,
        [byte, rest @ ..] => Some((*byte, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path) in [
            ("/proc/keys", "/proc/keys"),
            ("/proc/*", "/proc/keys"),
            ("/*/k?ys", "/proc/keys"),
            ("/proc/*e*s*", "/proc/keys"),
            ("/proc/[a-k][^a]ys", "/proc/keys"),
            ("/proc/[\\]k]eys", "/proc/keys"),
            ("/proc[^a]keys", "/proc/keys"),
            ("/pr\\oc/\\*", "/proc/*"),
            ("*", ""),
        ] {
            assert_eq!(matches(pattern, path), Some(true), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/proc/*", "/proc/a/b"),
            ("/proc/*", "/proc"),
            ("/proc?keys", "/proc/keys"),
            ("/proc/[^k]eys", "/proc/keys"),
            ("/proc/key", "/proc/keys"),
            ("/proc/keys*s", "/proc/keys"),
            ("", "/"),
        ] {
            assert_eq!(matches(pattern, path), Some(false), "{pattern} {path}");
        }
        for pattern in ["[", "[a", "[]", "[]a]", "[a-]", "[-a]", "a\\", "[\\", "/proc/[^"] {
            assert_eq!(matches(pattern, "/nothing/like/it"), None, "{pattern}");
        }
    }
}
