//! `--format`: a table, JSON, or a template of the kind that Docker and Podman take from Go.
//!
//! The language is that part of Go's text/template which people type on command lines, over JSON values: a template can
//! only look at what a command found, and print it. It is pure, and total: no template and no data end it otherwise than
//! with a text or an error. Nesting and padding have limits for that reason. What it knows is written down for people in
//! docs/format.md.

mod compare;
mod evaluate;
mod functions;
mod heading;
mod lex;
mod parse;
mod printf;
mod show;

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::failure::Failure;
use crate::output;

/// How a list is printed.
#[derive(Debug, Clone, Default)]
pub(crate) enum Format {
    /// The command's own columns.
    #[default]
    Table,
    /// Columns that the user chose.
    Columns(Template),
    /// One JSON document.
    Json,
    /// A text for each thing.
    Each(Template),
}

/// A template that has been understood.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    body: Vec<parse::Node>,
}

/// Why there is no text: for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error(String);

type Result<T> = std::result::Result<T, Error>;

impl Format {
    /// Prints a list. Templates are given each of `rows`; the command's own columns are the template `own`.
    pub(crate) fn print(
        &self,
        own: &str,
        headings: &[(&str, &str)],
        with_heading: bool,
        rows: &[Value],
        json: impl FnOnce() -> Vec<Value>,
    ) -> std::result::Result<(), Failure> {
        let headings = with_heading.then_some(headings);
        match self {
            Self::Json => Ok(output::json(&json())?),
            Self::Each(template) => template.print_each(rows),
            Self::Columns(template) => template.print_columns(headings, rows),
            Self::Table => own.parse::<Template>()?.print_columns(headings, rows),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim_start();
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "" => Err(Error("it is empty".into())),
            // A mistyped word, and no template that anybody would want.
            word if word.chars().all(|c| c.is_ascii_alphanumeric()) => Err(Error(format!(
                "{word:?} is neither \"table\" nor \"json\" nor a template such as '{{{{json .}}}}'"
            ))),
            _ => match text.strip_prefix("table ").or_else(|| text.strip_prefix("table\\t")) {
                Some(columns) => Ok(Self::Columns(columns.trim_start().parse()?)),
                None => Ok(Self::Each(text.parse()?)),
            },
        }
    }
}

impl Template {
    /// The text that it makes of `data`.
    pub(crate) fn text(&self, data: &Value) -> Result<String> {
        evaluate::evaluate(&self.body, data)
    }

    /// Prints the text of each row, and a line feed.
    pub(crate) fn print_each(&self, rows: &[Value]) -> std::result::Result<(), Failure> {
        let texts = rows.iter().map(|row| self.text(row)).collect::<Result<Vec<_>>>()?;
        Ok(output::lines(texts.iter())?)
    }

    /// Prints the text of each row in columns, which tabs part, below a heading if names for that are given.
    pub(crate) fn print_columns(
        &self,
        headings: Option<&[(&str, &str)]>,
        rows: &[Value],
    ) -> std::result::Result<(), Failure> {
        let mut lines = Vec::with_capacity(rows.len() + 1);
        let heading = headings.map(|names| Ok(self.heading(names)));
        for text in heading.into_iter().chain(rows.iter().map(|row| self.text(row))) {
            lines.extend(text?.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>()));
        }
        Ok(output::aligned(&lines)?)
    }

    /// What stands above the columns of a table: for each action the name of the first field in it.
    fn heading(&self, names: &[(&str, &str)]) -> String {
        heading::heading(&self.body, names)
    }
}

impl FromStr for Template {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Self { body: parse::parse(text)? })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(format!("cannot format: {error}"))
    }
}

#[cfg(test)]
mod tests;
