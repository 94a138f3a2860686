//! The same command lines given to Podman and to rbox, and what a user sees of both.
//!
//! Each of the two has a directory of its own, with the same files, and the small image by the same name. What differs
//! between any two runs of one program is taken out of what they print: ids become `ID1`, `ID2` … by the order in which
//! they appear, times and lengths of time become `TIME`, and white space between words a single space.

use std::fs;

use anyhow::Result;

use crate::podman::Podman;
use crate::rbox::{Outcome, Rbox};

/// One command line for both; and what is known of the difference.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    line: &'static str,
    compared: Compared,
    differs: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// The exit status, stdout, and whether there is anything on stderr.
    Output,
    /// Both streams to the letter: what a workload wrote.
    Streams,
    /// The exit status and stdout.
    Stdout,
    /// The exit status, and whether there is anything on either stream.
    Status,
}

/// The same exit status and stdout; on stderr, something in both cases or nothing.
pub const fn same(line: &'static str) -> Step {
    Step { line, compared: Compared::Output, differs: None }
}

/// As [`same`], whatever is on stderr: for what Podman warns of while it works.
pub const fn stdout(line: &'static str) -> Step {
    Step { line, compared: Compared::Stdout, differs: None }
}

/// As [`same`], and the same on stderr: for what a workload writes there.
pub const fn streams(line: &'static str) -> Step {
    Step { line, compared: Compared::Streams, differs: None }
}

/// The same exit status, and anything or nothing on each stream: for what is told in other words, or is measured.
pub const fn status(line: &'static str) -> Step {
    Step { line, compared: Compared::Status, differs: None }
}

impl Step {
    /// They do not agree, for this reason. It is a failure if they do.
    #[must_use]
    pub const fn differs(self, why: &'static str) -> Self {
        Self { differs: Some(why), ..self }
    }
}

/// Podman and rbox beside each other.
pub struct Pair {
    podman: Podman,
    rbox: Rbox,
    image: String,
}

impl Pair {
    /// Both with the small image and nothing else.
    pub fn new() -> Result<Self> {
        let (rbox, image) = Rbox::with_small_image()?;
        let podman = Podman::with_its_own_runtime()?;
        podman.says(["tag", crate::podman::IMAGE, &image]);
        podman.says(["untag", crate::podman::IMAGE, crate::podman::IMAGE]);
        Ok(Self { podman, rbox, image })
    }

    /// Whether Podman carries out this line here: some of what it does takes a cgroup, which not every user has.
    pub fn podman_can(&self, line: &str) -> bool {
        self.podman.run(self.words(line)).status == 0
    }

    /// Writes a file of this name where both are started.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.podman.home().join(name), text)?;
        Ok(fs::write(self.rbox.home().join(name), text)?)
    }

    /// Runs each line on both. All that is not as it is said to be is told at once, as a panic.
    ///
    /// A line is split into words as by a shell, as far as blanks and single quotes go; `IMAGE` is the small image.
    #[track_caller]
    pub fn run(&self, steps: &[Step]) {
        let (mut of_podman, mut of_rbox) = (Ids::default(), Ids::default());
        let mut wrong = Vec::new();
        for step in steps {
            let words = self.words(step.line);
            let podman = of_podman.seen(step.compared, &self.podman.run(&words), &self.image);
            let rbox = of_rbox.seen(step.compared, &self.rbox.run(&words), &self.image);
            match step.differs {
                None if podman != rbox => {
                    wrong.push(format!("── {}\n   podman: {podman}\n   rbox:   {rbox}", step.line));
                }
                Some(why) if podman == rbox => {
                    wrong.push(format!("── {}\n   do not differ any more ({why}): {rbox}", step.line));
                }
                _ => {}
            }
        }
        assert!(wrong.is_empty(), "{} of {} steps:\n{}", wrong.len(), steps.len(), wrong.join("\n"));
    }

    fn words(&self, line: &str) -> Vec<String> {
        words(line).into_iter().map(|word| word.replace("IMAGE", &self.image)).collect()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let left = self.rbox.run(["ps", "--all", "--quiet"]).stdout;
        for id in left.lines() {
            self.rbox.run(["rm", "--force", id]);
        }
    }
}

/// The ids that one of the two has shown, in the order in which they appeared.
#[derive(Default)]
struct Ids(Vec<String>);

impl Ids {
    /// What is compared, as text.
    fn seen(&mut self, compared: Compared, outcome: &Outcome, image: &str) -> String {
        let mut normal = |text: &str| self.normal(text, image);
        let stdout = normal(&outcome.stdout);
        let any = |text: &str| if text.is_empty() { "nothing" } else { "something" };
        let (stdout, stderr) = match compared {
            Compared::Output => (format!("{stdout:?}"), any(&outcome.stderr).to_owned()),
            Compared::Stdout => (format!("{stdout:?}"), "anything".to_owned()),
            Compared::Streams => (format!("{stdout:?}"), format!("{:?}", normal(&outcome.stderr))),
            Compared::Status => (any(&stdout).to_owned(), any(&outcome.stderr).to_owned()),
        };
        format!("{}, {stdout}, {stderr} on stderr", outcome.status)
    }

