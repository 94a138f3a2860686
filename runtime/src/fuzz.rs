//! Fuzz targets: what this crate reads that somebody else wrote.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use oci_spec::runtime::Spec;
use rbox_fuzz::Shape;
use rbox_sys::socket::Channel;
use rbox_types::Exit;

use crate::error::Failure;
use crate::oci::States;
use crate::order::Order;
use crate::plan::InitPlan;
use crate::report::Report;
use crate::trace::Step;
use crate::{Hooks, cgroup, oci};

const NONE: [&str; 0] = [];

/// What is changed is whole, or next to nothing would get past the first error.
#[test]
fn the_seeds_are_good() {
    let config = include_str!("../../fuzz/corpus/config_json/all-fields.json");
    InitPlan::new(&serde_json::from_str(config).expect("a spec")).expect("it is planned");
    let state = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(state.path().join("one")).expect("mkdir");
    let whole = include_str!("../../fuzz/corpus/oci_state/whole.json");
    fs::write(state.path().join("one/state.json"), whole).expect("written");
    States::at(state.path().to_owned()).find("one").expect("it is read");
}

// A bundle's config.json, as far as it is read before anything is done. What is planned can be told to init.
rbox_fuzz::target!(config_json, Shape::Json, NONE, |input: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<Spec>(input) else { return };
    let _ = (Hooks::of(spec.hooks().as_ref()), oci::identity(&spec));
    if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
        cgroup::plan_of(resources, "max 100000\n");
        cgroup::plan_of(resources, "4096\n");
    }
    if let Ok(plan) = InitPlan::new(&spec) {
        let words = postcard::to_stdvec(&plan).expect("it can be written");
        let read: InitPlan = postcard::from_bytes(&words).expect("it can be read");
        assert_eq!(postcard::to_stdvec(&read).expect("it can be written"), words);
    }
});

// What an earlier invocation left behind, or somebody in its place.
rbox_fuzz::target!(oci_state, Shape::Json, NONE, {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(directory.path().join("one")).expect("mkdir");
    move |input: &[u8]| {
        fs::write(directory.path().join("one/state.json"), input).expect("written");
        if let Ok(container) = States::at(directory.path().to_owned()).find("one") {
            container.state();
            container.process();
        }
    }
});

// What init says to the launcher, and the other way round, from a peer that says anything.
rbox_fuzz::target!(
    console_messages,
    Shape::Bytes,
    [
        vec![Order::Go as u8],
        postcard::to_stdvec(&Report::Console).expect("bytes"),
        postcard::to_stdvec(&Report::Cloned(7)).expect("bytes"),
        postcard::to_stdvec(&Report::Tap { has_v6: true }).expect("bytes"),
        postcard::to_stdvec(&Report::Trace(vec![step(), step()])).expect("bytes"),
        postcard::to_stdvec(&Report::Failed(
            Failure::new("do it", &std::io::ErrorKind::NotFound.into()).hint("a hint").status(Exit::NOT_FOUND)
        ))
        .expect("bytes"),
    ],
    |input: &[u8]| {
        let (ours, theirs) = Channel::pair().expect("a pair");
        let null = fs::File::open("/dev/null").expect("open");
        for fds in [&[][..], &[null.as_fd(), null.as_fd()]] {
            // The longest are no message.
            if input.is_empty() || theirs.send(input, fds).is_err() || theirs.send(input, fds).is_err() {
                return;
            }
            let _ = Report::receive(&ours);
            let _ = Order::Hold.expect_with_fd(&ours);
        }
    }
);

fn step() -> Step {
    Step {
        process: "init".into(),
        name: "mount".into(),
        began: Duration::from_micros(1),
        ended: Duration::from_secs(2),
    }
}
