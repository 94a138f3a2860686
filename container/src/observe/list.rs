//! Which containers are meant: filters, and the order of a list.

use std::path::Path;

use jiff::Timestamp;
use rbox_store::ContainerEntry;
use rbox_types::{Digest, Reference};

use crate::filter::{FilterError, Labels, Pattern, any, key_and_value, of_pruning, unknown, until};
use crate::life::restart::RestartPolicy;
use crate::life::start::Startable;
use crate::life::stop::stopped_by_somebody;
use crate::observe::containers::{ContainerStatus, ContainerSummary};
use crate::record::Made;
use crate::{Engine, Error};

/// What a container must be like: of one key any of its values, and of labels all.
#[derive(Debug, Clone, Default)]
pub struct ContainerFilters {
    ids: Vec<String>,
    names: Vec<Pattern>,
    statuses: Vec<&'static str>,
    healths: Vec<&'static str>,
    exit_codes: Vec<u8>,
    ancestors: Vec<String>,
    before: Vec<String>,
    since: Vec<String>,
    until: Vec<Timestamp>,
    volumes: Vec<String>,
    networks: Vec<String>,
    restart_policies: Vec<&'static str>,
    on_boot: Vec<bool>,
    labels: Labels,
}

/// How a list is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContainerOrder {
    /// The newest first.
    #[default]
    Created,
    /// The one that began last first.
    RunningFor,
    /// By id.
    Id,
    /// By name.
    Names,
    /// By the image's name.
    Image,
    /// By the words that are executed.
    Command,
    /// By what they are doing.
    Status,
}

/// Which containers are listed.
#[derive(Debug, Clone, Default)]
pub struct ContainerQuery {
    /// Those, too, that do not run.
    pub all: bool,
    /// Only this many of the newest, whatever they are doing.
    pub last: Option<usize>,
    /// What they are like.
    pub filters: ContainerFilters,
    /// Their order.
    pub order: ContainerOrder,
}

const KEYS: &str = "ancestor before exited health id label name network restart-policy should-start-on-boot since status \
                    until volume";

impl ContainerFilters {
    /// Adds one filter: `KEY=VALUE`.
    pub fn add(&mut self, filter: &str) -> Result<(), FilterError> {
        let (key, value) = key_and_value(filter)?;
        let wrong = |key, expected| FilterError::Value { key, value: value.to_owned(), expected };
        match key {
            "id" => self.ids.push(value.to_owned()),
            "name" => self.names.push(Pattern::parse(value).ok_or_else(|| wrong("name", Pattern::EXPECTED))?),
            "status" => self.statuses.push(match value {
                "created" => "created",
                "running" => "running",
                "paused" => "paused",
                "exited" | "stopped" => "exited",
                "dead" => "dead",
                _ => return Err(wrong("status", "a container is created, running, paused, exited or dead")),
            }),
            "health" => self.healths.push(match value {
                "starting" => "starting",
                "healthy" => "healthy",
                "unhealthy" => "unhealthy",
                "none" => "none",
                _ => return Err(wrong("health", "a container is starting, healthy, unhealthy or none of them")),
            }),
            "exited" => {
                let code = value.parse().map_err(|_| wrong("exited", "an exit status is a number from 0 to 255"))?;
                self.exit_codes.push(code);
            }
            "ancestor" => self.ancestors.push(value.to_owned()),
            "before" => self.before.push(value.to_owned()),
            "since" => self.since.push(value.to_owned()),
            "until" => self.until.push(until(value)?),
            "volume" => self.volumes.push(value.to_owned()),
            "network" => self.networks.push(value.to_owned()),
            "restart-policy" => {
                let policy = RestartPolicy::of_word(value);
                let none = || wrong("restart-policy", "a policy is no, on-failure, always or unless-stopped");
                self.restart_policies.push(policy.ok_or_else(none)?.word());
            }
            "should-start-on-boot" => self.on_boot.push(match value {
                "true" => true,
                "false" => false,
                _ => return Err(wrong("should-start-on-boot", "it is true or false")),
            }),
            "label" => self.labels.with.push(value.to_owned()),
            "label!" => self.labels.without.push(value.to_owned()),
            _ => return Err(unknown(key, "containers", KEYS)),
        }
        Ok(())
    }

    /// Those of a pruning, which has fewer.
    pub fn for_pruning(filters: &[String]) -> Result<Self, FilterError> {
        of_pruning(filters, Self::add)
    }
}

/// Filters whose words have been looked up.
struct Resolved<'a> {
    filters: &'a ContainerFilters,
    ancestors: Vec<(Option<Reference>, Option<Digest>)>,
    before: Vec<Timestamp>,
    since: Vec<Timestamp>,
}

impl Engine {
    /// The containers that are asked for.
    pub fn list_containers(&self, query: &ContainerQuery) -> Result<Vec<ContainerSummary>, Error> {
        // Docker's rule: who asks for a status wants those that have it.
        let all = query.all || query.last.is_some() || !query.filters.statuses.is_empty();
        let mut listed = self.matching(&query.filters, |entry| all || entry.running)?;
        listed.retain(|container| all || container.status.is_alive());
        sort(&mut listed, ContainerOrder::Created);
        listed.truncate(query.last.unwrap_or(usize::MAX));
        sort(&mut listed, query.order);
        Ok(listed)
    }

    /// The ids of those that are as the filters say, the oldest first: of what is run by a monitor, or could be.
    pub fn startable_ids(&self, filters: &ContainerFilters) -> Result<Vec<String>, Error> {
        let mut found = self.matching(filters, Startable::is_there)?;
        sort(&mut found, ContainerOrder::Created);
        Ok(found.into_iter().rev().map(|container| container.id.to_string()).collect())
    }

