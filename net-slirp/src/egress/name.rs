//! Names of hosts, in the one form in which they are compared: small letters, no dot at the end.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name as text (RFC 1035, 2.3.4, less a length and the root).
const LONGEST: usize = 253;
/// The longest part of one.
const LONGEST_LABEL: usize = 63;

/// A name, fully qualified whether it was written so or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing, or nothing between two dots.
    #[error("a part of the name is empty")]
    Empty,
    /// It could never be asked for.
    #[error("a name has {LONGEST} characters at most, and {LONGEST_LABEL} between two dots")]
    TooLong,
    /// What a user sees, but not what goes over the wire.
    #[error("a name is written as DNS has it: what is not ASCII as its A-label, xn--…")]
    NotAscii,
    /// Of no host.
    #[error("a name has letters, digits, '-', '_' and dots, and '*.' before it for all names below it")]
    Character,
    /// 1.2.3, 1.2.3.4.5: most programs take these for addresses, each in its own way.
    #[error("it ends in a number like an address, and is none")]
    Number,
}

impl Name {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a name below that one, at any depth.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_suffix(&*other.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// A name as DNS has it. There a label may have any bytes: what no rule can have is escaped (RFC 4343, 2.1), so
    /// that a dot within a label is none between two.
    pub(crate) fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut text = String::new();
        for label in labels {
            if !text.is_empty() {
                text.push('.');
            }
            for byte in label {
                if is_of_names(*byte) {
                    text.push(char::from(byte.to_ascii_lowercase()));
                } else {
                    text.push_str(&format!("\\{byte:03}"));
                }
            }
        }
        Self(text.into())
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if !text.is_ascii() {
            return Err(InvalidName::NotAscii);
        }
        for label in text.split('.') {
            match label {
                "" => return Err(InvalidName::Empty),
                _ if label.len() > LONGEST_LABEL => return Err(InvalidName::TooLong),
                _ if !label.bytes().all(is_of_names) => return Err(InvalidName::Character),
                _ => {}
            }
        }
        if text.len() > LONGEST {
            return Err(InvalidName::TooLong);
        }
        let last = text.rsplit('.').next().unwrap_or(text);
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidName::Number);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_of_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect(text)
    }

    #[test]
    fn case_and_the_last_dot_do_not_matter() {
        assert_eq!(name("Example.COM."), name("example.com"));
        assert_eq!(Name::from_labels([&b"exaMple"[..], b"com"]), name("example.com"));
    }

    #[test]
    fn what_is_no_name() {
        for (text, why) in [
            ("", InvalidName::Empty),
            (".", InvalidName::Empty),
            ("a..b", InvalidName::Empty),
            (".a", InvalidName::Empty),
            ("a b", InvalidName::Character),
            ("*.a", InvalidName::Character),
            ("a/b", InvalidName::Character),
            ("bücher.example", InvalidName::NotAscii),
            ("1.2.3", InvalidName::Number),
            ("1.2.3.256", InvalidName::Number),
        ] {
            assert_eq!(text.parse::<Name>(), Err(why), "{text}");
        }
        let label = "a".repeat(63);
        assert!(label.parse::<Name>().is_ok());
        assert_eq!(format!("{label}a").parse::<Name>(), Err(InvalidName::TooLong));
        assert_eq!([&*label; 4].join(".").parse::<Name>(), Err(InvalidName::TooLong));
        assert!("xn--bcher-kva.example".parse::<Name>().is_ok());
        assert!("_acme-challenge.example".parse::<Name>().is_ok());
    }

    #[test]
    fn below_is_not_the_name_itself_and_not_what_only_ends_so() {
        let example = name("example.com");
        assert!(name("a.example.com").is_below(&example));
        assert!(name("a.b.example.com").is_below(&example));
        for other in ["example.com", "badexample.com", "com", "example.com.evil.net"] {
            assert!(!name(other).is_below(&example), "{other}");
        }
    }

    #[test]
    fn a_dot_within_a_label_is_none_between_two() {
        let trick = Name::from_labels([&b"evil.example"[..], b"com"]);
        assert_eq!(trick.as_str(), "evil\\046example.com");
        assert!(!trick.is_below(&name("example.com")));
        assert!(Name::from_labels([&b"\0"[..], b"example", b"com"]).is_below(&name("example.com")));
    }
}
