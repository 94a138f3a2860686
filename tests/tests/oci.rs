//! `rbox oci`: the life of a container as an engine drives it.
//!
//! `RBOX_TEST_RUNTIME=crun` tries them on another runtime. crun 1.8 passes half of them; in the rest it differs from the
//! runtime spec or from runc: it takes a relative cwd, tells hooks of a container that is "created" already, goes on when
//! `startContainer` has failed, gives `exec --env` no other variable, and joins no other's pid namespace without root.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rbox_tests::bundle::Bundle;
use rbox_tests::command::read;
use rbox_tests::patience::until;
use serde_json::{Value, json};

#[test]
fn created_started_stopped_deleted() -> Result<()> {
    let bundle = Bundle::new("echo ran; hostname; echo $$; trap 'exit 0' TERM; while :; do sleep 0.1; done")?;
    let pid_file = bundle.path().join("pid");
    bundle.create("one", &["--pid-file", &pid_file.display().to_string()])?.exits(0);
    let state = bundle.state("one")?;
    assert_eq!((&state["id"], &state["status"]), (&json!("one"), &json!("created")));
    assert_eq!(state["bundle"], json!(bundle.path().canonicalize()?));
    assert_eq!(state["pid"].to_string(), fs::read_to_string(&pid_file)?.trim());
    assert_eq!(bundle.output(), "", "the workload waits");

    bundle.runtime(["start", "one"]).success();
    until(|| bundle.output(), |output| output == "ran\nbundle\n1\n");
    assert_eq!(bundle.status("one"), "running");
    assert_ne!(bundle.runtime(["start", "one"]).status, 0, "it was started already");
    assert_ne!(bundle.runtime(["delete", "one"]).status, 0, "it runs");
    assert_ne!(bundle.create("one", &[])?.status, 0, "the id is taken");
    assert_eq!(bundle.status("one"), "running", "and none of that has harmed it");

    bundle.runtime(["kill", "one", "TERM"]).success();
    until(|| bundle.status("one"), |status| status == "stopped");
    assert_ne!(bundle.runtime(["kill", "one", "TERM"]).status, 0, "nobody is there to be signalled");
    bundle.runtime(["delete", "one"]).success();
    assert_ne!(bundle.runtime(["state", "one"]).status, 0, "it is gone");
    assert_ne!(bundle.runtime(["delete", "one"]).status, 0);
    bundle.runtime(["delete", "--force", "one"]).success();
    Ok(())
}

#[test]
fn run_gives_the_exit_status_and_leaves_nothing() -> Result<()> {
    let bundle = Bundle::new("echo out; exit 9")?;
    let outcome = bundle.runtime(["run", "one"]).exits(9);
    assert_eq!(outcome.stdout, "out\n");
    assert_ne!(bundle.runtime(["state", "one"]).status, 0);
    bundle.change(|config| config["process"]["args"] = json!(["/no/such/program"]))?;
    let outcome = bundle.runtime(["run", "one"]);
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("/no/such/program"), "{}", outcome.stderr);
    assert_eq!(bundle.runtime(["list", "-q"]).success(), "");
    Ok(())
}

#[test]
fn the_features_document_has_runcs_shape() -> Result<()> {
    let bundle = Bundle::new("true")?;
    let features: Value = serde_json::from_str(&bundle.runtime(["features"]).success())?;
    assert_eq!(features["ociVersionMin"], "1.0.0");
    let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    assert_eq!(features["hooks"], json!(hooks));
    let names = |pointer| features.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    for (pointer, name) in [
        ("/mountOptions", "rro"),
        ("/mountOptions", "tmpcopyup"),
        ("/linux/namespaces", "cgroup"),
        ("/linux/capabilities", "CAP_CHECKPOINT_RESTORE"),
        ("/linux/seccomp/actions", "SCMP_ACT_NOTIFY"),
        ("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ"),
        ("/linux/seccomp/archs", "SCMP_ARCH_X32"),
    ] {
        assert!(names(pointer).contains(&json!(name)), "{pointer} has {name}: {features}");
    }
    for pointer in ["/linux/cgroup/v2", "/linux/seccomp/enabled", "/linux/apparmor/enabled", "/linux/selinux/enabled"] {
        assert_eq!(features.pointer(pointer), Some(&json!(true)), "{pointer}");
    }
    // The newest version that it says it takes.
    bundle.change(|config| config["ociVersion"] = features["ociVersionMax"].clone())?;
    bundle.runtime(["run", "one"]).success();
    Ok(())
}

