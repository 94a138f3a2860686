//! Containers that nobody waits for: ended with the test that started them.

use serde_json::Value;

use crate::rbox::Rbox;

/// A container of this name, removed when this is dropped, running or not.
pub struct Detached<'a> {
    rbox: &'a Rbox,
    name: String,
}

impl<'a> Detached<'a> {
    /// `run -d <flags> --name <name> <image> sh -c <script>`, which must succeed.
    #[track_caller]
    pub fn start(rbox: &'a Rbox, image: &str, name: &str, flags: &[&str], script: &str) -> Self {
        let words = [&["run", "-d", "--name", name], flags, &[image, "sh", "-c", script]].concat();
        let detached = Self { rbox, name: name.to_owned() };
        let id = rbox.run(words).success();
        assert!(id.len() == 65 && id.ends_with('\n'), "run -d printed {id:?}");
        detached
    }

    /// One that a test has made otherwise.
    pub fn of(rbox: &'a Rbox, name: &str) -> Self {
        Self { rbox, name: name.to_owned() }
    }

    /// What `inspect` says at this path of names.
    #[track_caller]
    pub fn inspect(&self, path: &[&str]) -> Value {
        let text = self.rbox.run(["inspect", &self.name]).success();
        let all: Value = serde_json::from_str(&text).expect("inspect prints JSON");
        path.iter().fold(all[0].clone(), |value, name| value[name].clone())
    }

    /// `State.Status`.
    #[track_caller]
    pub fn status(&self) -> String {
        self.inspect(&["State", "Status"]).as_str().unwrap_or_default().to_owned()
    }

    /// The workload's process id, as the host has it; 0 where none runs.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.inspect(&["State", "Pid"]).as_u64().and_then(|pid| pid.try_into().ok()).unwrap_or_default()
    }

    /// The process id of what watches over it.
    #[track_caller]
    pub fn monitor(&self) -> u32 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.and_then(|pid| pid.trim().parse().ok()).expect("every process has a parent")
    }

    /// What it has printed to standard output.
    #[track_caller]
    pub fn logs(&self) -> String {
        self.rbox.run(["logs", &self.name]).success()
    }
}

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        self.rbox.run(["rm", "--force", &self.name]);
    }
}
