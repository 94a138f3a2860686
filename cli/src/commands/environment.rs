//! `--env` and `--env-file`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Environment {
    /// Set a variable; without a value, your own
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Set the variables of a file: NAME[=VALUE] in each line, nothing quoted; lines that begin with # are comments
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
}

impl Environment {
    /// All of them, `NAME=value`. What is said by a flag comes later, and so counts more, than what a file says.
    pub(super) fn variables(&self) -> Result<Vec<String>, Failure> {
        let mut variables = Vec::new();
        for path in &self.env_file {
            variables.extend(lines_of_file(path, "variables")?.iter().filter_map(|variable| completed(variable)));
        }
        variables.extend(self.env.iter().filter_map(|variable| completed(variable)));
        Ok(variables)
    }
}

/// The lines `NAME[=VALUE]` of a file, in Docker's format; `what` says what they are.
pub(super) fn lines_of_file(path: &Path, what: &str) -> Result<Vec<String>, Failure> {
    let text = std::fs::read(path)
        .map_err(|error| Failure::new(format!("cannot read the {what} in {}: {error}", path.display())))?;
    of_file(path, &text)
}

/// A variable named without a value is the caller's own, and left out where the caller has none.
pub(super) fn completed(variable: &str) -> Option<String> {
    if variable.contains('=') {
        return Some(variable.to_owned());
    }
    std::env::var(variable).ok().map(|value| format!("{variable}={value}"))
}

/// Docker's format (docker/cli, pkg/kvfile): what follows the first `=` is the value as it stands, with quotes and blanks.
fn of_file(path: &Path, text: &[u8]) -> Result<Vec<String>, Failure> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut variables = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |why: String| Failure::new(format!("{}, line {}: {why}", path.display(), number + 1));
        let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line));
        let line = line.map_err(|_| wrong("it is not UTF-8".into()))?.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        match name {
            "" => return Err(wrong("there is no name before the =".into())),
            _ if name.contains(char::is_whitespace) => {
                return Err(wrong(format!("the name {name:?} has a blank in it")));
            }
            _ if line.contains('\0') => return Err(wrong("there is a NUL byte in it".into())),
            _ => variables.push(line.to_owned()),
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_format() {
        let parsed = |text: &[u8]| of_file(Path::new("vars"), text);
        let text = b"\xef\xbb\xbf# a comment\nA=1\r\n\n  B = \"x\" # y \nC=\nD==\nRBOX_TEST_NOT_SET\n";
        let error = parsed(text).expect_err("a blank in the name").to_string();
        assert_eq!(error, "vars, line 4: the name \"B \" has a blank in it");
        let text = b"\xef\xbb\xbf# a comment\nA=1\r\n\n  B= \"x\" # y \nC=\nD==\nRBOX_TEST_NOT_SET\n\t# another";
        let lines = parsed(text).expect("valid");
        assert_eq!(lines, ["A=1", "B= \"x\" # y ", "C=", "D==", "RBOX_TEST_NOT_SET"]);
        assert_eq!(completed("RBOX_TEST_NOT_SET"), None);
        for (bad, why) in [(&b"A=1\n=x"[..], "vars, line 2: there is no name"), (b"A=\xff", "vars, line 1: it is not")]
        {
            let error = parsed(bad).expect_err("invalid").to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
