//! Health checks of containers that run by themselves.

use anyhow::Result;
use rbox_tests::alpine;
use rbox_tests::detached::Detached;
use rbox_tests::image::Format;
use rbox_tests::layout::Layout;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;
use serde_json::{Value, json};

/// Often, so that nobody waits.
const OFTEN: [&str; 2] = ["--health-interval", "50ms"];

fn health(container: &Detached<'_>) -> String {
    container.inspect(&["State", "Health", "Status"]).as_str().unwrap_or("none").to_owned()
}

fn last(container: &Detached<'_>) -> Value {
    let log = container.inspect(&["State", "Health", "Log"]);
    log.as_array().and_then(|log| log.last().cloned()).unwrap_or_default()
}

#[test]
fn health_is_found_out_and_shown() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags =
        [&OFTEN[..], &["--health-cmd", "echo looked; test -e /well", "--health-retries=2", "--user=7:7"]].concat();
    let container = Detached::start(&rbox, &image, "box", &flags, "exec sleep 1000");
    until(|| health(&container), |word| word == "unhealthy");
    assert!(container.inspect(&["State", "Health", "FailingStreak"]).as_u64() >= Some(2));
    let status = || rbox.run(["ps", "--format", "{{.Status}} {{.Health}}"]).success();
    let unwell = status();
    assert!(unwell.starts_with("Up ") && unwell.ends_with(" (unhealthy) unhealthy\n"), "{unwell}");
    assert_eq!(rbox.run(["healthcheck", "run", "box"]).exits(1).stdout, "unhealthy\n");

    rbox.run(["exec", "--user=0", "box", "touch", "/well"]).success();
    until(|| health(&container), |word| word == "healthy");
    let (state, last) = (container.inspect(&["State", "Health"]), last(&container));
    assert_eq!(
        (&last["ExitCode"], &last["Output"], &state["FailingStreak"]),
        (&json!(0), &json!("looked\n"), &json!(0))
    );
    assert!(last["Start"].is_string() && last["End"].is_string(), "{last}");
    until(|| container.inspect(&["State", "Health", "Log"]).as_array().map(Vec::len), |length| *length == Some(5));
    assert!(status().contains("(healthy) healthy"));
    assert_eq!(rbox.run(["healthcheck", "run", "box"]).success(), "");
    assert_eq!(rbox.run(["ps", "-q", "-f", "health=healthy"]).success().lines().count(), 1);
    assert_eq!(rbox.run(["ps", "-q", "-f", "health=unhealthy"]).success(), "");
    let config = container.inspect(&["Config", "Healthcheck"]);
    let expected = json!({"Test": ["CMD-SHELL", "echo looked; test -e /well"], "Interval": 50_000_000, "Retries": 2});
    assert_eq!(config, expected);
    let events = rbox.run(["events", "--no-stream", "-f", "event=health_status", "--format", "json"]).success();
    let actions: Vec<Value> = events.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let actions: Vec<_> = actions.iter().map(|event| event["Action"].as_str().unwrap_or_default()).collect();
    assert_eq!(actions, ["health_status: unhealthy", "health_status: healthy"]);

    rbox.run(["restart", "-t", "0", "box"]).success();
    until(|| health(&container), |word| word == "healthy");
    rbox.run(["stop", "-t", "0", "box"]).success();
    rbox.run(["healthcheck", "run", "box"]).refused(&["not running"]);
    Ok(())
}

/// Neither output nor clients nor the end wait for a check that hangs; it is killed when its time is over, and whatever is
/// left of it keeps nobody.
#[test]
fn a_health_check_that_hangs_keeps_nobody() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let hangs = "sleep 1000 & echo $$ > /check; echo begun; exec sleep 1000";
    let flags = [&OFTEN[..], &["--health-cmd", hangs, "--health-timeout=2h"]].concat();
    let script = "until test -e /check; do sleep 0.05; done; while :; do echo tick; sleep 0.05; done";
    let slow = Detached::start(&rbox, &image, "slow", &flags, script);
    until(|| slow.logs(), |logs| logs.starts_with("tick\n"));
    let mut attached = rbox.start(["attach", "--no-stdin", "slow"]);
    attached.expect("tick");
    attached.kill();
    assert_eq!(health(&slow), "starting");
    rbox.run(["stop", "-t", "0", "slow"]).success();
    assert_eq!(slow.status(), "exited");

    let flags = [&OFTEN[..], &["--health-cmd", hangs, "--health-timeout=100ms", "--health-retries=1"]].concat();
    let limited = Detached::start(&rbox, &image, "limited", &flags, "exec sleep 1000");
    until(|| health(&limited), |word| word == "unhealthy");
    let found = last(&limited);
    assert_eq!(found["ExitCode"], -1);
    assert!(found["Output"].as_str().is_some_and(|text| text.contains("exceeded timeout (100ms)")), "{found}");
    // Never two at once: each one that is over has left its child and nothing else.
    let pid = rbox.run(["exec", "limited", "cat", "/check"]).success();
    until(|| rbox.run(["exec", "limited", "cat", "/check"]).success(), |next| *next != pid);
    Ok(())
}