#[test]
fn force_deletes_in_any_state() -> Result<()> {
    let bundle = Bundle::new("sleep 600")?;
    bundle.create("created", &[])?.exits(0);
    let pid = bundle.state("created")?["pid"].to_string();
    bundle.runtime(["delete", "--force", "created"]).success();
    until(|| fs::exists(format!("/proc/{pid}")).unwrap_or(true), |there| !there);
    bundle.create("running", &[])?.exits(0);
    bundle.runtime(["start", "running"]).success();
    bundle.runtime(["delete", "--force", "running"]).success();
    assert_eq!(bundle.runtime(["list", "-q"]).success(), "");
    Ok(())
}

#[test]
fn what_is_no_bundle_is_refused_and_leaves_nothing() -> Result<()> {
    let bundle = Bundle::new("true")?;
    assert_ne!(bundle.runtime(["create", "--bundle", "/no/such/bundle", "one"]).status, 0);
    assert_ne!(bundle.runtime(["create", "a/b"]).status, 0, "an id is no path");
    for (pointer, wrong) in [
        ("/root/path", json!("no-such-root")),
        ("/process/args", json!([])),
        ("/process/cwd", json!("relative")),
        ("/ociVersion", json!("9.0.0")),
        ("/linux/namespaces/0", json!({ "type": "pid", "path": "/no/such/namespace" })),
    ] {
        bundle.change(|config| *config.pointer_mut(pointer).expect("the field is there") = wrong.clone())?;
        assert_ne!(bundle.create("one", &[])?.status, 0, "{pointer} = {wrong}");
        assert_ne!(bundle.runtime(["state", "one"]).status, 0, "{pointer} = {wrong}");
        fs::write(bundle.path().join("config.json"), serde_json::to_vec(&json!({}))?)?;
        assert_ne!(bundle.create("one", &[])?.status, 0, "an empty config");
        let fresh = Bundle::new("true")?;
        fs::copy(fresh.path().join("config.json"), bundle.path().join("config.json"))?;
    }
    Ok(())
}

/// A hook that adds a line to the file `hooks` in the bundle: its name, and the state that it was given.
fn recorder(bundle: &Bundle, name: &str) -> Value {
    let script = format!("{{ printf '%s ' {name}; cat; echo; }} >> {}/hooks", bundle.path().display());
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] })
}

#[test]
fn hooks_run_in_their_order_with_the_state() -> Result<()> {
    let bundle = Bundle::new("true")?;
    let outside = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let hooks: serde_json::Map<String, Value> =
        outside.iter().map(|name| ((*name).to_owned(), json!([recorder(&bundle, name)]))).collect();
    bundle.change(|config| {
        config["hooks"] = hooks.into();
        // This one sees the container's files.
        config["hooks"]["startContainer"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "cat > /started"], "env": ["PATH=/bin"] }]);
        config["annotations"] = json!({ "org.example.key": "value" });
    })?;
    let seen = || fs::read_to_string(bundle.path().join("hooks")).unwrap_or_default();
    let names = || seen().lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect::<Vec<_>>();
    bundle.create("one", &[])?.exits(0);
    assert_eq!(names(), ["prestart", "createRuntime", "createContainer"]);
    assert!(!bundle.inside("started").exists());
    bundle.runtime(["start", "one"]).success();
    assert_eq!(names().last().map(String::as_str), Some("poststart"));
    until(|| bundle.status("one"), |status| status == "stopped");
    bundle.runtime(["delete", "one"]).success();
    assert_eq!(names().last().map(String::as_str), Some("poststop"));
    for line in seen().lines() {
        let (name, state) = line.split_once(' ').context("a name and a state")?;
        let state: Value = serde_json::from_str(state)?;
        assert_eq!(state["id"], "one", "{name}");
        assert_eq!(state["annotations"]["org.example.key"], "value", "{name}");
        let status = match name {
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        assert_eq!(state["status"], status, "{name}");
    }
    let inside: Value = serde_json::from_str(&fs::read_to_string(bundle.inside("started"))?)?;
    assert_eq!(inside["status"], "created");
    Ok(())
}

