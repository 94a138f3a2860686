//! A seccomp agent answers for the calls that a filter leaves to it (runtime spec, `linux.seccomp.listenerPath`).
//!
//! `RBOX_TEST_RUNTIME` tries this on another runtime: crun 1.8 and runc 1.1 have no answer for profiles that leave them
//! the calls by which they start a container themselves.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use rbox_tests::bundle::Bundle;
use rbox_tests::patience::until;
use serde_json::{Value, json};

/// Prints the message of the first connection and how many descriptors came with it; then answers calls: those with these
/// numbers get EOPNOTSUPP, the others go on (seccomp_unotify(2)).
const AGENT: &str = r#"
import fcntl, socket, struct, sys
connection, _ = socket.socket(fileno=0).accept()
message, descriptors, _, _ = socket.recv_fds(connection, 65536, 4)
print(message.decode())
print(len(descriptors), len(connection.recv(1)), flush=True)
while True:
    call = bytearray(80)
    try:
        fcntl.ioctl(descriptors[0], 0xc0502100, call)
        id, _, _, number = struct.unpack_from("=QIIi", call)
        refused = str(number) in sys.argv
        fcntl.ioctl(descriptors[0], 0xc0182101, struct.pack("=QqiI", id, 0, -95 if refused else 0, not refused))
    except OSError:
        break
"#;

/// mkdir(2) and mkdirat(2).
const MKDIR: [&str; 2] = if cfg!(target_arch = "x86_64") { ["83", "258"] } else { ["34", "34"] };

struct Agent(Child);

impl Agent {
    /// One that listens at `agent` in the bundle, whose profile leaves it these calls.
    fn of(bundle: &Bundle, calls: &[&str]) -> Result<Self> {
        let socket = bundle.path().join("agent");
        let listener = UnixListener::bind(&socket)?;
        bundle.change(|config| {
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": socket,
                "listenerMetadata": "what the agent knows",
                "syscalls": [{ "names": calls, "action": "SCMP_ACT_NOTIFY" }],
            });
        })?;
        let mut python = Command::new("python3");
        python.args(["-c", AGENT]).args(MKDIR).stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::piped());
        Ok(Self(python.spawn().context("start the agent")?))
    }

    /// What it was told of the process.
    fn told(&mut self) -> Result<Value> {
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(self.output()?));
        let mut line = || lines.next().context("the agent has said nothing")?.map_err(anyhow::Error::from);
        let message = serde_json::from_str(&line()?)?;
        assert_eq!(line()?, "1 0", "one descriptor, and nothing after the message");
        Ok(message)
    }

    fn output(&mut self) -> Result<ChildStdout> {
        self.0.stdout.take().context("it is asked once")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SCRIPT: &str = "mkdir /made 2>/dev/null || echo refused; test -d /made || echo not there";

#[test]
fn it_has_the_listener_when_the_container_is_created() -> Result<()> {
    let bundle = Bundle::new(SCRIPT)?;
    let mut agent = Agent::of(&bundle, &["mkdir", "mkdirat"])?;
    bundle.change(|config| config["annotations"] = json!({ "org.example.key": "value" }))?;
    bundle.create("agent-created", &[])?.exits(0);
    let told = agent.told()?;
    let state = bundle.state("agent-created")?;
    assert_eq!((&told["ociVersion"], &told["fds"]), (&json!("1.0.2"), &json!(["seccompFd"])));
    assert_eq!((&told["pid"], &told["metadata"]), (&state["pid"], &json!("what the agent knows")));
    assert_eq!((&told["state"]["id"], &told["state"]["pid"]), (&json!("agent-created"), &state["pid"]));
    assert_eq!((&told["state"]["status"], &told["state"]["bundle"]), (&json!("creating"), &state["bundle"]));
    assert_eq!(told["state"]["annotations"]["org.example.key"], "value");
    bundle.runtime(["start", "agent-created"]).success();
    until(|| bundle.output(), |output| output == "refused\nnot there\n");
    Ok(())
}

#[test]
fn it_may_have_the_calls_that_start_the_container() -> Result<()> {
    let bundle = Bundle::new(SCRIPT)?;
    let starting =
        ["execve", "sendmsg", "recvmsg", "accept4", "read", "write", "close", "futex", "mmap", "munmap", "brk"];
    for privileges in [false, true] {
        let _ = std::fs::remove_file(bundle.path().join("agent"));
        let _agent = Agent::of(&bundle, &[&starting[..], &["mkdir", "mkdirat", "exit_group", "prlimit64"]].concat())?;
        bundle.change(|config| config["process"]["noNewPrivileges"] = json!(!privileges))?;
        let outcome = bundle.runtime(["run", "agent-starting"]).exits(0);
        assert_eq!(outcome.stdout, "refused\nnot there\n", "{privileges}");
    }
    Ok(())
}

#[test]
fn one_more_process_has_a_listener_of_its_own() -> Result<()> {
    let bundle = Bundle::new("while :; do sleep 1; done")?;
    let mut of_first = Agent::of(&bundle, &["mkdir", "mkdirat"])?;
    bundle.create("agent-exec", &[])?.exits(0);
    of_first.told()?;
    bundle.runtime(["start", "agent-exec"]).success();
    std::fs::remove_file(bundle.path().join("agent"))?;
    let mut of_second = Agent::of(&bundle, &["mkdir"])?;
    let outcome = bundle.runtime(["exec", "agent-exec", "sh", "-c", SCRIPT]).exits(0);
    assert_eq!(outcome.stdout, "refused\nnot there\n");
    let (told, first) = (of_second.told()?, bundle.state("agent-exec")?["pid"].clone());
    assert_eq!((&told["state"]["status"], &told["state"]["pid"]), (&json!("running"), &first));
    assert_ne!(told["pid"], first);
    Ok(())
}

#[test]
fn without_an_agent_nothing_is_created() -> Result<()> {
    let bundle = Bundle::new("true")?;
    drop(Agent::of(&bundle, &["mkdir"])?);
    let outcome = bundle.create("agent-none", &[])?;
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("the agent at"), "{}", outcome.stderr);
    assert_ne!(bundle.runtime(["state", "agent-none"]).status, 0, "nothing of it is left");
    for field in ["listenerPath", "syscalls"] {
        bundle.change(|config| {
            let seccomp = config["linux"]["seccomp"].as_object_mut().expect("a profile");
            seccomp.remove("listenerPath");
            seccomp.remove(field);
        })?;
        let outcome = bundle.create("agent-none", &[])?;
        assert_ne!(outcome.status, 0, "without {field}");
        assert!(outcome.stderr.contains("listenerPath"), "{}", outcome.stderr);
    }
    Ok(())
}
