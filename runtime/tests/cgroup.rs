//! Cgroups as the kernel makes them: these tests need root, and take a cgroup2 mount of their own in a mount namespace
//! of their own (a thread can have one), because on a hybrid host /sys/fs/cgroup is something else.
//!
//! An ordinary user's run goes through sudo(8) where that asks for nothing; without it nothing is tested, which under
//! `CI=true` is a failure.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use rbox_runtime::cgroup::{Cgroup, DeviceFilter, Error, Event, Missing, Record};
use rbox_sys::clone::{Namespaces, unshare};
use rbox_sys::ids;
use rbox_sys::mount::{Attributes, Filesystem, Propagation, attach, set_root_propagation};
use rbox_sys::signal::Signal;

/// Long enough for everything that is to happen at once.
const LIMIT: Duration = Duration::from_secs(20);
const MOUNT: &str = "/sys/fs/cgroup";
/// Someone who owns nothing.
const NOBODY: u32 = 65_534;

#[test]
fn a_container_lives_in_its_cgroup_and_leaves_nothing() {
    let Some(test) = Test::begin("a_container_lives_in_its_cgroup_and_leaves_nothing") else { return };
    let place = Cgroup::place(Some(&test.path("pod/c1")), "c1", None, true).expect("a place").expect("there is one");
    assert_eq!(place.path(), test.path("pod/c1"));
    let cgroup = place.create().expect("created");
    let written = serde_json::to_string(cgroup.record()).expect("json");
    let mut workload = Shell::start();
    cgroup.attach(workload.pid()).expect("attached");

    // Later invocations know no more than was written down.
    let record: Record = serde_json::from_str(&written).expect("json");
    let cgroup = Cgroup::open(&record).expect("looked up").expect("it is there");
    assert_eq!(cgroup.processes().expect("processes"), [workload.pid()]);
    assert_eq!(workload.ask("grep ^0: /proc/self/cgroup"), format!("0::{}", test.path("pod/c1")));
    assert!(cgroup.is_populated().expect("events"));
    let statistics = cgroup.statistics().expect("statistics");
    // The shell, and maybe a grep on its way out.
    assert!((1..=2).contains(&statistics.pids.current), "{statistics:?}");
    assert!(statistics.cpu.usage.total > 0, "it has run: {statistics:?}");
    let event = serde_json::to_value(Event { kind: "stats", id: "c1", data: Some(statistics) }).expect("json");
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some("c1")));
    assert!(event["data"]["memory"]["usage"]["limit"].is_u64(), "{event}");

    cgroup.freeze(LIMIT).expect("frozen");
    assert!(cgroup.is_frozen().expect("events"));
    workload.say("echo went on");
    thread::sleep(Duration::from_millis(100));
    assert!(cgroup.is_frozen().expect("events"), "nothing woke it");
    cgroup.thaw().expect("thawed");
    assert_eq!(workload.hear(), "went on");

    let error = Cgroup::place(Some(&test.path("pod/c1")), "c2", None, true).expect("a place").expect("one").create();
    let error = error.expect_err("another container may not join").to_string();
    assert!(error.ends_with("it has processes already"), "{error}");

    let again = Cgroup::open(&record).expect("looked up").expect("it is there");
    let error = again.delete(Duration::from_millis(50)).expect_err("it is in use");
    assert!(error.hint().is_some_and(|hint| hint.contains("end them first")), "{error}");

    cgroup.kill().expect("killed");
    cgroup.delete(LIMIT).expect("deleted");
    assert!(!test.dir("pod").exists(), "the one above was made for it");
    assert!(Cgroup::open(&record).expect("looked up").is_none());
    workload.wait();
}

