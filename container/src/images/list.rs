//! Which images are meant: filters, and the order of a list.

use jiff::Timestamp;
use rbox_types::Reference;

use crate::filter::{self, FilterError, Labels, any};
use crate::images::{ImageSummary, created};
use crate::{Engine, Error, glob};

/// Which images are listed.
#[derive(Debug, Clone, Default)]
pub struct ImageQuery {
    /// What they are like: of one key any of its values, and of labels all.
    filters: ImageFilters,
    /// Their order.
    pub order: ImageOrder,
}

#[derive(Debug, Clone, Default)]
struct ImageFilters {
    references: Vec<String>,
    ids: Vec<String>,
    before: Vec<String>,
    since: Vec<String>,
    until: Vec<Timestamp>,
    dangling: Vec<bool>,
    labels: Labels,
}

/// How a list of images is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageOrder {
    /// The one that was built last first.
    #[default]
    Created,
    /// By id.
    Id,
    /// By name and tag.
    Repository,
    /// The largest last.
    Size,
    /// By tag.
    Tag,
}

const KEYS: &str = "before dangling id label reference since until";

impl ImageQuery {
    /// Adds one filter: `KEY=VALUE`.
    pub fn add(&mut self, filter: &str) -> Result<(), FilterError> {
        let (key, value) = filter::key_and_value(filter)?;
        let wrong = |key, expected| FilterError::Value { key, value: value.to_owned(), expected };
        let filters = &mut self.filters;
        match key {
            "reference" => self.add_reference(value)?,
            "id" => filters.ids.push(value.strip_prefix("sha256:").unwrap_or(value).to_owned()),
            "before" => filters.before.push(value.to_owned()),
            "since" | "after" => filters.since.push(value.to_owned()),
            "until" => filters.until.push(filter::until(value)?),
            "dangling" => filters.dangling.push(match value {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err(wrong("dangling", "it is true or false")),
            }),
            "label" => filters.labels.with.push(value.to_owned()),
            "label!" => filters.labels.without.push(value.to_owned()),
            _ => return Err(filter::unknown(key, "images", KEYS)),
        }
        Ok(())
    }

    /// Adds a name, which may be a pattern: `*` and `?` stand for anything but a slash.
    pub fn add_reference(&mut self, pattern: &str) -> Result<(), FilterError> {
        if glob::matches(pattern, "").is_none() {
            let expected = "a pattern has * ? [a-z] for what may stand there";
            return Err(FilterError::Value { key: "reference", value: pattern.to_owned(), expected });
        }
        self.filters.references.push(pattern.to_owned());
        Ok(())
    }

    /// Those of a pruning, which has fewer.
    pub fn for_pruning(filters: &[String]) -> Result<Self, FilterError> {
        let mut all = Self::default();
        for filter in filters {
            let (key, _) = filter::key_and_value(filter)?;
            if !matches!(key, "until" | "label" | "label!") {
                return Err(filter::unknown(key, "what is removed", "label until"));
            }
            all.add(filter)?;
        }
        Ok(all)
    }
}

/// Whether a pattern means this image, by any of the names that people call it: with its tag or without, and of Docker
/// Hub's images by the short name.
fn is_called(reference: &Reference, pattern: &str) -> bool {
    let name = reference.name();
    let short = name.strip_prefix("docker.io/").unwrap_or(&name);
    let shortest = short.strip_prefix("library/").unwrap_or(short);
    let suffix = reference.to_string()[name.len()..].to_owned();
    [name.as_str(), short, shortest].iter().any(|name| {
        [(*name).to_owned(), format!("{name}{suffix}")].iter().any(|name| glob::matches(pattern, name) == Some(true))
    })
}

impl Engine {
    /// The images that are asked for.
    pub fn list_images(&self, query: &ImageQuery) -> Result<Vec<ImageSummary>, Error> {
        let filters = &query.filters;
        let times = |names: &[String]| {
            let created = |name: &String| Ok(created(&self.find_image(name)?.1).unwrap_or(Timestamp::MIN));
            names.iter().map(created).collect::<Result<Vec<_>, Error>>()
        };
        let (before, since) = (times(&filters.before)?, times(&filters.since)?);
        let mut listed = Vec::new();
        for record in self.store.images()? {
            // Before anything is read of it.
            if any(&filters.references, |pattern| is_called(&record.reference, pattern)) {
                listed.push(self.image_summary(&record)?);
            }
        }
        listed.retain(|image| {
            let time = image.created.unwrap_or(Timestamp::MIN);
            any(&filters.ids, |id| image.id.hex().starts_with(id.as_str()))
                && any(&before, |other| time < *other)
                && any(&since, |other| time > *other)
                && any(&filters.until, |other| time < *other)
                // Whatever is listed has a name.
                && any(&filters.dangling, |dangling| !dangling)
                && filters.labels.match_those(|key| image.labels.get(key))
        });
        match query.order {
            ImageOrder::Created => listed.sort_by_key(|image| std::cmp::Reverse(image.created)),
            ImageOrder::Id => listed.sort_by_key(|image| image.id),
            ImageOrder::Repository => listed.sort_by(|one, next| one.reference.cmp(&next.reference)),
            ImageOrder::Size => listed.sort_by_key(|image| image.size),
            ImageOrder::Tag => listed.sort_by(|one, next| one.reference.tag().cmp(&next.reference.tag())),
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_is_called() {
        let called = |name: &str, pattern: &str| is_called(&name.parse().expect("a name"), pattern);
        for pattern in
            ["alpine", "alpine:3", "alpine:*", "library/alpine", "docker.io/library/alpine:3", "al*", "a?pine"]
        {
            assert!(called("alpine:3", pattern), "{pattern}");
        }
        for pattern in ["alpine:4", "pine", "*/*/alpine:4", "docker.io/*"] {
            assert!(!called("alpine:3", pattern), "{pattern}");
        }
        assert!(called("quay.io/a/b:1", "quay.io/*/b") && called("quay.io/a/b:1", "quay.io/a/b:1"));
        assert!(!called("quay.io/a/b:1", "b") && !called("quay.io/a/b:1", "a/b"));
    }

    #[test]
    fn filters_that_are_refused() {
        for (filter, words) in [
            ("reference=[", "a pattern has"),
            ("dangling=maybe", "true or false"),
            ("containers=true", "there are: before dangling id"),
        ] {
            let error = ImageQuery::default().add(filter).expect_err(filter).to_string();
            assert!(error.contains(words), "{filter}: {error}");
        }
    }
}