#[test]
fn health_checks_that_cannot_run_or_say_too_much() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let of = |name: &'static str, command: &str| {
        let flags = [&OFTEN[..], &["--health-retries=1", "--health-cmd", command]].concat();
        Detached::start(&rbox, &image, name, &flags, "exec sleep 1000")
    };
    let missing = of("missing", r#"["no-such-program"]"#);
    until(|| health(&missing), |word| word == "unhealthy");
    let found = last(&missing);
    assert!(found["ExitCode"] == 127 && found["Output"].as_str().is_some_and(|text| text.contains("no-such-program")));
    let loud = of("loud", "yes | head -c 1000000; echo end >&2");
    until(|| health(&loud), |word| word == "healthy");
    let output = last(&loud)["Output"].as_str().unwrap_or_default().to_owned();
    assert!(output.len() == 4099 && output.starts_with("y\ny\n") && output.ends_with("..."), "{}", output.len());
    Ok(())
}

#[test]
fn the_images_health_check_also_in_the_foreground() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let check = json!({"Test": ["CMD", "test", "-e", "/well"], "Interval": 50_000_000, "Retries": 1});
    alpine::on_small(&layout, Format::Docker)?.set("Healthcheck", check).finish_as("checked")?;
    let (rbox, image) = Rbox::with_image(&layout, "checked", "t/checked:1")?;
    let look = || rbox.run(["inspect", "box", "-f", "{{.State.Health.Status}}"]).stdout;
    let script = "until test -e /go; do sleep 0.05; done; exit 3";
    let mut running = rbox.start(["run", "--name", "box", &image, "sh", "-c", script]);
    until(look, |word| word == "unhealthy\n");
    rbox.run(["exec", "box", "touch", "/well"]).success();
    until(look, |word| word == "healthy\n");
    rbox.run(["exec", "box", "touch", "/go"]).success();
    assert_eq!(running.wait(), 3);
    rbox.run(["rm", "box"]).success();

    // The flag's command, the image's interval.
    let own = Detached::start(&rbox, &image, "own", &["--health-cmd", "false"], "exec sleep 1000");
    until(|| health(&own), |word| word == "unhealthy");
    for flags in [&["--no-healthcheck"][..], &["--health-cmd=none"]] {
        let without = Detached::start(&rbox, &image, "without", flags, "exec sleep 1000");
        assert_eq!((health(&without), without.inspect(&["Config", "Healthcheck"])), ("none".into(), Value::Null));
        rbox.run(["healthcheck", "run", "without"]).refused(&["no defined healthcheck"]);
    }
    // From outside of its namespaces, where its monitor has none of its own.
    let of_host = Detached::start(&rbox, &image, "of-host", &["--pid=host"], "touch /well; exec sleep 1000");
    until(|| health(&of_host), |word| word == "healthy");
    rbox.run(["run", "--rm", "--explain", &image, "true"]).refused(&["health check", "--no-healthcheck"]);
    rbox.run(["run", "--rm", "--explain", "--no-healthcheck", &image, "true"]).exits(0);
    Ok(())
}

#[test]
fn health_is_checked_only_when_asked_for() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags = ["--health-interval=disable", "--health-cmd=test -e /well", "--health-retries=1"];
    let container = Detached::start(&rbox, &image, "box", &flags, "exec sleep 1000");
    assert!(rbox.run(["ps"]).success().contains("(health: starting)"));
    rbox.run(["healthcheck", "run", "box"]).exits(1);
    assert_eq!((health(&container), &last(&container)["ExitCode"]), ("unhealthy".into(), &json!(1)));
    rbox.run(["exec", "box", "touch", "/well"]).success();
    rbox.run(["healthcheck", "run", "box"]).success();
    assert_eq!(health(&container), "healthy");

    for (flags, words) in [
        (&["--no-healthcheck", "--health-cmd=true"][..], &["contradict"][..]),
        (&["--health-interval=1s"], &["no health check"]),
        (&["--health-cmd=true", "--health-interval=1us"], &["--health-interval", "millisecond"]),
        (&["--health-cmd=true", "--health-retries=0"], &["--health-retries"]),
        (&["--health-cmd="], &["--health-cmd", "none"]),
    ] {
        rbox.run([&["run", "--rm"], flags, &[image.as_str(), "true"]].concat()).refused(words);
    }
    Ok(())
}

/// Ill as long as this is there.
const CHECK: [&str; 3] = ["--health-cmd=test ! -e /ill", "--health-retries=1", "--health-interval=50ms"];

/// Ends in its own way when it is asked to.
const OBEYS: &str = "rm -f /ill; trap 'exit 5' TERM; while :; do sleep 0.05; done";