#[test]
fn what_a_container_makes_below_its_cgroup_is_its_own() {
    let Some(test) = Test::begin("what_a_container_makes_below_its_cgroup_is_its_own") else { return };
    let cgroup = test.create("c1");
    let below = test.dir("c1").join("a/b/c");
    fs::create_dir_all(&below).expect("mkdir");
    let (mut above, mut inner) = (Shell::start(), Shell::start());
    cgroup.attach(above.pid()).expect("attached");
    fs::write(below.join("cgroup.procs"), inner.pid().to_string()).expect("moved");
    let mut expected = [above.pid(), inner.pid()];
    expected.sort_unstable();
    assert_eq!(cgroup.processes().expect("processes"), expected);
    // As `kill --all` does where there is no cgroup.kill.
    cgroup.signal_all(Signal::KILL).expect("signalled");
    assert!(!cgroup.is_frozen().expect("events"));
    cgroup.delete(LIMIT).expect("deleted, with all below it, once they have ended");
    assert!(!test.dir("c1").exists());
    above.wait();
    inner.wait();
}

#[test]
fn a_process_joins_a_container_that_has_divided_its_cgroup() {
    let Some(test) = Test::begin("a_process_joins_a_container_that_has_divided_its_cgroup") else { return };
    let offered = fs::read_to_string(Path::new(MOUNT).join("cgroup.controllers")).expect("cgroup.controllers");
    let cgroup = test.create("c1");
    let (mut first, mut second) = (Shell::start(), Shell::start());
    fs::create_dir(test.dir("c1/init")).expect("mkdir");
    fs::write(test.dir("c1/init/cgroup.procs"), first.pid().to_string()).expect("moved");
    let divided = if offered.contains("memory") { "+memory" } else { "+hugetlb" };
    fs::write(test.dir("c1/cgroup.subtree_control"), divided).expect("divided");
    assert!(cgroup.attach(second.pid()).is_err(), "it takes no processes any more");
    cgroup.attach_beside(second.pid(), first.pid()).expect("beside the first");
    assert_eq!(second.ask("grep ^0: /proc/self/cgroup"), format!("0::{}", test.path("c1/init")));
    first.end();
    second.end();
    cgroup.delete(LIMIT).expect("deleted");
}

#[test]
fn what_was_there_before_stays() {
    let Some(test) = Test::begin("what_was_there_before_stays") else { return };
    fs::create_dir_all(test.dir("prepared/c1")).expect("mkdir");
    let cgroup = test.create("prepared/c1");
    fs::create_dir(test.dir("prepared/c1/below")).expect("mkdir");
    cgroup.delete(LIMIT).expect("deleted");
    assert!(test.dir("prepared/c1").exists() && !test.dir("prepared/c1/below").exists());

    fs::create_dir(test.dir("prepared/c1/below")).expect("mkdir");
    let place = Cgroup::place(Some(&test.path("prepared/c1")), "c1", None, true).expect("a place").expect("one");
    let error = place.create().expect_err("somebody's tree").to_string();
    assert!(error.ends_with("it has cgroups below it already"), "{error}");

    // Another cgroup of the same name is none of ours.
    let cgroup = test.create("c2");
    let record = cgroup.record().clone();
    fs::remove_dir(test.dir("c2")).expect("rmdir");
    fs::create_dir(test.dir("c2")).expect("mkdir");
    assert!(Cgroup::open(&record).expect("looked up").is_none());
}

#[test]
fn containers_share_a_parent_without_tripping() {
    let Some(test) = Test::begin("containers_share_a_parent_without_tripping") else { return };
    thread::scope(|scope| {
        for number in 0..4 {
            let test = &test;
            scope.spawn(move || {
                for _ in 0..50 {
                    let cgroup = test.create(&format!("shared/deep/c{number}"));
                    assert!(test.dir(&format!("shared/deep/c{number}/cgroup.procs")).exists());
                    cgroup.delete(LIMIT).expect("deleted");
                }
            });
        }
    });
}

