//! A real registry on loopback: Debian's package docker-registry, one process for each test.
//!
//! Images are placed in its storage as it would have stored them itself after a push (distribution's
//! "filesystem" driver), the blobs as symbolic links into the layout they come from: to offer a large image costs
//! nothing. The registry checks nothing of what it finds there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::layout::{Descriptor, Layout};
use crate::{command, host, packages, tls};

/// docker-registry, where the machine has it; else it is unpacked: its package would start a service.
pub fn program() -> Result<PathBuf> {
    const NAME: &str = "docker-registry";
    if command::exists(NAME) {
        return Ok(NAME.into());
    }
    Ok(packages::unpacked(NAME)?.join("usr/bin").join(NAME))
}

/// A registry process; it ends when this is dropped, or with the thread that started it.
pub struct Registry {
    process: Child,
    address: String,
    dir: TempDir,
    authority: Option<PathBuf>,
}

impl Registry {
    /// Starts an empty registry that speaks plain HTTP on a free port of 127.0.0.1.
    pub fn start() -> Result<Self> {
        Self::start_with(0, false)
    }

    /// As [`Registry::start`], on a port that is known before; 0 is any.
    pub fn start_on(port: u16) -> Result<Self> {
        Self::start_with(port, false)
    }

    /// As [`Registry::start`], with HTTPS only, by a certificate of [`Registry::authority`].
    pub fn start_tls() -> Result<Self> {
        Self::start_with(0, true)
    }

    /// A registry that offers one image, by this name and tag.
    pub fn offering(layout: &Layout, tag: &str, name: &str) -> Result<Self> {
        let registry = Self::start()?;
        registry.place(layout, &layout.find(tag)?, name)?;
        Ok(registry)
    }

    fn start_with(port: u16, tls: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("registry.").tempdir_in(host::scratch_base())?;
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            dir.path().display()
        );
        let mut authority = None;
        if tls {
            let made = tls::certificates(dir.path())?;
            let (certificate, key) = (made.certificate.display(), made.key.display());
            config += &format!("  tls: {{certificate: '{certificate}', key: '{key}'}}\n");
            authority = Some(made.authority);
        }
        let config_file = dir.path().join("config.yml");
        fs::write(&config_file, config)?;

        // setpriv: the registry must not outlive a test that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program()?).arg("serve").arg(&config_file);
        command.env("OTEL_TRACES_EXPORTER", "none").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().context("cannot start docker-registry")?;
        let log = BufReader::new(process.stderr.take().context("stderr is piped")?);
        match listening_address(log) {
            Ok(address) => Ok(Self { process, address, dir, authority }),
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(error)
            }
        }
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `127.0.0.1:<port>/<name>`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The certificate of the authority that clients must trust, where the registry speaks HTTPS.
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// Offers an image or index of `layout` as `name`, `repository:tag`.
    pub fn place(&self, layout: &Layout, image: &Descriptor, name: &str) -> Result<()> {
        let (repository, tag) = name.rsplit_once(':').context("a name is repository:tag")?;
        self.place_manifest(layout, image, repository)?;
        let tag = self.repository(repository).join("_manifests/tags").join(tag);
        link(&tag.join("current"), &image.digest)?;
        link(&tag.join("index").join(image.digest.replace(':', "/")), &image.digest)
    }

    /// What is not in the registry's storage is not there for its clients: takes a blob away.
    pub fn remove_blob(&self, digest: &str) -> Result<()> {
        let path = self.blob(digest);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    fn place_manifest(&self, layout: &Layout, manifest: &Descriptor, repository: &str) -> Result<()> {
        self.place_blob(layout, &manifest.digest)?;
        let dir = self.repository(repository);
        link(&dir.join("_manifests/revisions").join(manifest.digest.replace(':', "/")), &manifest.digest)?;

        let value: Value = serde_json::from_slice(&layout.read(&manifest.digest)?)?;
        for child in descriptors(&value["manifests"]) {
            self.place_manifest(layout, &child, repository)?;
        }
        let config = Descriptor::from_json(&value["config"]);
        for blob in descriptors(&value["layers"]).chain(config) {
            self.place_blob(layout, &blob.digest)?;
            link(&dir.join("_layers").join(blob.digest.replace(':', "/")), &blob.digest)?;
        }
        Ok(())
    }

    fn place_blob(&self, layout: &Layout, digest: &str) -> Result<()> {
        let path = self.blob(digest);
        let target = fs::canonicalize(layout.blob_path(digest))?;
        fs::create_dir_all(path.parent().context("a blob is in a directory")?)?;
        match symlink(&target, &path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            result => result.with_context(|| format!("cannot make {}", path.display())),
        }
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.dir.path().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.dir.path().join("docker/registry/v2/repositories").join(name)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads the log up to the line that says where the registry listens; a thread reads on, or the pipe would fill.
fn listening_address(mut log: BufReader<std::process::ChildStderr>) -> Result<String> {
    let mut said = String::new();
    loop {
        let mut line = String::new();
        if log.read_line(&mut line)? == 0 {
            bail!("docker-registry ended before it listened:\n{said}");
        }
        if let Some((_, rest)) = line.split_once("listening on ") {
            let address = rest.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).next().unwrap_or_default();
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Ok(address.to_owned());
        }
        said += &line;
    }
}

/// The `link` files by which a repository says that it has a blob.
fn link(dir: &Path, digest: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    Ok(fs::write(dir.join("link"), digest)?)
}

fn descriptors(list: &Value) -> impl Iterator<Item = Descriptor> {
    list.as_array().into_iter().flatten().filter_map(Descriptor::from_json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::read;
    use crate::image::{Compression, Format, ImageBuilder, index};
    use crate::layer::Layer;
    use serde_json::json;

    #[test]
    fn skopeo_copies_what_is_offered() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let layout = Layout::create(&dir.path().join("from"))?;
        let layer = Layer::new().file("f", 0o644, "x");
        let image = ImageBuilder::new(&layout).format(Format::Docker).layer(&layer, Compression::Gzip)?.finish()?;
        let list = index(&layout, Format::Docker, &[(image, json!({ "architecture": "amd64", "os": "linux" }))])?;

        let registry = Registry::start()?;
        registry.place(&layout, &list, "library/x:1")?;
        let from = format!("docker://{}", registry.reference("library/x:1"));
        let to = format!("oci:{}:x", dir.path().join("to").display());
        read(Command::new("skopeo").args(["--insecure-policy", "copy", "--src-tls-verify=false", &from, &to]))?;
        Layout::open(&dir.path().join("to"))?.find("x")?;
        Ok(())
    }

    #[test]
    fn https_is_verified_against_the_authority() -> Result<()> {
        let registry = Registry::start_tls()?;
        let url = format!("https://{}/v2/", registry.address());
        let authority = registry.authority().context("an authority")?;
        read(Command::new("curl").args(["-sSf", "--cacert"]).arg(authority).arg(&url))?;
        assert!(read(Command::new("curl").args(["-sSf", &url])).is_err());
        Ok(())
    }

    #[test]
    fn it_ends_when_dropped() -> Result<()> {
        let registry = Registry::start()?;
        let process = PathBuf::from(format!("/proc/{}", registry.process.id()));
        assert!(process.exists());
        drop(registry);
        assert!(!process.exists());
        Ok(())
    }
}
