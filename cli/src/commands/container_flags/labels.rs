//! What is written down of a container for people and their tools.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::commands::environment::lines_of_file;
use crate::failure::Failure;

#[derive(Debug, Default, Args)]
pub(super) struct Labels {
    /// Give the container a label
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = parse_label)]
    label: Vec<(String, String)>,

    /// Give it the labels of a file: NAME[=VALUE] in each line; lines that begin with # are comments
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,

    /// Give it an annotation, which its runtime sees
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_annotation)]
    annotation: Vec<(String, String)>,
}

type Map = BTreeMap<String, String>;

impl Labels {
    /// Labels and annotations. What is said by a flag counts more than what a file says.
    pub(super) fn take(self) -> Result<(Map, Map), Failure> {
        let mut labels = Map::new();
        for path in &self.label_file {
            labels.extend(lines_of_file(path, "labels")?.iter().map(|line| split(line)));
        }
        labels.extend(self.label);
        Ok((labels, self.annotation.into_iter().collect()))
    }
}

fn split(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.into(), value.into())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match split(text) {
        (name, _) if name.is_empty() => Err("a label needs a name".into()),
        label => Ok(label),
    }
}

fn parse_annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parse_label("a"), pair("a", ""));
        assert_eq!(parse_label("a=b=c"), pair("a", "b=c"));
        parse_label("=b").expect_err("no name");
        assert_eq!(parse_annotation("a="), pair("a", ""));
        parse_annotation("a").expect_err("no value");
    }
}
