//! What all filters have in common: `--filter KEY=VALUE`, of one key any of its values, and of labels all.

use jiff::Timestamp;

use crate::moment;

/// Why a filter is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It is no `KEY=VALUE`.
    #[error("the filter {0:?} is not KEY=VALUE")]
    Form(String),
    /// There is no such key.
    #[error("there is no filter {key:?} for {of}; there are: {known}")]
    Key {
        /// As given.
        key: String,
        /// Of what.
        of: &'static str,
        /// All keys.
        known: String,
    },
    /// The value means nothing for this key.
    #[error("{value:?} is nothing to filter by with {key}: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// As given.
        value: String,
        /// What can be given.
        expected: &'static str,
    },
}

/// Labels that are wanted, and that are not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    /// `KEY` or `KEY=VALUE`.
    pub(crate) with: Vec<String>,
    pub(crate) without: Vec<String>,
}

impl Labels {
    pub(crate) fn match_those<'a>(&self, get: impl Fn(&str) -> Option<&'a String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => get(key).is_some_and(|there| there == value),
            None => get(wanted).is_some(),
        };
        self.with.iter().all(has) && !self.without.iter().any(has)
    }
}

/// Whether one is met, or none is asked for.
pub(crate) fn any<T>(wanted: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(matches)
}

/// Filters of a pruning, which has fewer; `add` takes one.
pub(crate) fn of_pruning<F: Default>(
    filters: &[String],
    add: impl Fn(&mut F, &str) -> Result<(), FilterError>,
) -> Result<F, FilterError> {
    let mut all = F::default();
    for filter in filters {
        let (key, _) = key_and_value(filter)?;
        if !matches!(key, "until" | "label" | "label!") {
            return Err(unknown(key, "what is removed", "label until"));
        }
        add(&mut all, filter)?;
    }
    Ok(all)
}

/// The two parts of a filter. Docker writes `label!=…` for what must not be there.
pub(crate) fn key_and_value(filter: &str) -> Result<(&str, &str), FilterError> {
    filter
        .split_once('=')
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .ok_or_else(|| FilterError::Form(filter.to_owned()))
}

pub(crate) fn unknown(key: &str, of: &'static str, known: &str) -> FilterError {
    FilterError::Key { key: key.to_owned(), of, known: known.to_owned() }
}

/// A point in time.
pub(crate) fn until(value: &str) -> Result<Timestamp, FilterError> {
    moment::parse(value, Timestamp::now(), &moment::local_zone()).map_err(|_| FilterError::Value {
        key: "until",
        value: value.to_owned(),
        expected: "a time is 10m, 24h, 2026-01-31, 2026-01-31T12:00:00Z or seconds since 1970",
    })
}

/// What people give for a name: a part of it, which `^` and `$` bind to its beginning and end. Docker takes any regular
/// expression here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    part: String,
    at_start: bool,
    at_end: bool,
}

impl Pattern {
    pub(crate) const EXPECTED: &'static str =
        "a part of a name, with ^ before it and $ behind it where it begins and ends there";

    pub(crate) fn parse(text: &str) -> Option<Self> {
        // Docker has kept the slash that once stood before each name.
        let (at_start, rest) = match text.strip_prefix("^/").or_else(|| text.strip_prefix('^')) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (at_end, part) = rest.strip_suffix('$').map_or((false, rest), |part| (true, part));
        let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        plain.then(|| Self { part: part.to_owned(), at_start, at_end })
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        match (self.at_start, self.at_end) {
            (false, false) => name.contains(&self.part),
            (true, false) => name.starts_with(&self.part),
            (false, true) => name.ends_with(&self.part),
            (true, true) => name == self.part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, name, matches) in [
            ("box", "my-box-1", true),
            ("^box", "box-1", true),
            ("^box", "my-box", false),
            ("box$", "my-box", true),
            ("^box$", "box", true),
            ("^/box$", "box", true),
            ("^box$", "box1", false),
            ("box", "bo", false),
        ] {
            assert_eq!(Pattern::parse(pattern).expect("valid").matches(name), matches, "{pattern} {name}");
        }
        for bad in ["a.*b|c", "[ab]", "(a)", "a b"] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn labels() {
        let there = std::collections::BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".into(), String::new())]);
        let matches = |with: &[&str], without: &[&str]| {
            let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
            Labels { with: list(with), without: list(without) }.match_those(|key| there.get(key))
        };
        assert!(matches(&[], &[]) && matches(&["a"], &[]) && matches(&["a=1", "b"], &["c"]));
        assert!(
            !matches(&["a=2"], &[]) && !matches(&["a", "c"], &[]) && !matches(&[], &["a"]) && !matches(&[], &["a=1"])
        );
        assert!(matches(&["b="], &["a=2"]));
    }
}