#[test]
fn what_becomes_unhealthy_is_dealt_with() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let start = |name: &'static str, flags: &[&str]| {
        let container = Detached::start(&rbox, &image, name, &[&CHECK, flags].concat(), OBEYS);
        until(|| health(&container), |word| word == "healthy");
        container
    };
    let infect = |name: &str| rbox.run(["exec", name, "touch", "/ill"]).success();
    for (action, status) in [("stop", "5\n"), ("kill", "137\n")] {
        let container = start(action, &["--health-on-failure", action]);
        assert_eq!(container.inspect(&["Config", "HealthcheckOnFailureAction"]), action);
        infect(action);
        assert_eq!(rbox.run(["wait", action]).success(), status);
        assert_eq!(health(&container), "unhealthy");
        let filter = format!("container={action}");
        let events = rbox.run(["events", "--no-stream", "-f", &filter, "--format", "json"]).success();
        let events: Vec<Value> = events.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let events: Vec<_> = events.iter().map(|event| event["Action"].as_str().unwrap_or_default()).collect();
        assert_eq!(events[events.len() - 3..], ["health_status: unhealthy", action, "die"], "{events:?}");
    }

    // Whatever its policy is.
    let again = start("again", &["--health-on-failure=restart"]);
    infect("again");
    until(|| again.inspect(&["RestartCount"]), |count| *count == 1);
    until(|| health(&again), |word| word == "healthy");
    rbox.run(["stop", "again"]).success();
    assert_eq!((again.status(), again.inspect(&["RestartCount"])), ("exited".into(), json!(1)));

    // What has been killed is for the policy, and what has been stopped is not.
    let killed = start("killed", &["--health-on-failure=kill", "--restart=always"]);
    infect("killed");
    until(|| killed.inspect(&["RestartCount"]), |count| *count == 1);
    let _stopped = start("stopped", &["--health-on-failure=stop", "--restart=always"]);
    infect("stopped");
    assert_eq!(rbox.run(["wait", "stopped"]).success(), "5\n");
    Ok(())
}

#[test]
fn what_a_check_by_hand_finds_unhealthy_is_dealt_with_too() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    for action in ["stop", "kill", "restart"] {
        let flags = ["--health-on-failure", action, CHECK[0], CHECK[1], "--health-interval=disable"];
        let container = Detached::start(&rbox, &image, action, &flags, OBEYS);
        until(|| rbox.run(["healthcheck", "run", action]).status, |status| *status == 0);
        let before = container.inspect(&["State", "StartedAt"]);
        rbox.run(["exec", action, "touch", "/ill"]).success();
        rbox.run(["healthcheck", "run", action]).exits(1);
        match action {
            "restart" => {
                assert!(container.status() == "running" && container.inspect(&["State", "StartedAt"]) != before)
            }
            _ => _ = until(|| container.status(), |status| status == "exited"),
        }
    }
    for (flags, words) in [
        (&["--health-on-failure=kill"][..], &["cannot set on-failure action to kill without a health check"][..]),
        (&["--health-on-failure=stop", "--no-healthcheck"], &["to stop without a health check"]),
        (&["--health-on-failure=pray", "--health-cmd=true"], &["none, kill, restart or stop"]),
        (&["--rm", "--health-on-failure=restart", "--health-cmd=true"], &["contradict"]),
    ] {
        rbox.run([&["run"], flags, &[image.as_str(), "true"]].concat()).refused(words);
    }
    Ok(())
}

#[test]
fn health_is_waited_for() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let container =
        Detached::start(&rbox, &image, "box", &CHECK, "touch /ill; trap 'exit 5' TERM; while :; do sleep 0.05; done");
    assert_eq!(rbox.run(["wait", "--condition=unhealthy", "box"]).success(), "-1\n");
    let mut waits = rbox.start(["wait", "--condition", "healthy", "--interval=10ms", "box"]);
    rbox.run(["exec", "box", "rm", "/ill"]).success();
    waits.expect("-1\n");
    assert_eq!((waits.wait(), health(&container)), (0, "healthy".into()));
    // Of several, any.
    let mut waits = rbox.start(["wait", "--condition=unhealthy", "--condition=exited", "box"]);
    rbox.run(["stop", "box"]).success();
    waits.expect("5\n");
    assert_eq!(waits.wait(), 0);
    // What has ended will not become well, and what nobody checks is never said to be.
    rbox.run(["wait", "--condition=healthy", "box"]).refused(&["has ended"]);
    rbox.run(["start", "box"]).success();
    let mut waits = rbox.start(["wait", "--condition=healthy", "box"]);
    rbox.run(["stop", "--time=0", "box"]).success();
    assert!(matches!(waits.wait(), 0 | 125), "it may have been well by then");
    let _plain = Detached::start(&rbox, &image, "plain", &[], "exec sleep 1000");
    rbox.run(["wait", "--condition=healthy", "plain"]).refused(&["no defined healthcheck"]);

    let mut waits = rbox.start(["wait", "--condition=paused", "plain"]);
    rbox.run(["pause", "plain"]).success();
    waits.expect("-1\n");
    rbox.run(["create", "--name=new", &image, "true"]).success();
    assert_eq!(rbox.run(["wait", "--condition=created", "new"]).success(), "-1\n");
    rbox.run(["wait", "--condition=removing", "new"]).refused(&["removing"]);
    Ok(())
}
