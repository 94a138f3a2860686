//! `rbox events`

use std::io::{self, Write};
use std::str::FromStr;

use clap::{ArgAction, Args};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rbox_container::events::{Event, EventFilter, EventSelection};
use rbox_container::{Engine, moment};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::format::{self, Template};

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// What happened since then: a date, seconds since 1970, or a duration before now, as 1h30m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,

    /// What happened until then, and nothing after it is waited for
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,

    /// What matches: container, image, event, type or label
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    filters: Vec<EventFilter>,

    /// How to print: a line each for people, json, or a template such as '{{.Name}} {{.Status}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    /// Go on with what happens from now on
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    stream: bool,

    /// End with what has happened so far: --stream=false
    #[arg(long, conflicts_with = "stream")]
    no_stream: bool,
}

/// `--format`.
#[derive(Debug, Clone)]
enum Format {
    Json,
    Each(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Docker's and Podman's way of saying it as a template: what they print then is the document.
        if text == "{{json .}}" {
            return Ok(Self::Json);
        }
        match text.parse().map_err(|error: format::Error| error.to_string())? {
            format::Format::Json => Ok(Self::Json),
            format::Format::Each(template) => Ok(Self::Each(template)),
            format::Format::Table | format::Format::Columns(_) => {
                Err("events come one by one, and make no table: expected json, or a template".into())
            }
        }
    }
}

impl Events {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let zone = moment::local_zone();
        let time = |text: &Option<String>| {
            let parse = |text: &String| moment::parse(text, Timestamp::now(), &zone);
            text.as_ref().map(parse).transpose().map_err(|error| Failure::new(error.to_string()))
        };
        let selection = EventSelection {
            since: time(&self.since)?,
            until: time(&self.until)?,
            filters: self.filters,
            stream: self.stream && !self.no_stream,
        };
        let mut text = Vec::new();
        engine.events(&selection, &mut |event| -> Result<(), Failure> {
            match event {
                Some(event) => show(self.format.as_ref(), &event, &zone, &mut text),
                None => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&text)?;
                    stdout.flush()?;
                    text.clear();
                    Ok(())
                }
            }
        })
    }
}

fn show(format: Option<&Format>, event: &Event, zone: &TimeZone, to: &mut Vec<u8>) -> Result<(), Failure> {
    match format {
        Some(Format::Json) => {
            serde_json::to_writer(&mut *to, &document(event))?;
            to.push(b'\n');
            Ok(())
        }
        Some(Format::Each(template)) => Ok(writeln!(to, "{}", template.text(&row(event))?)?),
        None => Ok(writeln!(to, "{}", line(event, zone))?),
    }
}

/// Docker's line.
fn line(event: &Event, zone: &TimeZone) -> String {
    let at = event.at();
    let time = at.display_with_offset(zone.to_offset(at));
    let mut attributes: Vec<String> =
        attributes(event).iter().map(|(name, value)| format!("{}={}", shown(name), shown(value))).collect();
    attributes.sort();
    let (kind, id) = (event.kind.word(), &event.id);
    format!("{time:.9} {kind} {} {id} ({})", shown(&event.action), attributes.join(", "))
}

/// Labels may hold anything, and a terminal shall not act on it.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn attributes(event: &Event) -> Vec<(&str, &str)> {
    let image = event.image.iter().map(|image| ("image", image.as_str()));
    let others = event.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    image.chain([("name", event.name.as_str())]).chain(others).collect()
}

/// Docker's document, and beside it the two names that Podman has at the top.
fn document(event: &Event) -> Value {
    let attributes: serde_json::Map<String, Value> =
        attributes(event).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "status": event.action,
        "id": event.id,
        "from": event.image,
        "Type": event.kind.word(),
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": attributes },
        "scope": "local",
        "time": event.time,
        "timeNano": event.time_nano,
        "Name": event.name,
        "Image": event.image,
    })
}

/// What a template is given, under Go's names of Docker's fields, and of Podman's.
fn row(event: &Event) -> Value {
    let Value::Object(document) = document(event) else { return Value::Null };
    let exit_code = event.attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(0_u8);
    json!({
        "ID": event.id,
        "Status": event.action,
        "From": document["from"],
        "Type": document["Type"],
        "Action": event.action,
        "Actor": document["Actor"],
        "Scope": document["scope"],
        "Time": event.time,
        "TimeNano": event.time_nano,
        "Name": event.name,
        "Image": event.image.as_deref().unwrap_or_default(),
        "Attributes": event.attributes,
        "ContainerExitCode": exit_code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbox_container::events::EventKind;

    fn event() -> Event {
        let at = "2025-01-02T03:04:05.6Z".parse().expect("a time");
        let event = Event::new(at, EventKind::Container, "die", "ab".repeat(32), "web").with("exitCode", 3);
        Event { image: Some("docker.io/library/alpine:3".into()), ..event.with("evil", "\u{1b}[2J\nx") }
    }

    #[test]
    fn a_line_is_dockers_and_no_terminal_acts_on_it() {
        let east = TimeZone::fixed(jiff::tz::offset(2));
        let id = "ab".repeat(32);
        assert_eq!(
            line(&event(), &east),
            format!(
                "2025-01-02T05:04:05.600000000+02:00 container die {id} (evil=\\u{{1b}}[2J\\nx, exitCode=3, \
                 image=docker.io/library/alpine:3, name=web)"
            )
        );
    }

    #[test]
    fn a_template_sees_the_fields_of_both() {
        let text = |format: &str| {
            let mut text = Vec::new();
            let format = format.parse().map_err(|error: String| error)?;
            show(Some(&format), &event(), &TimeZone::UTC, &mut text).map_err(|failure| failure.to_string())?;
            Ok::<_, String>(String::from_utf8(text).expect("UTF-8"))
        };
        let shown = text("{{.Status}} {{.Name}} {{.Actor.Attributes.exitCode}} {{.ContainerExitCode}} {{.Type}}");
        assert_eq!(shown.as_deref(), Ok("die web 3 3 container\n"));
        assert!(text("{{json .}}").expect("JSON").contains("\"scope\":\"local\""));
        assert!(text("table {{.ID}}").expect_err("no table").contains("no table"));
        assert!(text("{{.Nmae}}").expect_err("no field").contains("no field .Nmae"));
    }

    #[test]
    fn a_document_is_one_line_of_dockers() {
        let mut text = Vec::new();
        show(Some(&Format::Json), &event(), &TimeZone::UTC, &mut text).expect("memory");
        let text = String::from_utf8(text).expect("UTF-8");
        assert_eq!(text.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read["Actor"]["Attributes"]["exitCode"], "3");
        assert_eq!((&read["status"], &read["Action"]), (&json!("die"), &json!("die")));
        assert_eq!(read["timeNano"], 1_735_787_045_600_000_000_i64);
    }
}
