//! The binary under test, each time with a home directory and so a store of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use anyhow::Result;
use tempfile::TempDir;

use crate::layout::Layout;
use crate::patience::{LIMIT, ended_within};
use crate::registry::Registry;
use crate::running::Running;
use crate::{alpine, host, subids};

/// Of all tests, where the suite is run by another storage driver than the best.
pub const DRIVER: &str = "RBOX_STORAGE_DRIVER";

/// A user's view of rbox: a binary and an empty home directory.
pub struct Rbox {
    home: TempDir,
    environment: Vec<(String, String)>,
}

/// How one command of rbox ended.
#[derive(Debug)]
pub struct Outcome {
    /// The arguments, for messages.
    pub arguments: String,
    /// The exit status; 128 + n if a signal ended rbox itself.
    pub status: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Whether the suite is run by the storage driver that copies images.
pub fn by_copies() -> bool {
    std::env::var(DRIVER).is_ok_and(|driver| driver == "copy")
}

impl Default for Rbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Rbox {
    /// A fresh home directory.
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("home.").tempdir_in(host::scratch_base());
        let home = home.expect("a temporary directory can be made");
        fs::create_dir(home.path().join("run")).expect("a new directory is empty");
        Self { home, environment: Vec::new() }
    }

    /// A fresh home directory and a registry that offers the image `tag` of `layout` as `name`; the image is pulled.
    /// Gives also the reference that it was pulled by.
    pub fn with_image(layout: &Layout, tag: &str, name: &str) -> Result<(Self, String)> {
        let registry = Registry::offering(layout, tag, name)?;
        let (rbox, reference) = (Self::new(), registry.reference(name));
        rbox.pull(&reference);
        Ok((rbox, reference))
    }

    /// As [`with_image`](Self::with_image), with the small image.
    pub fn with_small_image() -> Result<(Self, String)> {
        Self::with_image(&alpine::small()?, "latest", "t/small:1")
    }

    /// Sets an environment variable for all commands to come.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the best storage driver, also where the suite is run by another one: for what is about the choice of it, or about
    /// what not all of them do.
    #[must_use]
    pub fn by_best_driver(self) -> Self {
        self.env(DRIVER, "")
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.home().join(".local/share/rbox")
    }

    /// rbox with these arguments, not yet started. Of the environment it gets `PATH` and what a login would set.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        self.with_environment(Command::new(host::rbox_binary()), arguments)
    }

    /// As [`Rbox::command`], started by another program: the words `under` come before rbox's own.
    pub fn command_under(&self, under: &[&str], arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(under[0]);
        command.args(&under[1..]).arg(host::rbox_binary());
        self.with_environment(command, arguments)
    }

    fn with_environment(
        &self,
        mut command: Command,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        command.args(arguments).env_clear().current_dir(self.home());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home()).env("XDG_RUNTIME_DIR", self.home().join("run"));
        command.env("USER", host::user_name()).env("RUST_BACKTRACE", "1");
        // That of all tests, where the suite is run by another one than the best.
        command.envs(std::env::var_os(DRIVER).map(|driver| (DRIVER, driver)));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs rbox to its end with nothing on stdin.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        finish(self.command(arguments).stdin(Stdio::null()))
    }

    /// Starts rbox in the background.
    pub fn start(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Running {
        Running::start(&mut self.command(arguments)).expect("rbox can be started")
    }

    /// `run --rm <flags> <image> sh -c <script>`, which must succeed; gives stdout without the last line feed.
    #[track_caller]
    pub fn sh(&self, image: &str, flags: &[&str], script: &str) -> String {
        let arguments = [&["run", "--rm"], flags, &[image, "sh", "-c", script]].concat();
        self.run(arguments).success().trim_end().to_owned()
    }

    /// Pulls an image, which must succeed; gives the digest.
    #[track_caller]
    pub fn pull(&self, reference: &str) -> String {
        let digest = self.run(["pull", "-q", reference]).success().trim_end().to_owned();
        assert!(digest.len() == 71 && digest.starts_with("sha256:"), "pull -q printed {digest:?}");
        digest
    }

    /// Runs rbox to its end with this on stdin.
    pub fn run_with_input(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &[u8]) -> Outcome {
        let mut file = tempfile::tempfile().expect("a temporary file can be made");
        std::io::Write::write_all(&mut file, input).expect("there is space");
        std::io::Seek::rewind(&mut file).expect("a file can be rewound");
        finish(self.command(arguments).stdin(file))
    }

    /// All regular files below a directory of the store, relative to the store and sorted; none if it is not there.
    pub fn files(&self, below: &str) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.store().join(below), &mut found);
        let store = self.store();
        let relative = found.iter().filter_map(|path| path.strip_prefix(&store).ok());
        let mut names: Vec<String> = relative.map(|path| path.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The unpacked layers, `layers/<map id>/<chain id>`, sorted.
    pub fn layers(&self) -> Vec<String> {
        let list = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let layers = list(&self.store().join("layers")).flat_map(|map| list(&map)).filter(|path| path.is_dir());
        let mut names: Vec<String> = layers.map(|path| path.display().to_string()).collect();
        names.sort();
        names
    }

    /// Asserts that nothing that a broken pull could have left is in the store: no temporary file, no name.
    pub fn assert_nothing_left(&self) {
        let left: Vec<String> = ["tmp", "names"].iter().flat_map(|below| self.files(below)).collect();
        assert!(left.is_empty(), "left in the store: {left:?}");
    }
}

/// Runs a command to its end, or kills it after [`LIMIT`].
pub fn finish(command: &mut Command) -> Outcome {
    let arguments = crate::command::shown(command);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("cannot start {arguments}: {error}"));
    let stdout = reader(child.stdout.take().expect("piped"));
    let stderr = reader(child.stderr.take().expect("piped"));
    let status = wait(&mut child, &arguments);
    let text = |thread: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().expect("a reader does not panic")).into_owned()
    };
    Outcome { arguments, status: code(status), stdout: text(stdout), stderr: text(stderr) }
}

/// Waits for a child for [`LIMIT`] at most.
pub fn wait(child: &mut Child, name: &str) -> ExitStatus {
    let ended = ended_within(child, LIMIT).expect("our own child can be waited for");
    ended.unwrap_or_else(|| panic!("not done after {LIMIT:?}: {name}"))
}

/// An exit status as a shell shows it.
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

impl Outcome {
    /// Asserts the exit status 0; gives stdout.
    #[track_caller]
    pub fn success(self) -> String {
        self.exits(0).stdout
    }

    /// Asserts this exit status.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}\nstdout: {}\nstderr: {}", self.arguments, self.stdout, self.stderr);
        self
    }

    /// Asserts that rbox itself failed (125), without a panic, and that its message has all of these words.
    #[track_caller]
    pub fn refused(self, words: &[&str]) -> Self {
        self.refused_as(125, words)
    }

    /// As [`Outcome::refused`], with another exit status.
    #[track_caller]
    pub fn refused_as(self, status: i32, words: &[&str]) -> Self {
        let outcome = self.exits(status);
        let stderr = outcome.stderr.to_lowercase();
        for word in words {
            assert!(
                stderr.contains(&word.to_lowercase()),
                "no {word:?} in the error of {}:\n{stderr}",
                outcome.arguments
            );
        }
        assert!(!stderr.contains("panicked"), "{stderr}");
        outcome
    }
}

fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}

impl Drop for Rbox {
    fn drop(&mut self) {
        // Where that is not to be had, whoever made the scratch directory cleans up.
        let _ = subids::remove(&self.store());
    }
}