#[test]
fn a_hook_that_fails_ends_the_creation() -> Result<()> {
    for name in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new("true")?;
        bundle.change(|config| config["hooks"] = json!({ name: [{ "path": "/bin/false", "args": ["false"] }] }))?;
        assert_ne!(bundle.create("one", &[])?.status, 0, "{name}");
        assert_ne!(bundle.runtime(["state", "one"]).status, 0, "{name}");
    }
    let bundle = Bundle::new("touch /ran")?;
    bundle.change(|config| {
        config["hooks"] = json!({ "startContainer": [{ "path": "/bin/false", "args": ["false"] }] });
    })?;
    bundle.create("one", &[])?.exits(0);
    assert_ne!(bundle.runtime(["start", "one"]).status, 0);
    until(|| bundle.status("one"), |status| status == "stopped");
    assert!(!bundle.inside("ran").exists());
    Ok(())
}

#[test]
fn exec_is_one_more_process_in_all_namespaces() -> Result<()> {
    let bundle = Bundle::new("echo ready; sleep 600")?;
    bundle.create("one", &[])?.exits(0);
    bundle.runtime(["start", "one"]).success();
    until(|| bundle.output(), |output| output == "ready\n");
    let first = bundle.state("one")?["pid"].to_string();
    let script = "for n in pid net ipc uts mnt user; do readlink /proc/self/ns/$n; done; test -d /proc/1";
    let inside = bundle.runtime(["exec", "one", "sh", "-c", script]).success();
    for (line, kind) in inside.lines().zip(["pid", "net", "ipc", "uts", "mnt", "user"]) {
        assert_eq!(line, fs::read_link(format!("/proc/{first}/ns/{kind}"))?.to_string_lossy(), "{kind}");
    }
    assert_eq!(inside.lines().count(), 6);
    bundle.runtime(["exec", "one", "sh", "-c", "exit 7"]).exits(7);
    assert_eq!(
        bundle.runtime(["exec", "--env", "A=b c", "--cwd", "/tmp", "one", "sh", "-c", "echo $A; pwd"]).success(),
        "b c\n/tmp\n"
    );
    assert_ne!(bundle.runtime(["exec", "one", "/no/such/program"]).status, 0);

    // A process object in a file, in the background, with its id in another.
    let process = json!({ "args": ["sh", "-c", "touch /was-here; sleep 600"], "cwd": "/", "env": ["PATH=/bin"],
        "user": { "uid": 0, "gid": 0 } });
    fs::write(bundle.path().join("process.json"), process.to_string())?;
    let mut detached =
        bundle.command(["exec", "--detach", "--pid-file", "exec-pid", "--process", "process.json", "one"]);
    assert!(detached.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success());
    let pid = fs::read_to_string(bundle.path().join("exec-pid"))?;
    until(|| bundle.inside("was-here").exists(), |there| *there);
    assert!(read(Command::new("cat").arg(format!("/proc/{}/cmdline", pid.trim())))?.contains("sleep"));
    bundle.runtime(["delete", "--force", "one"]).success();
    until(|| fs::exists(format!("/proc/{}", pid.trim())).unwrap_or(true), |there| !there);
    assert_ne!(bundle.runtime(["exec", "one", "true"]).status, 0);
    Ok(())
}

#[test]
fn a_container_in_the_namespaces_of_another() -> Result<()> {
    let host = Bundle::new("sleep 600")?;
    host.create("host", &[])?.exits(0);
    host.runtime(["start", "host"]).success();
    let pid = host.state("host")?["pid"].to_string();
    let guest =
        Bundle::new("readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/mnt; ps | grep -c 'sleep 600'")?;
    guest.change(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().expect("a list") {
            let kind = namespace["type"].as_str().expect("a kind").to_owned();
            if kind != "mount" {
                let name = if kind == "network" { "net" } else { &kind };
                namespace["path"] = json!(format!("/proc/{pid}/ns/{name}"));
            }
        }
        let linux = config["linux"].as_object_mut().expect("an object");
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        config.as_object_mut().expect("an object").remove("hostname");
        config["process"]["args"][2] =
            json!("for n in net ipc mnt; do readlink /proc/self/ns/$n; done; ps | grep -c '[s]leep 600'");
    })?;
    let seen = guest.runtime(["run", "guest"]).success();
    let lines: Vec<&str> = seen.lines().collect();
    let of_host = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).map(|link| link.display().to_string());
    assert_eq!((lines[0], lines[1]), (of_host("net")?.as_str(), of_host("ipc")?.as_str()));
    assert_ne!(lines[2], of_host("mnt")?);
    assert_eq!(lines[3], "1", "the other's processes are seen");
    Ok(())
}