    /// Those that are as the filters say; nothing is read of what is `of` no interest.
    fn matching(
        &self,
        filters: &ContainerFilters,
        of: impl Fn(&ContainerEntry) -> bool,
    ) -> Result<Vec<ContainerSummary>, Error> {
        let resolved = self.resolve(filters)?;
        let mut found = Vec::new();
        for entry in self.store.containers()?.into_iter().filter(of) {
            let container = self.summary(&entry)?;
            if resolved.matches(&container) && filters.matches_boot(&container, &entry.path)? {
                found.push(container);
            }
        }
        Ok(found)
    }

    fn resolve<'a>(&self, filters: &'a ContainerFilters) -> Result<Resolved<'a>, Error> {
        let times = |names: &[String]| {
            let created =
                |name: &String| Ok(self.find_container(name)?.made.map_or(Timestamp::MIN, |made| made.created));
            names.iter().map(created).collect::<Result<Vec<_>, Error>>()
        };
        let ancestor = |text: &String| match self.find_image(text) {
            Ok((record, image)) => Ok((Some(record.reference), Some(image.config_digest))),
            // Its name may be gone, and containers of it be there.
            Err(Error::NoSuchImage(_)) => Ok((text.parse().ok(), None)),
            Err(error) => Err(error),
        };
        Ok(Resolved {
            filters,
            ancestors: filters.ancestors.iter().map(ancestor).collect::<Result<_, Error>>()?,
            before: times(&filters.before)?,
            since: times(&filters.since)?,
        })
    }
}

impl Resolved<'_> {
    fn matches(&self, container: &ContainerSummary) -> bool {
        let filters = self.filters;
        let status = container.status;
        any(&filters.ids, |id| container.id.as_str().starts_with(id.as_str()))
            && any(&filters.names, |name| name.matches(container.name.as_str()))
            && any(&filters.statuses, |word| status.word() == *word)
            && any(&filters.healths, |word| container.health_word().unwrap_or("none") == *word)
            && any(&filters.exit_codes, |code| {
                matches!(status, ContainerStatus::Exited { .. }) && status.exit_code() == *code
            })
            && match &container.made {
                Some(made) => self.matches_made(made),
                None => filters.has_nothing_of_records(),
            }
    }

    fn matches_made(&self, made: &Made) -> bool {
        let filters = self.filters;
        any(&self.ancestors, |(name, id)| *id == Some(made.image_id) || name.as_ref() == Some(&made.image))
            && any(&self.before, |time| made.created < *time)
            && any(&self.since, |time| made.created > *time)
            && any(&filters.until, |time| made.created < *time)
            && any(&filters.volumes, |path| {
                made.binds.iter().any(|(source, destination, _)| source == path || destination == path)
                    || made.volumes.iter().any(|volume| {
                        volume.name.as_str() == path || [&volume.destination, &volume.source].contains(&&path.into())
                    })
            })
            && any(&filters.networks, |network| made.network().word() == network)
            && any(&filters.restart_policies, |word| made.restart.word() == *word)
            && filters.labels.match_those(|key| made.labels().get(key))
    }
}

impl ContainerFilters {
    fn matches_boot(&self, container: &ContainerSummary, directory: &Path) -> Result<bool, Error> {
        // Almost nobody asks.
        if self.on_boot.is_empty() {
            return Ok(true);
        }
        let stopped = stopped_by_somebody(directory).map_err(Error::io("read the records in", directory.display()))?;
        let starts = container.made.as_ref().is_some_and(|made| made.restart.starts_on_boot(stopped));
        Ok(self.on_boot.contains(&starts))
    }

    fn has_nothing_of_records(&self) -> bool {
        let times = self.before.len() + self.since.len() + self.until.len() + self.networks.len();
        let words = self.ancestors.len() + self.volumes.len() + self.labels.with.len() + self.restart_policies.len();
        times + words == 0
    }
}

/// Orders a list.
fn sort(containers: &mut [ContainerSummary], order: ContainerOrder) {
    let made = |container: &ContainerSummary| container.made.as_ref().map(|made| made.created);
    match order {
        ContainerOrder::Created => containers.sort_by_key(|container| std::cmp::Reverse(made(container))),
        ContainerOrder::RunningFor => {
            containers.sort_by_key(|container| std::cmp::Reverse(container.status.started_at()));
        }
        ContainerOrder::Id => containers.sort_by(|one, next| one.id.cmp(&next.id)),
        ContainerOrder::Names => containers.sort_by(|one, next| one.name.cmp(&next.name)),
        ContainerOrder::Image => {
            containers.sort_by_key(|container| container.made.as_ref().map(|made| made.image.clone()));
        }
        ContainerOrder::Command => {
            containers.sort_by_key(|container| container.made.as_ref().map(|made| made.args.clone()));
        }
        ContainerOrder::Status => containers.sort_by_key(|container| container.status.word()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_named() {
        for (filter, words) in [
            ("name", "is not KEY=VALUE"),
            ("=a", "is not KEY=VALUE"),
            ("pod=web", "no filter \"pod\" for containers; there are: ancestor before"),
            ("status=asleep", "a container is created, running, paused, exited or dead"),
            ("health=good", "a container is starting"),
            ("exited=256", "from 0 to 255"),
            ("until=yesterday", "a time is 10m"),
            ("restart-policy=never", "a policy is no, on-failure"),
            ("should-start-on-boot=1", "true or false"),
        ] {
            let error = ContainerFilters::default().add(filter).expect_err(filter).to_string();
            assert!(error.contains(words), "{filter}: {error}");
        }
        let error = ContainerFilters::for_pruning(&["name=a".into()]).expect_err("no such key").to_string();
        assert!(error.contains("there are: label until"), "{error}");
    }
}