#[test]
fn limits_reach_the_kernel() {
    let Some(test) = Test::begin("limits_reach_the_kernel") else { return };
    let offered = fs::read_to_string(Path::new(MOUNT).join("cgroup.controllers")).expect("cgroup.controllers");
    let cgroup = test.create("deep/below/c1");
    let mut seen = Vec::new();
    for (controller, resources, file, expected) in [
        ("memory", r#"{"memory": {"limit": 67108864, "reservation": 4194304}}"#, "memory.max", "67108864"),
        ("memory", r#"{"memory": {"limit": -1}}"#, "memory.max", "max"),
        ("cpu", r#"{"cpu": {"shares": 1024, "quota": 20000, "period": 50000}}"#, "cpu.max", "20000 50000"),
        ("cpu", r#"{"cpu": {"period": 40000}}"#, "cpu.max", "20000 40000"),
        ("cpu", r#"{"cpu": {"quota": 30000, "burst": 25000}}"#, "cpu.max.burst", "25000"),
        ("cpu", r#"{"cpu": {"quota": 10000, "burst": 5000}}"#, "cpu.max.burst", "5000"),
        ("cpu", r#"{"cpu": {"shares": 262144}}"#, "cpu.weight", "10000"),
        ("cpuset", r#"{"cpu": {"cpus": "0", "mems": "0"}}"#, "cpuset.cpus", "0"),
        ("pids", r#"{"pids": {"limit": 33}}"#, "pids.max", "33"),
        ("hugetlb", r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#, "hugetlb.2MB.max", "4194304"),
        ("hugetlb", r#"{"unified": {"hugetlb.2MB.max": "2097152"}}"#, "hugetlb.2MB.max", "2097152"),
    ] {
        let resources: LinuxResources = serde_json::from_str(resources).expect("resources");
        let applied = cgroup.apply(&resources);
        if offered.split_whitespace().any(|one| one == controller) {
            applied.unwrap_or_else(|error| panic!("{controller}: {error}"));
            let found = fs::read_to_string(test.dir("deep/below/c1").join(file)).expect(file);
            assert_eq!(found.trim(), expected, "{file}");
            seen.push(controller);
        } else if expected == "max" {
            applied.expect("without a controller nothing is limited");
        } else {
            let error = applied.expect_err("there is no such controller");
            assert!(error.to_string().contains(&format!("'{controller}'")), "{error}");
            assert!(error.hint().is_some());
        }
    }
    seen.dedup();
    println!("seen: {}", seen.join(" "));
    assert!(!seen.is_empty(), "this host's cgroup2 has none of the controllers");
}

#[test]
fn a_controller_that_is_missing_is_explained() {
    let Some(test) = Test::begin("a_controller_that_is_missing_is_explained") else { return };
    let offered = fs::read_to_string(Path::new(MOUNT).join("cgroup.controllers")).expect("cgroup.controllers");
    let why = |cgroup: &Cgroup, resources: &str| {
        let resources: LinuxResources = serde_json::from_str(resources).expect("resources");
        match cgroup.apply(&resources).expect_err("it is missing") {
            Error::NoController { why, .. } => why,
            error => panic!("{error}"),
        }
    };
    let cgroup = test.create("c1");
    assert_eq!(why(&cgroup, r#"{"unified": {"nosuch.max": "1"}}"#), Missing::NotOffered);
    if !offered.contains("memory") {
        assert_eq!(why(&cgroup, r#"{"memory": {"limit": 5000000}}"#), Missing::BoundToV1);
    }
    let error = cgroup.apply(&serde_json::from_str(r#"{"unified": {"cgroup.nosuch": "1"}}"#).expect("resources"));
    assert!(error.expect_err("refused").to_string().starts_with("config: linux.resources.unified.cgroup.nosuch: "));

    // A cgroup with a process in it cannot pass on a domain controller.
    let limit = match offered.contains("memory") {
        true => r#"{"memory": {"limit": 5000000}}"#,
        false => r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}]}"#,
    };
    fs::create_dir(test.dir("busy")).expect("mkdir");
    let mut inside = Shell::start();
    fs::write(test.dir("busy/cgroup.procs"), inside.pid().to_string()).expect("moved");
    let cgroup = test.create("busy/c1");
    assert_eq!(why(&cgroup, limit), Missing::HasProcesses(test.path("busy")));
    inside.end();
    let resources: LinuxResources = serde_json::from_str(limit).expect("resources");
    cgroup.apply(&resources).expect("now it can");
    cgroup.delete(LIMIT).expect("deleted");
}

#[test]
fn devices_are_those_of_the_rules() {
    let Some(test) = Test::begin("devices_are_those_of_the_rules") else { return };
    let cgroup = test.create("c1");
    let mut workload = Shell::start();
    cgroup.attach(workload.pid()).expect("attached");
    let mut opens = |device: &str| workload.ask(&format!("(exec 3<{device}) 2>/dev/null && echo yes || echo no"));
    // /dev/kmsg is 1:11, which no container has.
    assert_eq!(opens("/dev/kmsg"), "yes");
    assert_eq!(cgroup.restrict_devices(&[], true).expect("restricted"), DeviceFilter::Attached);
    assert_eq!(["/dev/null", "/dev/full", "/dev/kmsg"].map(&mut opens), ["yes", "yes", "no"]);
    let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(
        r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]"#,
    )
    .expect("rules");
    cgroup.restrict_devices(&rules, true).expect("restricted otherwise");
    assert_eq!(["/dev/null", "/dev/kmsg"].map(&mut opens), ["yes", "yes"]);
    let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(
        r#"[{"allow": true, "access": "rwm"}, {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "r"}]"#,
    )
    .expect("rules");
    cgroup.restrict_devices(&rules, true).expect("all but one");
    assert_eq!(["/dev/null", "/dev/kmsg"].map(&mut opens), ["yes", "no"]);
    // The verifier of the kernel goes through every way that a program can take.
    let many: Vec<String> = (0..400)
        .map(|minor| {
            format!(r#"{{"allow": {}, "type": "b", "major": 8, "minor": {minor}, "access": "rw"}}"#, minor % 2 == 0)
        })
        .collect();
    let many: Vec<LinuxDeviceCgroup> = serde_json::from_str(&format!("[{}]", many.join(","))).expect("rules");
    cgroup.restrict_devices(&many, true).expect("restricted by many rules");
    assert_eq!(["/dev/null", "/dev/kmsg"].map(&mut opens), ["yes", "no"]);
    workload.end();
    cgroup.delete(LIMIT).expect("deleted");
}

#[test]
fn an_ordinary_user_has_what_was_delegated() {
    const NAME: &str = "an_ordinary_user_has_what_was_delegated";
    if let Ok(dir) = std::env::var("RBOX_TEST_DELEGATED") {
        return delegated_part(&dir);
    }
    let Some(test) = Test::begin(NAME) else { return };
    fs::create_dir_all(test.dir("user/session")).expect("mkdir");
    test.create("given").delegate(NOBODY, NOBODY).expect("given");
    for dir in ["user", "user/session"] {
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            std::os::unix::fs::chown(test.dir(dir).join(file), Some(NOBODY), Some(NOBODY)).expect("chown");
        }
    }
    // Its threads are one process with others, so the user's part is played by another one.
    let script = r#"echo $$ > "$1/session/cgroup.procs" && exec "$0" --exact "$2" --nocapture"#;
    let mut part = Command::new("sh");
    part.args(["-c", script]).arg(std::env::current_exe().expect("this program")).arg(test.dir("user")).arg(NAME);
    let status = part.env("RBOX_TEST_DELEGATED", test.path("user")).status().expect("sh");
    assert!(status.success());

    // A thread can be somebody else; this one cleans up.
    thread::scope(|scope| scope.spawn(|| elsewhere_part(&test)).join()).expect("the user's thread");
}

/// Who is elsewhere may not have his processes moved there.
fn elsewhere_part(test: &Test) {
    ids::set_groups(&[]).expect("groups");
    ids::become_user(NOBODY, NOBODY).expect("nobody");
    let place = |path: Option<&str>, resources: &str| {
        let resources: LinuxResources = serde_json::from_str(resources).expect("resources");
        Cgroup::place(path, "c1", Some(&resources), false).map(|place| place.map(|place| place.path()))
    };
    let error = place(Some(&test.path("user/c1")), "{}").expect_err("refused");
    assert!(error.to_string().contains("cgroup.procs"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("Delegate")));
    assert_eq!(place(None, "{}").expect("none is needed"), None);
    assert_eq!(place(None, r#"{"pids": {"limit": -1}}"#).expect("none is needed"), None);
    assert_eq!(place(None, r#"{"devices": [{"allow": false, "access": "rwm"}]}"#).expect("none is needed"), None);
    let error = place(None, r#"{"pids": {"limit": 5}}"#).expect_err("it takes a cgroup");
    assert!(error.to_string().starts_with("may not make the cgroup /c1: writing to "), "{error}");
}

/// In the cgroup `session` of one that is the user's.
fn delegated_part(dir: &str) {
    ids::set_groups(&[]).expect("groups");
    ids::become_user(NOBODY, NOBODY).expect("nobody");
    let place = Cgroup::place(None, "c1", None, false).expect("a place").expect("beside the own one");
    assert_eq!(place.path(), format!("{dir}/c1"));
    let relative = Cgroup::place(Some("pod/c1"), "c1", None, false).expect("a place").expect("one");
    assert_eq!(relative.path(), format!("{dir}/pod/c1"));
    let cgroup = place.create().expect("created");
    assert_eq!(cgroup.restrict_devices(&[], false).expect("skipped"), DeviceFilter::NotNeeded);
    assert!(matches!(cgroup.restrict_devices(&[], true), Err(Error::Devices(_))));
    let resources: LinuxResources =
        serde_json::from_str(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}]}"#).expect("resources");
    match cgroup.apply(&resources) {
        Ok(()) => {}
        Err(Error::NoController { why: Missing::NotDelegated(_) | Missing::NotOffered, .. }) => {}
        Err(error) => panic!("{error}"),
    }
    cgroup.delete(LIMIT).expect("deleted");
    // The one that was given to him by another name is his to divide, but its limits are not his.
    let given = format!("{MOUNT}{}/given", dir.trim_end_matches("/user"));
    fs::create_dir(format!("{given}/below")).expect("his to divide");
    fs::remove_dir(format!("{given}/below")).expect("rmdir");
    assert!(fs::write(format!("{given}/cgroup.max.depth"), "1").is_err());
}

/// A cgroup of the test's own, in which it makes those that it tests.
struct Test {
    name: String,
}

impl Test {
    /// `None`: it cannot be tested here, or was tested by another process.
    fn begin(name: &str) -> Option<Self> {
        if ids::uid() != 0 {
            through_sudo(name);
            return None;
        }
        unshare(Namespaces::MOUNT).expect("a mount namespace");
        set_root_propagation(Propagation::Private).expect("of its own");
        let mount = Filesystem::open("cgroup2").expect("cgroup2").mount(Attributes::default()).expect("a mount");
        attach(mount.as_fd(), rbox_sys::dir::open(Path::new(MOUNT)).expect("open").as_fd()).expect("mounted");
        let name = format!("rbox-test-{}-{}", std::process::id(), &name[..10]);
        fs::create_dir(Path::new(MOUNT).join(&name)).expect("a writable cgroup2");
        Some(Self { name })
    }

    /// As `linux.cgroupsPath` has it.
    fn path(&self, below: &str) -> String {
        format!("/{}/{below}", self.name)
    }

    fn dir(&self, below: &str) -> PathBuf {
        Path::new(MOUNT).join(&self.name).join(below)
    }

    fn create(&self, below: &str) -> Cgroup {
        let place = Cgroup::place(Some(&self.path(below)), "id", None, true).expect("a place").expect("one");
        place.create().unwrap_or_else(|error| panic!("{below}: {error}: {:?}", std::error::Error::source(&error)))
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        let dir = Path::new(MOUNT).join(&self.name);
        let _ = fs::write(dir.join("cgroup.kill"), "1");
        let deadline = Instant::now() + LIMIT;
        while remove_tree(&dir).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn remove_tree(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

fn through_sudo(name: &str) {
    let may = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status().is_ok_and(|it| it.success());
    if may {
        let mut command = Command::new("sudo");
        command.arg("-n").arg(std::env::current_exe().expect("this program")).args(["--exact", name, "--nocapture"]);
        assert!(command.status().expect("sudo").success());
    } else {
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        assert!(!in_ci, "root is needed to test cgroups");
        eprintln!("NOT RUN, for want of root: {name}");
    }
}

/// A shell that does as it is told, line by line, in whatever cgroup it is.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    fn start() -> Self {
        let mut child = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, stdin, stdout: BufReader::new(stdout) }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the shell listens");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the shell answers");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    fn wait(&mut self) {
        self.child.wait().expect("it has ended");
    }

    fn end(&mut self) {
        self.child.kill().expect("killed");
        self.wait();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
