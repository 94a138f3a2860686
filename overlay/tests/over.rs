//! An archive that is no layer, over what is in a directory.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rbox_overlay::{Compression, Options, Packing, pack, unpack};

fn restored(from: &Path, to: &Path) {
    let mut bytes = Vec::new();
    let dir = File::open(from).expect("open");
    pack(dir.as_fd(), b".", b".", Packing { xattrs: true }, &mut bytes).expect("packed");
    let options = Options { single_id: true, over: true };
    unpack(&bytes[..], Compression::None, File::open(to).expect("open").as_fd(), options).expect("unpacked");
}

#[test]
fn what_is_packed_comes_back() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let [from, to] = ["from", "to"].map(|name| temporary.path().join(name));
    fs::create_dir_all(from.join("a/.wh.b")).expect("made");
    fs::create_dir(&to).expect("made");
    fs::write(from.join("a/.wh.file"), "no whiteout").expect("written");
    fs::hard_link(from.join("a/.wh.file"), from.join("b")).expect("linked");
    symlink("/etc", from.join("out")).expect("linked");
    fs::write(from.join("large"), vec![7; 300_000]).expect("written");
    fs::set_permissions(from.join("large"), fs::Permissions::from_mode(0o640)).expect("set");
    fs::set_permissions(&from, fs::Permissions::from_mode(0o1750)).expect("set");
    restored(&from, &to);
    assert_eq!(fs::read_to_string(to.join("a/.wh.file")).expect("read"), "no whiteout");
    let inode = |name: &str| fs::metadata(to.join(name)).expect("stat").ino();
    assert_eq!(inode("a/.wh.file"), inode("b"));
    assert!(to.join("a/.wh.b").is_dir());
    assert_eq!(fs::read_link(to.join("out")).expect("a link"), Path::new("/etc"));
    assert_eq!(fs::read(to.join("large")).expect("read").len(), 300_000);
    assert_eq!(fs::metadata(to.join("large")).expect("stat").mode() & 0o7777, 0o640);
    assert_eq!(fs::metadata(&to).expect("stat").mode() & 0o7777, 0o1750);
}

#[test]
fn what_is_there_stays_unless_it_is_replaced() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let [from, to] = ["from", "to"].map(|name| temporary.path().join(name));
    fs::create_dir_all(from.join("dir/new")).expect("made");
    fs::create_dir_all(to.join("dir/old")).expect("made");
    fs::write(from.join("dir/file"), "new").expect("written");
    fs::write(to.join("dir/file"), "old").expect("written");
    fs::write(to.join("dir/old/kept"), "kept").expect("written");
    restored(&from, &to);
    assert_eq!(fs::read_to_string(to.join("dir/file")).expect("read"), "new");
    assert!(to.join("dir/old/kept").exists() && to.join("dir/new").is_dir());
    // A link that is in the way of a directory is not followed.
    fs::remove_dir_all(to.join("dir")).expect("removed");
    fs::create_dir(temporary.path().join("elsewhere")).expect("made");
    symlink("../elsewhere", to.join("dir")).expect("linked");
    restored(&from, &to);
    assert!(to.join("dir").is_dir() && !temporary.path().join("elsewhere/file").exists());
}