    fn normal(&mut self, text: &str, image: &str) -> String {
        let lines = text.replace(image, "IMAGE");
        let lines: Vec<String> = lines.split('\n').map(|line| without_times(&self.without_ids(line))).collect();
        lines.join("\n")
    }

    /// Whole ids, and their twelve first digits, which stand for the same.
    fn without_ids(&mut self, line: &str) -> String {
        let mut shown = String::new();
        let mut rest = line;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end.max(rest.chars().next().map_or(1, char::len_utf8)));
            rest = behind;
            let id = [12, 64].contains(&word.len())
                && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if !id {
                shown.push_str(word);
                continue;
            }
            let place = self.0.iter().position(|known| word.starts_with(known.as_str()));
            let place = place.unwrap_or_else(|| {
                self.0.push(word[..12].to_owned());
                self.0.len() - 1
            });
            shown.push_str(&format!("ID{}{}", place + 1, if word.len() == 12 { "short" } else { "" }));
        }
        shown
    }
}

/// `3 seconds`, `Less than a second`, `About a minute`, and points in time; and with single blanks.
fn without_times(line: &str) -> String {
    let units = ["second", "seconds", "minute", "minutes"];
    let mut shown: Vec<String> = Vec::new();
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if units.contains(&bare) {
            let is = |last: &String, word: &str| last.eq_ignore_ascii_case(word);
            match &shown[..] {
                [.., less, than, a] if is(less, "less") && is(than, "than") && is(a, "a") => {
                    shown.truncate(shown.len() - 3);
                }
                [.., about, a] if is(about, "about") && is(a, "a") => shown.truncate(shown.len() - 2),
                _ => _ = shown.pop(),
            }
            shown.push(word.replace(bare, "TIME"));
        } else if begins_like(word, "0000-00-00") && !word.contains('T') {
            // As Go prints it: a date, the time, and the zone twice.
            words.by_ref().take(3).for_each(drop);
            shown.push(time(word));
        } else {
            shown.push(point_in_time(word));
        }
    }
    shown.join(" ")
}

/// `2026-01-31T12:00:00.123456789Z`, with any zone and any number of digits, wherever it stands in the word.
fn point_in_time(word: &str) -> String {
    let shape = "0000-00-00T00:00:00";
    let mut starts = word.char_indices().map(|(at, _)| at);
    let Some(start) = starts.find(|&at| begins_like(&word[at..], shape)) else { return word.to_owned() };
    let behind = &word[start + shape.len()..];
    let end = behind.find(|c: char| !(c.is_ascii_digit() || ".:+-Z".contains(c))).unwrap_or(behind.len());
    format!("{}{}{}", &word[..start], time(&word[start..]), &behind[end..])
}

/// Go's first moment stands for none at all.
fn time(text: &str) -> String {
    if text.starts_with("0001-01-01") { "NEVER".into() } else { "TIME".into() }
}

/// Whether it begins with digits where the shape has them, and with its other characters elsewhere.
fn begins_like(text: &str, shape: &str) -> bool {
    let alike = |(byte, wanted): (u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted };
    text.len() >= shape.len() && text.bytes().zip(shape.bytes()).all(alike)
}

/// Words between blanks; what is in single quotes is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_a_shell_has_them() {
        assert_eq!(words("run -e 'A=b c'  IMAGE ''"), ["run", "-e", "A=b c", "IMAGE", ""]);
    }

    #[test]
    fn what_differs_from_run_to_run_is_taken_out() {
        let (one, two) = ("0123456789ab", "f".repeat(64));
        let whole = format!("{one}{}", "0".repeat(52));
        let mut ids = Ids::default();
        let mut normal = |text: &str| ids.normal(text, "host/image:1");
        assert_eq!(normal(&format!("{two}\n{whole}\n{one}\n")), "ID1\nID2\nID2short\n");
        assert_eq!(normal("ID   x\nhost/image:1     Up 2 seconds (healthy)"), "ID x\nIMAGE Up TIME (healthy)");
        assert_eq!(normal("Exited (0) Less than a second ago"), "Exited (0) TIME ago");
        assert_eq!(normal("\"at\": \"2026-01-31T12:00:00.25+01:00\", a"), "\"at\": \"TIME\", a");
        assert_eq!(normal("ä 2026-01-31T12:00:00Z b"), "ä TIME b");
        assert_eq!(normal("2026-01-31 12:00:00.25 +0000 UTC b"), "TIME b");
        assert_eq!(normal("0001-01-01 00:00:00 +0000 UTC 0001-01-01T00:00:00Z"), "NEVER NEVER");
        assert_eq!(normal("sleep 600  2 seconds ago  About a minute ago"), "sleep 600 TIME ago TIME ago");
    }
}