#[test]
fn the_terminals_master_goes_to_the_console_socket() -> Result<()> {
    let bundle = Bundle::new("test -t 0 && test -t 1 && tty > /tty && stty size >> /tty")?;
    bundle.change(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({ "height": 25, "width": 91 });
    })?;
    assert_ne!(bundle.create("one", &[])?.status, 0, "nobody would have the terminal");
    let socket = bundle.path().join("console");
    let listener = UnixListener::bind(&socket)?;
    bundle.create("one", &["--console-socket", &socket.display().to_string()])?.exits(0);
    let (stream, _) = listener.accept()?;
    // With the socket's descriptor in hand, python3 is the shortest way to a message with a descriptor in it.
    let script = "import socket,sys,os; s=socket.socket(fileno=0); m,f,_,_=socket.recv_fds(s,100,1); \
        print(len(f), os.isatty(f[0]))";
    let mut python = Command::new("python3");
    let seen = python.args(["-c", script]).stdin(Stdio::from(OwnedFd::from(stream))).output()?;
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), "1 True", "{seen:?}");
    bundle.runtime(["start", "one"]).success();
    until(|| bundle.status("one"), |status| status == "stopped");
    Ok(())
}

#[test]
fn descriptors_are_handed_on_only_as_asked() -> Result<()> {
    let bundle = Bundle::new("ls /proc/self/fd | tr '\\n' ' '; cat <&3 2>/dev/null || echo none")?;
    fs::write(bundle.path().join("three"), "three\n")?;
    let open = "exec 3<three 4<three 5<three; exec \"$@\"";
    let run = |flags: &[&str]| -> Result<String> {
        let command = bundle.command([&["run"], flags, &["one"]].concat());
        let mut shell = Command::new("sh");
        shell.args(["-c", open, "sh"]).arg(command.get_program()).args(command.get_args()).current_dir(bundle.path());
        shell.env("XDG_RUNTIME_DIR", bundle.path());
        read(shell.stdin(Stdio::null()))
    };
    // The last number is that of the directory which ls reads.
    assert_eq!(run(&[])?.trim(), "0 1 2 3 none");
    assert_eq!(run(&["--preserve-fds", "2"])?.trim(), "0 1 2 3 4 5 three");
    Ok(())
}

/// Who is not taken for rootless must have a cgroup, which no ordinary user can make here.
#[test]
fn rootless_by_flag() -> Result<()> {
    let bundle = Bundle::new("true")?;
    for flag in ["--rootless=true", "--rootless=auto"] {
        bundle.runtime([flag, "run", "one"]).success();
    }
    let refused = bundle.runtime(["--rootless=false", "run", "one"]);
    assert!(refused.status == 1 && refused.stderr.contains("may not make the cgroup /one"), "{refused:?}");
    assert_ne!(bundle.runtime(["--rootless=perhaps", "run", "one"]).status, 0);
    Ok(())
}

#[test]
fn without_a_bus_there_is_no_systemd_to_ask() -> Result<()> {
    let bundle = Bundle::new("true")?;
    let refused = bundle.runtime(["--systemd-cgroup", "run", "one"]);
    let socket = bundle.path().join("bus");
    assert!(refused.status == 1 && refused.stderr.contains(&socket.display().to_string()), "{refused:?}");
    assert!(refused.stderr.contains("hint: without --systemd-cgroup"), "{refused:?}");
    let bundle = bundle.env("DBUS_SESSION_BUS_ADDRESS", "tcp:host=localhost");
    let refused = bundle.runtime(["--systemd-cgroup", "run", "one"]);
    assert!(refused.status == 1 && refused.stderr.contains("names no Unix socket"), "{refused:?}");
    assert_eq!(bundle.runtime(["list", "-q"]).success(), "");
    Ok(())
}

/// As with youki, runc and crun, whose `start` does not wait to see whether the workload runs.
#[test]
fn poststart_hooks_run_after_a_failure_too() -> Result<()> {
    let bundle = Bundle::new("true")?;
    bundle.change(|config| {
        config["hooks"] = json!({
            "startContainer": [{ "path": "/bin/false" }],
            "poststart": [recorder(&bundle, "poststart")],
        });
    })?;
    bundle.create("one", &[])?.exits(0);
    assert_ne!(bundle.runtime(["start", "one"]).status, 0, "the workload does not run");
    let seen = fs::read_to_string(bundle.path().join("hooks"))?;
    assert!(seen.starts_with("poststart "), "{seen:?}");
    until(|| bundle.status("one"), |status| status == "stopped");
    bundle.runtime(["delete", "one"]).success();
    Ok(())
}
