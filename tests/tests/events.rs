//! `rbox events`: what happens is written down as it happens, and read by whoever asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use rbox_tests::rbox::Rbox;
use serde_json::Value;

/// The third and following words of each line, without the id.
fn actions(text: &str) -> Vec<String> {
    let words = |line: &str| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect()
}

#[test]
fn events_of_a_containers_life() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--rm", "--name", "gone", &image, "sh", "-c", "exit 3"]).exits(3);
    rbox.run(["run", "--name", "kept", &image, "true"]).success();
    let events = |flags: &[&str]| rbox.run([&["events", "--no-stream"], flags].concat()).success();
    let life = ["container create", "container start", "container die", "container remove"];
    assert_eq!(actions(&events(&["--filter", "container=gone"])), life);
    assert_eq!(actions(&events(&["-f", "container=kept"])), life[..3]);
    rbox.run(["rm", "kept"]).success();
    assert_eq!(actions(&events(&["-f", "container=kept"])), life);
    assert_eq!(actions(&events(&["-f", "type=image"])), ["image pull"]);

    let died = events(&["-f", "event=die", "-f", "container=gone"]);
    assert!(died.contains("exitCode=3, ") && died.contains(&format!("image={image}, name=gone")), "{died}");
    let document: Value = serde_json::from_str(&events(&["-f", "event=die", "-f", "container=gone", "--format=json"]))?;
    assert_eq!(document["Actor"]["Attributes"]["exitCode"], "3");
    assert_eq!((document["Type"].as_str(), document["Action"].as_str()), (Some("container"), Some("die")));
    // From a time on, and until one: both ends belong to it.
    let at = died.split(' ').next().expect("a time");
    assert_eq!(actions(&events(&["--since", at, "--until", at])), ["container die"]);
    assert_eq!(events(&["--since", "1h", "--until", "30m"]), "");
    // What is asked of the past only needs no word for not waiting.
    assert_eq!(actions(&rbox.run(["events", "--since", "1h", "--until", at]).success()).last(), Some(&life[2].into()));

    rbox.run(["rmi", &image]).success();
    assert_eq!(actions(&events(&["-f", "type=image"])), ["image pull", "image untag", "image remove"]);
    rbox.run(["events", "-f", "pod=x"]).refused(&["unknown filter \"pod\""]);
    assert_eq!(events(&["-f", "event=die", "-f", "container=gone", "--format", "{{.Name}} {{.Status}}"]), "gone die\n");
    rbox.run(["events", "--format", "table {{.ID}}"]).refused(&["no table"]);
    Ok(())
}

#[test]
fn events_are_followed() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--rm", "--name", "before", &image, "true"]).success();
    let mut all = rbox.start(["events", "--since", "1h", "-f", "type=container"]);
    let mut json = rbox.start(["events", "--format", "json", "--filter", "event=exec_died", "--since=0"]);
    all.expect("container remove");
    let mut container = rbox.start(["run", "--rm", "--name", "c", &image, "sh", "-c", "echo up; exec sleep 600"]);
    container.expect("up\n");
    all.expect("container start");
    all.expect("name=c)\n");
    rbox.run(["exec", "c", "sh", "-c", "exit 4"]).exits(4);
    assert_eq!(actions(&all.expect("container exec_died")), ["container exec_start", ""]);
    assert!(all.expect("\n").contains("exitCode=4"));
    let document: Value = serde_json::from_str(&json.expect("\n"))?;
    assert_eq!(document["Name"], "c");
    rbox.run(["rm", "-f", "c"]).success();
    let seen = all.expect("container remove");
    assert_eq!(actions(&seen)[..2], ["container kill", "container die"], "{seen}");
    Ok(())
}

#[test]
fn events_without_a_time_are_those_to_come() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--rm", "--name", "before", &image, "true"]).success();
    let mut events = rbox.start(["events"]);
    let seen = AtomicBool::new(false);
    let first = thread::scope(|scope| {
        // When it has begun to look cannot be told from outside.
        scope.spawn(|| {
            for _ in 0..500 {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                rbox.run(["run", "--rm", "--name", "after", &image, "true"]).success();
            }
        });
        let first = events.expect("\n");
        seen.store(true, Ordering::Relaxed);
        first
    });
    assert!(first.contains("name=after"), "{first}");
    Ok(())
}

/// A store that cannot be written to any more has a journal with a gap, and containers that work.
#[test]
fn events_that_cannot_be_written_harm_nothing() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    std::fs::remove_file(rbox.store().join("events"))?;
    std::fs::create_dir(rbox.store().join("events"))?;
    assert_eq!(rbox.sh(&image, &[], "echo fine"), "fine");
    Ok(())
}
