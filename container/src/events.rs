//! What happens to containers and images: written down as it happens, and read with filters.
//!
//! Writing it down never makes what happens fail: a store that is full or read-only has a journal with gaps.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::Timestamp;
pub use rbox_store::{Event, EventKind};
use rbox_store::{EventsFrom, Store, Waiter};
use rbox_types::{ContainerId, ContainerName, Digest, Reference};

use crate::{Engine, Error};

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventSelection {
    /// What happened at that time or later.
    pub since: Option<Timestamp>,
    /// What happened at that time or before.
    pub until: Option<Timestamp>,
    /// Of one name, one has to match; of each name that there is.
    pub filters: Vec<EventFilter>,
    /// Whether to go on with what happens from now on: until `until`, if that is to come.
    pub stream: bool,
}

/// `--filter NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventFilter {
    /// A container's name or the beginning of its id.
    Container(String),
    /// An image's name, with tag or without, or the beginning of its id: its own events, and those of containers from it.
    Image(String),
    /// What happened.
    Event(String),
    /// `container` or `image`.
    Type(String),
    /// A label's name, and its value where that matters. Of several, all have to match.
    Label(String, Option<String>),
}

/// Why a text is no [`EventFilter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEventFilter {
    /// Without a name.
    #[error("{0:?} is no filter: expected NAME=VALUE")]
    Form(String),
    /// A name that there is not.
    #[error("unknown filter {0:?}: expected container, image, event, type or label")]
    Name(String),
}

impl FromStr for EventFilter {
    type Err = InvalidEventFilter;

