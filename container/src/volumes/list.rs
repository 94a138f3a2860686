//! Which volumes are meant.

use jiff::Timestamp;

use super::VolumeSummary;
use crate::filter::{FilterError, Labels, Pattern, any, key_and_value, of_pruning, unknown, until};

/// What a volume must be like: of one key any of its values, and of labels all.
#[derive(Debug, Clone, Default)]
pub struct VolumeFilters {
    names: Vec<Pattern>,
    drivers: Vec<String>,
    dangling: Vec<bool>,
    anonymous: Vec<bool>,
    until: Vec<Timestamp>,
    labels: Labels,
}

impl VolumeFilters {
    /// Adds one filter: `KEY=VALUE`.
    pub fn add(&mut self, filter: &str) -> Result<(), FilterError> {
        let (key, value) = key_and_value(filter)?;
        let wrong = |key, expected| FilterError::Value { key, value: value.to_owned(), expected };
        let switch = |key| match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(wrong(key, "it is true or false")),
        };
        match key {
            "name" => self.names.push(Pattern::parse(value).ok_or_else(|| wrong("name", Pattern::EXPECTED))?),
            "driver" => self.drivers.push(value.to_owned()),
            "dangling" => self.dangling.push(switch("dangling")?),
            "anonymous" => self.anonymous.push(switch("anonymous")?),
            "until" => self.until.push(until(value)?),
            "label" => self.labels.with.push(value.to_owned()),
            "label!" => self.labels.without.push(value.to_owned()),
            _ => return Err(unknown(key, "volumes", "anonymous dangling driver label name until")),
        }
        Ok(())
    }

    /// Those of a pruning, which has fewer.
    pub fn for_pruning(filters: &[String]) -> Result<Self, FilterError> {
        of_pruning(filters, Self::add)
    }

    pub(super) fn match_one(&self, VolumeSummary { volume, users }: &VolumeSummary) -> bool {
        let record = &volume.record;
        any(&self.names, |name| name.matches(volume.name.as_str()))
            && any(&self.drivers, |driver| *driver == record.driver)
            && any(&self.dangling, |dangling| *dangling == users.is_empty())
            && any(&self.anonymous, |anonymous| *anonymous == record.anonymous)
            && any(&self.until, |time| record.created < *time)
            && self.labels.match_those(|key| record.labels.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_named() {
        for (filter, words) in [
            ("name", "is not KEY=VALUE"),
            ("pod=web", "no filter \"pod\" for volumes; there are: anonymous dangling"),
            ("dangling=maybe", "true or false"),
            ("until=yesterday", "a time is 10m"),
        ] {
            let error = VolumeFilters::default().add(filter).expect_err(filter).to_string();
            assert!(error.contains(words), "{filter}: {error}");
        }
        let error = VolumeFilters::for_pruning(&["name=a".into()]).expect_err("no such key").to_string();
        assert!(error.contains("there are: label until"), "{error}");
    }
}
