//! How a failure is told.

use std::{fmt, io};

use rbox_container::{Error, with_causes};
use rbox_types::Exit;

/// What failed, for people, and the exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    pub(crate) status: u8,
}

impl Failure {
    /// A failure in words of our own.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: without_error_numbers(&message.into()), hint: None, status: Exit::RBOX_FAILED }
    }

    /// An error of a library, with all that caused it.
    pub(crate) fn caused(error: &dyn std::error::Error, hint: Option<&str>) -> Self {
        Self { hint: hint.map(Into::into), ..Self::new(with_causes(error)) }
    }

    /// With this exit status.
    pub(crate) fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// With the word that engines look for in what a runtime prints.
    pub(crate) fn into_error(mut self) -> Self {
        self.message.insert_str(0, "error: ");
        self
    }

    /// `rbox: what: why` and, where something mends it, `hint: …`.
    pub(crate) fn print(&self) {
        self.print_as("rbox");
    }

    /// Likewise, of a program that is called so.
    pub(crate) fn print_as(&self, name: &str) {
        if self.message.is_empty() {
            return;
        }
        eprintln!("{name}: {}", self.message);
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { hint: error.hint(), status: error.status(), message: without_error_numbers(&with_causes(&error)) }
    }
}

impl From<rbox_runtime::oci::Error> for Failure {
    fn from(error: rbox_runtime::oci::Error) -> Self {
        Self { hint: error.hint(), status: Exit::RBOX_FAILED, message: without_error_numbers(&with_causes(&error)) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Rust adds the number to the system's words, which says nothing more to a person.
fn without_error_numbers(message: &str) -> String {
    let mut parts = message.split(" (os error ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once(')').map_or(part, |(_, rest)| rest));
    }
    text
}

/// Only standard output fails so: a reader that went away (`rbox images | head -1`) is no failure to tell.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let message = match error.kind() {
            io::ErrorKind::BrokenPipe => String::new(),
            _ => format!("cannot write to standard output: {error}"),
        };
        Self { message, hint: None, status: Exit::RBOX_FAILED }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::from(io::Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_are_left_out() {
        assert_eq!(without_error_numbers("a: No space (os error 28): b (c)"), "a: No space: b (c)");
        assert_eq!(without_error_numbers("plain"), "plain");
    }
}