    fn from_str(text: &str) -> Result<Self, InvalidEventFilter> {
        let (name, value) = text.split_once('=').ok_or_else(|| InvalidEventFilter::Form(text.to_owned()))?;
        let value = value.to_owned();
        Ok(match name {
            "container" => Self::Container(value),
            "image" => Self::Image(value),
            "event" => Self::Event(value),
            "type" => Self::Type(value),
            "label" => match value.split_once('=') {
                Some((label, value)) => Self::Label(label.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            },
            _ => return Err(InvalidEventFilter::Name(name.to_owned())),
        })
    }
}

impl EventFilter {
    fn matches(&self, event: &Event) -> bool {
        let is = |kind| event.kind == kind;
        let begins = |value: &str| !value.is_empty() && event.id.starts_with(value);
        match self {
            Self::Container(value) => is(EventKind::Container) && (event.name == *value || begins(value)),
            Self::Image(value) if is(EventKind::Image) => {
                names(&event.name, value) || begins(value.strip_prefix("sha256:").unwrap_or(value))
            }
            Self::Image(value) => event.image.as_ref().is_some_and(|image| names(image, value)),
            Self::Event(value) => {
                // Docker says more after a colon: `health_status: healthy`.
                let action = event.action.split(':').next().unwrap_or_default();
                event.action == *value || action == *value || action == docker_word(value)
            }
            Self::Type(value) => event.kind.word() == value,
            Self::Label(label, value) => {
                event.attributes.get(label).is_some_and(|is| value.as_ref().is_none_or(|value| is == value))
            }
        }
    }
}

/// Podman's words for what Docker calls otherwise, and the other way round.
fn docker_word(word: &str) -> &str {
    match word {
        "died" => "die",
        "destroy" | "rm" => "remove",
        "delete" => "remove",
        "exec" => "exec_start",
        word => word,
    }
}

/// Whether a person who says this means the image of that name.
fn names(image: &str, said: &str) -> bool {
    let (Ok(image), Ok(meant)) = (image.parse::<Reference>(), said.parse::<Reference>()) else { return false };
    let tagged = said.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if tagged { image == meant } else { image.name() == meant.name() }
}

impl EventSelection {
    fn takes(&self, event: &Event) -> bool {
        let at = event.at();
        if self.since.is_some_and(|since| at < since) || self.until.is_some_and(|until| at > until) {
            return false;
        }
        self.filters.iter().all(|filter| {
            let alike = |other: &&EventFilter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
            match filter {
                EventFilter::Label(..) => filter.matches(event),
                _ => self.filters.iter().filter(alike).any(|filter| filter.matches(event)),
            }
        })
    }
}

impl Engine {
    /// Gives what has happened, and what happens from now on, as it is selected; none where there is no more for now.
    ///
    /// As in Docker and Podman, what has happened is given only where a time is named, or where nothing is waited for.
    pub fn events<E: From<Error>>(
        &self,
        selection: &EventSelection,
        give: &mut dyn FnMut(Option<Event>) -> Result<(), E>,
    ) -> Result<(), E> {
        let of_the_past = selection.since.is_some() || selection.until.is_some() || !selection.stream;
        let from = if of_the_past { EventsFrom::Beginning } else { EventsFrom::Now };
        let mut waiter = Waiter::of_directory(self.store.root());
        let mut reader = self.store.events().read(from).map_err(Error::from)?;
        loop {
            let over = !selection.stream || selection.until.is_some_and(|until| Timestamp::now() > until);
            while let Some(event) = reader.read_next().map_err(Error::from)? {
                if selection.takes(&event) {
                    give(Some(event))?;
                }
            }
            give(None)?;
            if over {
                return Ok(());
            }
            waiter.wait().map_err(Error::io("watch", self.store.root().display()))?;
        }
    }
}

/// What happened to a container just now; with what there is to know of it, its image and labels.
pub(crate) fn of_container(
    action: &str,
    id: &ContainerId,
    name: &ContainerName,
    known: Option<(&Reference, &Labels)>,
) -> Event {
    let event = Event::new(Timestamp::now(), EventKind::Container, action, id.as_str(), name.as_str());
    let Some((image, labels)) = known else { return event };
    Event { image: Some(image.to_string()), attributes: labels.clone(), ..event }
}

type Labels = BTreeMap<String, String>;

/// What happened to an image just now.
pub(crate) fn of_image(action: &str, id: &Digest, name: &Reference) -> Event {
    Event::new(Timestamp::now(), EventKind::Image, action, id.hex(), name.to_string())
}

/// Writes down what has happened, if that can be done.
pub(crate) fn note(store: &Store, events: &[Event]) {
    let _ = store.events().append(events);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(filters: &[&str], event: &Event) -> bool {
        let filters = filters.iter().map(|filter| filter.parse().expect("a filter")).collect();
        EventSelection { filters, ..EventSelection::default() }.takes(event)
    }

    fn died() -> Event {
        let at = Timestamp::from_second(1_700_000_000).expect("in range");
        let event = Event::new(at, EventKind::Container, "die", "ab".repeat(32), "web");
        let image = Some("docker.io/library/alpine:3.20".into());
        Event { image, ..event }.with("exitCode", 1).with("tier", "front")
    }

    #[test]
    fn filters_of_one_name_are_alternatives() {
        let died = died();
        for filters in [
            &[][..],
            &["container=web"],
            &["container=abab"],
            &["container=other", "container=web"],
            &["event=die", "type=container", "image=alpine"],
            &["event=died"],
            &["image=alpine:3.20"],
            &["image=docker.io/library/alpine"],
            &["label=tier"],
            &["label=tier=front", "label=exitCode"],
        ] {
            assert!(selected(filters, &died), "{filters:?}");
        }
        for filters in [
            &["container=we"][..],
            &["container="],
            &["container=web", "event=start"],
            &["image=alpine:3"],
            &["image=busybox"],
            &["type=image"],
            &["label=tier=back"],
            &["label=tier", "label=other"],
        ] {
            assert!(!selected(filters, &died), "{filters:?}");
        }
        let health = Event { action: "health_status: healthy".into(), ..died };
        assert!(selected(&["event=health_status"], &health) && selected(&["event=health_status: healthy"], &health));
        let pulled = Event::new(Timestamp::UNIX_EPOCH, EventKind::Image, "pull", "cd".repeat(32), "quay.io/x/y:1");
        for (filter, taken) in [("image=quay.io/x/y", true), ("image=cdcd", true), ("image=sha256:cdcd", true)] {
            assert_eq!(selected(&[filter], &pulled), taken, "{filter}");
        }
        assert!(!selected(&["container=cdcd"], &pulled));
    }

    #[test]
    fn filters_that_there_are_not() {
        let error = |text: &str| text.parse::<EventFilter>().expect_err("refused").to_string();
        assert_eq!(error("web"), "\"web\" is no filter: expected NAME=VALUE");
        assert!(error("pod=x").starts_with("unknown filter \"pod\""));
    }
}
