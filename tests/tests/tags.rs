//! `rbox tag`, `untag` and `history`: what an image is called, and what it was made by.

use anyhow::Result;
use rbox_tests::rbox::Rbox;
use serde_json::Value;

/// The names that images have, in the order of the alphabet.
#[track_caller]
fn names(rbox: &Rbox) -> Vec<String> {
    let said = rbox.run(["images", "--sort", "repository", "--format", "{{.Repository}}:{{.Tag}}"]).success();
    said.lines().map(str::to_owned).collect()
}

#[test]
fn an_image_has_more_names_and_fewer() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["tag", &image, "localhost/a:1", "localhost/b"]).success();
    let events = rbox.run(["events", "--no-stream", "--filter", "event=tag", "--format", "{{.Name}}"]).success();
    assert_eq!(events, "localhost/a:1\nlocalhost/b:latest\n");
    assert_eq!(names(&rbox), [image.as_str(), "localhost/a:1", "localhost/b:latest"]);
    let id = rbox.run(["images", "-q", "--no-trunc", "localhost/a"]).success();
    rbox.run(["image", "tag", id.trim(), "localhost/c"]).success();
    // Each is the same image, for whatever takes one.
    assert_eq!(rbox.run(["run", "--rm", "--pull=never", "localhost/b", "echo", "here"]).success(), "here\n");
    // One name less, of one that others have as well.
    assert_eq!(rbox.run(["rmi", &image]).success(), format!("Untagged: {image}\n"));
    rbox.run(["untag", "localhost/a:1", "localhost/b"]).success();
    assert_eq!(names(&rbox), ["localhost/a:1", "localhost/c:latest"]);
    rbox.run(["untag", "localhost/c"]).success();
    assert_eq!(names(&rbox), [""; 0]);
    Ok(())
}

#[test]
fn what_it_is_not_called_is_not_taken_away() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["tag", &image, "localhost/a"]).success();
    rbox.run(["untag", "localhost/a", "localhost/a", "localhost/b"]).refused(&["is not called localhost/b"]);
    assert_eq!(names(&rbox), [image.as_str(), "localhost/a:latest"], "nothing was done by half");
    for (words, expected) in [
        (&["tag", "localhost/nothing", "localhost/b"][..], "no image \"localhost/nothing\" is here"),
        (&["untag", "localhost/nothing"], "no image"),
        (&["tag", "localhost/a", "Not-A-Name"], "Not-A-Name"),
        (&["history", "localhost/nothing"], "no image"),
    ] {
        rbox.run(words).refused(&[expected]);
    }
    Ok(())
}

#[test]
fn history_is_the_last_step_first() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let id = rbox.run(["images", "-q", "--no-trunc"]).success();
    let steps: Value = serde_json::from_str(&rbox.run(["history", "--format", "json", &image]).success())?;
    let first = &steps[0];
    assert_eq!(first["id"].as_str().map(|hex| format!("sha256:{hex}\n")), Some(id.clone()), "{steps}");
    assert_eq!(first["tags"][0], image.as_str(), "{steps}");
    assert!(steps[0]["size"].as_u64().is_some_and(|size| size > 0), "{steps}");
    let quiet = rbox.run(["history", "-q", "--no-trunc", &image]).success();
    assert_eq!(quiet.lines().next(), Some(id.trim()));
    let table = rbox.run(["history", &image]).success();
    assert!(table.starts_with("IMAGE") && table.contains("CREATED BY"), "{table}");
    let bytes = rbox.run(["history", "--human=false", "--format", "{{.Size}}", &image]).success();
    assert_eq!(bytes.lines().next(), first["size"].as_u64().map(|size| size.to_string()).as_deref());
    Ok(())
}
