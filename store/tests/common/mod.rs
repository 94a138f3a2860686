//! Images made by hand, and this test binary as another process.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rbox_store::{Descriptor, ImageRecord, LayerRecord, Lease, Staged, Store};
use rbox_types::{ChainId, ContainerId, ContainerName, DiffId, Digest, Platform, Reference, chain_ids};

pub const MAP: &str = "00000000000000aa";

pub struct Image {
    pub record: ImageRecord,
    pub config: Digest,
    pub layer_blobs: Vec<Digest>,
    pub chains: Vec<ChainId>,
}

pub fn store(directory: &Path) -> Store {
    Store::open(directory.join("store")).expect("a fresh store")
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

pub fn reference(text: &str) -> Reference {
    text.parse().expect("valid reference")
}

pub fn container_id(byte: u8) -> ContainerId {
    ContainerId::from_random([byte; 32])
}

pub fn container_name(text: &str) -> ContainerName {
    text.parse().expect("valid name")
}

pub fn put_blob(lease: &Lease, bytes: &[u8]) -> Digest {
    let digest = sha256(bytes);
    if let Staged::New(staged) = lease.stage_blob(digest).expect("stage") {
        staged.file().write_all(bytes).expect("write");
        staged.commit().expect("commit");
    }
    digest
}

pub fn put_layer(lease: &Lease, chain: ChainId, diff_id: DiffId) {
    if let Staged::New(staged) = lease.stage_layer(MAP, chain).expect("stage") {
        std::fs::write(staged.fs().join("file"), "content").expect("write");
        staged.commit(&LayerRecord { diff_id, size: 7, ids: 1, left_out: Vec::new() }).expect("commit");
    }
}

/// Blobs, layers and the name of an image whose layers have these contents (empty tars as far as tools care).
pub fn put_image(lease: &Lease, name: &str, layers: &[&str]) -> Image {
    let image = put_unnamed(lease, name, layers);
    lease.name(&image.record).expect("name");
    image
}

pub fn put_unnamed(lease: &Lease, name: &str, layers: &[&str]) -> Image {
    let layer_blobs: Vec<Digest> = layers.iter().map(|layer| put_blob(lease, layer.as_bytes())).collect();
    let diff_ids: Vec<DiffId> = layer_blobs.iter().copied().map(DiffId).collect();
    let chains = chain_ids(&diff_ids);
    for (chain, diff_id) in chains.iter().zip(&diff_ids) {
        put_layer(lease, *chain, *diff_id);
    }
    let quoted: Vec<String> = diff_ids.iter().map(|id| format!("\"{id}\"")).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        quoted.join(",")
    );
    let config_digest = put_blob(lease, config.as_bytes());
    let descriptors: Vec<String> = layers
        .iter()
        .zip(&layer_blobs)
        .map(|(layer, digest)| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{}}}"#,
                layer.len()
            )
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{}]}}"#,
        config.len(),
        descriptors.join(",")
    );
    let digest = put_blob(lease, manifest.as_bytes());
    let record = ImageRecord {
        reference: reference(name),
        manifest: Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest,
            size: manifest.len() as u64,
        },
        index: None,
        platform: "linux/amd64".parse::<Platform>().expect("valid"),
        pulled_at: "2025-01-02T03:04:05Z".parse().expect("valid"),
    };
    Image { record, config: config_digest, layer_blobs, chains }
}

/// Everything below `directory`, relative to it, sorted.
pub fn tree(directory: &Path) -> Vec<String> {
    fn walk(base: &Path, directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).expect("list") {
            let path = entry.expect("entry").path();
            found.push(path.strip_prefix(base).expect("below").display().to_string());
            if path.is_dir() && !path.is_symlink() {
                walk(base, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

const ROLE: &str = "RBOX_STORE_TEST_ROLE";

/// The store that this process, started by [`Other::start`], shall work on.
pub fn role() -> Option<Store> {
    env::var_os(ROLE).map(|root| Store::open(Path::new(&root)).expect("open"))
}

/// Another process, which runs the test called `name` of this binary with [`role`] set, and speaks in lines.
pub struct Other {
    pub child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Other {
    pub fn start(name: &str, store: &Store) -> Self {
        let mut child = Command::new(env::current_exe().expect("own path"))
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, store.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    /// Waits until it has said a line that begins with `@`, and returns the rest of that line.
    pub fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).expect("read"), 0, "the other process has ended");
            // The test harness may have begun the line.
            if let Some((_, said)) = line.split_once('@') {
                return said.trim_end().to_owned();
            }
        }
    }

    pub fn tell(&mut self) {
        self.stdin.write_all(b"\n").expect("write");
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    pub fn end(mut self) {
        drop(self.stdin);
        assert!(self.child.wait().expect("wait").success());
    }
}

/// In the other process.
pub fn say(text: &str) {
    println!("@{text}");
}

/// In the other process: waits for [`Other::tell`] or its end.
pub fn wait() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("read");
}

pub fn remove_tree(path: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(path)
}
